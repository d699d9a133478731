//! The files that operators copy are the templates with the defaults, and no setting can break out of its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use envoy_configs::{
    Admin, Api, Callee, Callers, EdgeTls, Families, Host, Identity, KeyKind, Kind, NOBODY, Receipts, Remote,
    RenderError, Route, Server, Settings, Shown, render, render_clusters,
};

fn callee(id: &str) -> Callee {
    Callee::Workload(id.parse().unwrap())
}

fn listed(ids: &[&str]) -> Callers {
    Callers::Listed(ids.iter().map(|id| id.parse().unwrap()).collect())
}

fn route(name: &str, port: u16) -> Route {
    Route { name: name.into(), hosts: vec![Host { host: "127.0.0.1".into(), port }] }
}

fn server(shown: Shown) -> Callee {
    let roots = "/etc/ssl/certs/ca-certificates.crt".into();
    Callee::Server(Server { name: "api.example.com".into(), roots, shown })
}

fn settings(kind: Kind) -> Settings {
    let callee = match kind {
        Kind::Passthrough => {
            Callee::ByServerName(vec![route("api.example.org", 15006), route("db.example.org", 15106)])
        }
        Kind::Egress => server(Shown::Nothing),
        Kind::Transparent => Callee::Domain,
        _ => callee("spiffe://example.org/api"),
    };
    Settings::new(kind, "example.org".parse().unwrap(), callee)
}

/// With `BLESS=1` the standing file is written anew, to be looked at and committed.
fn stands(name: &str, rendered: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, rendered).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == rendered, "{name} differs: BLESS=1 cargo test -p envoy-configs");
}

#[test]
fn the_standing_files_are_the_templates_with_the_defaults() {
    for kind in Kind::ALL {
        stands(&format!("{}.yaml", kind.name()), &render(kind, &settings(kind)).unwrap());
    }
    let on_demand = settings(Kind::OnDemand);
    stands("on-demand-clusters.yaml", &render_clusters(Kind::OnDemand, &on_demand).unwrap());
    let mut ads = settings(Kind::Sidecar);
    ads.api = Api::Ads;
    stands("sidecar-ads.yaml", &render(Kind::Sidecar, &ads).unwrap());
    stands("sidecar-ads-clusters.yaml", &render_clusters(Kind::Sidecar, &ads).unwrap());
}

#[test]
fn every_choice_shows_in_the_bootstrap() {
    let mut chosen = settings(Kind::Sidecar);
    chosen.identity = Identity::Named("spiffe://example.org/web".parse().unwrap());
    chosen.api = Api::Sotw;
    chosen.admin = Admin::Unix("/run/web/admin.sock".into());
    chosen.upstreams =
        vec![Host { host: "::1".into(), port: 1 }, Host { host: "api.example.org".into(), port: 2 }];
    chosen.callee = callee("spiffe://partner.test/api");
    chosen.receipts = Receipts::Every(std::time::Duration::from_millis(2500));
    let silent = Settings { receipts: Receipts::Never, ..chosen.clone() };
    assert!(!render(Kind::Sidecar, &silent).unwrap().contains("stats_sinks"));
    chosen.callers = listed(&["spiffe://example.org/a", "spiffe://example.org/b"]);
    chosen.keys = vec![KeyKind::Ed25519, KeyKind::EcP256];
    let text = render(Kind::Sidecar, &chosen).unwrap();
    for expected in [
        "name: \"spiffe://example.org/web\"",
        "api_type: GRPC\n",
        "pipe: { path: \"/run/web/admin.sock\", mode: 384 }",
        "address: \"::1\", port_value: 1 }",
        "address: \"api.example.org\", port_value: 2 }",
        "name: \"spiffe://partner.test\", sds_config: *sds",
        "stats_flush_interval: 2.500s ",
        "TLSv1_3, signature_algorithms: [ed25519, ecdsa_secp256r1_sha256] }",
        "- { san_type: URI, matcher: { exact: \"spiffe://example.org/a\" } }",
        "- { san_type: URI, matcher: { exact: \"spiffe://example.org/b\" } }",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(!text.contains("prefix: \"spiffe://"), "a prefix would undo the exact peers");
    assert_eq!(text.matches("signature_algorithms").count(), 2, "as a server and as a client");
}

#[test]
fn over_the_network_both_sides_show_a_certificate() {
    let mut chosen = settings(Kind::Sidecar);
    let host = Host { host: "sds.example.org".into(), port: 8443 };
    let [certificate_chain, private_key, roots] = ["/c.pem", "/k.pem", "/r.pem"].map(Into::into);
    chosen.remote = Some(Remote { host, certificate_chain, private_key, roots });
    let text = render(Kind::Sidecar, &chosen).unwrap();
    let (_, cluster) = text.split_once("- name: sds\n").unwrap();
    for expected in [
        "type: STRICT_DNS",
        "sni: \"sds.example.org\"",
        "max_session_keys: 0",
        "tls_minimum_protocol_version: TLSv1_3",
        "ecdh_curves: [X25519MLKEM768, X25519]",
        "certificate_chain: { filename: \"/c.pem\" }",
        "trusted_ca: { filename: \"/r.pem\" }",
        "exact: \"spiffe://example.org/countersign/server\"",
        "address: \"sds.example.org\", port_value: 8443",
    ] {
        assert!(cluster.contains(expected), "{expected} in\n{cluster}");
    }
    assert!(!text.contains("pipe:"));
    chosen.remote.as_mut().unwrap().host.host = "::1".into();
    let text = render(Kind::Sidecar, &chosen).unwrap();
    assert!(text.contains("address: \"::1\", port_value: 8443") && !text.contains("sni:"), "{text}");
    chosen.remote.as_mut().unwrap().host.host = "a b".into();
    assert!(matches!(render(Kind::Sidecar, &chosen), Err(RenderError::Unusable { field: "remote", .. })));
}

#[test]
fn what_the_entries_say_goes_with_a_floor_that_matches_nobody() {
    let mut chosen = settings(Kind::Sidecar);
    chosen.callers = Callers::Entries;
    chosen.callee = Callee::Named("api.example.org".into());
    let text = render(Kind::Sidecar, &chosen).unwrap();
    let floor = format!("- {{ san_type: URI, matcher: {{ exact: {NOBODY:?} }} }}");
    assert_eq!(text.matches(&floor).count(), 2, "{text}");
    assert_eq!(text.matches("san_type").count(), 2, "another floor would let its own kind in");
    assert!(
        text.contains("name: \"peers\", sds_config: *sds")
            && text.contains("name: \"upstream:api.example.org\"")
    );
}

#[test]
fn with_ads_no_cluster_that_gets_secrets_is_static() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Passthrough) {
        let mut ads = settings(kind);
        if kind != Kind::OnDemand {
            assert_eq!(render_clusters(kind, &ads), Err(RenderError::NoClusters));
        }
        ads.api = Api::Ads;
        let text = render(kind, &ads).unwrap();
        let (_, clusters) = text.split_once("  clusters:\n").unwrap();
        let (clusters, _) = clusters.split_once("dynamic_resources:").unwrap();
        assert!(!clusters.contains("sds_config"), "Envoy 1.40 would crash:\n{text}");
        assert!(render_clusters(kind, &ads).unwrap().contains("name: upstream"));
    }
}

#[test]
fn what_goes_out_of_the_mesh_tells_nobody_who_called() {
    let text = render(Kind::Egress, &settings(Kind::Egress)).unwrap();
    assert!(
        !text.contains("SANITIZE_SET") && !text.contains("value: \"%DOWNSTREAM_PEER_URI_SAN%\""),
        "{text}"
    );
    assert!(text.contains("tls_minimum_protocol_version: TLSv1_2"), "not every server speaks 1.3");
    assert_eq!(text.matches("tls_certificate_sds_secret_configs").count(), 1, "the listener's own");
    let mut shown = settings(Kind::Egress);
    shown.callee = server(Shown::Svid);
    let text = render(Kind::Egress, &shown).unwrap();
    assert_eq!(text.matches("tls_certificate_sds_secret_configs").count(), 2);
    assert!(!text.contains("TLSv1_2"), "a certificate of ours would be read on the way");
}

#[test]
fn a_transparent_sidecar_listens_on_both_families_unless_told_otherwise() {
    let mut chosen = settings(Kind::Transparent);
    let check = |chosen: &Settings, second| {
        let text = render(Kind::Transparent, chosen).unwrap();
        assert_eq!(text.matches("additional_addresses").count(), second, "{text}");
    };
    check(&chosen, 3);
    chosen.families = Families::Ipv4;
    check(&chosen, 0);
}

#[test]
fn secrets_on_demand_come_by_ads_and_without_resumption() {
    let mut chosen = settings(Kind::OnDemand);
    chosen.prefetch = vec!["api.example.org".into()];
    let text = render(Kind::OnDemand, &chosen).unwrap();
    assert!(text.contains("prefetch_secret_names: [\"api.example.org\"]"), "{text}");
    assert!(text.contains("disable_stateless_session_resumption: true"));
    assert!(text.contains("disable_stateful_session_resumption: true"));
    assert!(text.contains("factory_key: envoy.hashable_string"), "else all calls share one identity");
    for api in [Api::Delta, Api::Sotw] {
        let other = Settings { api, ..chosen.clone() };
        assert_eq!(render(Kind::OnDemand, &other), Err(RenderError::OnDemandWithoutAds));
    }
    chosen.prefetch = vec!["API".into()];
    assert!(matches!(render(Kind::OnDemand, &chosen), Err(RenderError::Unusable { field: "prefetch", .. })));
}

#[test]
fn kinds_and_callees_that_do_not_go_together_are_refused() {
    let pairs = [
        (Kind::Passthrough, callee("spiffe://example.org/api")),
        (Kind::Sidecar, Callee::ByServerName(vec![route("a.example.org", 1)])),
        (Kind::Egress, Callee::Domain),
        (Kind::Transparent, server(Shown::Nothing)),
    ];
    for (kind, callee) in pairs {
        let mut chosen = settings(kind);
        chosen.callee = callee;
        assert!(matches!(render(kind, &chosen), Err(RenderError::NotOfKind { .. })), "{kind:?}");
    }
    let passthrough = |routes| {
        let mut chosen = settings(Kind::Passthrough);
        chosen.callee = Callee::ByServerName(routes);
        render(Kind::Passthrough, &chosen)
    };
    assert_eq!(passthrough(vec![]), Err(RenderError::NoUpstream));
    for unusable in [vec![route("A.example.org", 1)], vec![route("a", 1), route("a", 2)]] {
        assert!(matches!(passthrough(unusable), Err(RenderError::Unusable { field: "callee", .. })));
    }
}

fn check(change: impl FnOnce(&mut Settings)) -> Result<String, RenderError> {
    let mut changed = settings(Kind::Gateway);
    change(&mut changed);
    render(Kind::Gateway, &changed)
}

fn refused(field: &str, change: impl FnOnce(&mut Settings)) {
    match check(change) {
        Err(RenderError::Unusable { field: named, .. }) => assert_eq!(named, field),
        other => panic!("{field}: {other:?}"),
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    refused("node_id", |s| s.node_id = "a\nadmin: {}".into());
    refused("service", |s| s.service = String::new());
    refused("socket", |s| s.socket = "relative.sock".into());
    refused("socket", |s| s.socket = format!("/{}", "x".repeat(107)).into());
    refused("upstreams", |s| s.upstreams[0].host = "a, port_value: 1".into());
    refused("callee", |s| s.callee = callee("spiffe://example.org"));
    refused("callee", |s| s.callee = Callee::Named("a b".into()));
    refused("connection_age", |s| s.connection_age = std::time::Duration::ZERO);
    refused("receipts", |s| s.receipts = Receipts::Every(std::time::Duration::from_millis(99)));
    refused("receipts", |s| s.receipts = Receipts::Every(std::time::Duration::from_micros(100_500)));
    refused("edge_certificate", |s| {
        s.edge_tls = Some(EdgeTls::Files { certificate_chain: "/a\nb".into(), private_key: "/k".into() });
    });
    refused("edge_name", |s| s.edge_tls = Some(EdgeTls::Named("Shop.example.org".into())));
    assert_eq!(check(|s| s.upstreams.clear()), Err(RenderError::NoUpstream));
    let foreign = check(|s| s.callers = listed(&["spiffe://other.test/web"]));
    assert!(matches!(foreign, Err(RenderError::ForeignPeer { .. })));
}

#[test]
fn what_needs_no_certificate_listens_on_loopback_only() {
    let everywhere = "0.0.0.0:443".parse().unwrap();
    let in_clear = |field| Err(RenderError::InClear { field, address: everywhere });
    assert_eq!(check(|s| s.edge = everywhere), in_clear("edge"));
    check(|s| s.edge = "[::1]:443".parse().unwrap()).unwrap();
    let named = |s: &mut Settings| s.edge_tls = Some(EdgeTls::Named("shop.example.org".into()));
    check(|s| (s.edge = everywhere, named(s)).1).unwrap();
    for kind in [Kind::Sidecar, Kind::Permissive, Kind::Transparent, Kind::Egress] {
        let chosen = Settings { outbound: everywhere, ..settings(kind) };
        assert_eq!(render(kind, &chosen), in_clear("outbound"), "{kind:?}");
    }
}

#[test]
fn a_name_stays_inside_its_quotes() {
    let text = check(|s| s.node_id = r#"a", cluster: "b\"#.into()).unwrap();
    assert!(text.contains(r#"id: "a\", cluster: \"b\\""#), "{text}");
}
