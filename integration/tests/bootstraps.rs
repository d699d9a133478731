//! Envoy itself accepts every bootstrap that the templates can make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;

use envoy_configs::{
    Admin, Api, Callee, Callers, EdgeTls, Host, Identity, Kind, Receipts, Route, Server, Settings, Shown,
    render, render_clusters,
};
use integration::envoy::{Envoy, validate};
use integration::mesh::{Pool, another, bootstrap};
use integration::ports;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{self, Options};
use integration::tools::Release;

fn settings(kind: Kind) -> Settings {
    let callee = match kind {
        Kind::Passthrough => Callee::ByServerName(vec![Route {
            name: "api.example.org".into(),
            hosts: vec![Host { host: "::1".into(), port: 1 }, Host { host: "localhost".into(), port: 2 }],
        }]),
        Kind::Egress => server(Shown::Nothing),
        _ => Callee::Workload("spiffe://example.org/api".parse().unwrap()),
    };
    Settings::new(kind, "example.org".parse().unwrap(), callee)
}

/// Envoy reads the roots, so they must be there: those of the machine.
fn server(shown: Shown) -> Callee {
    let roots = "/etc/ssl/certs/ca-certificates.crt".into();
    Callee::Server(Server { name: "api.example.com".into(), roots, shown })
}

fn check(text: &str) {
    let scratch = Scratch::new().unwrap();
    validate(Release::default(), scratch.path(), text).unwrap();
}

fn standing(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy-configs").join(name)).unwrap()
}

#[test]
fn the_standing_files_are_valid() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::OnDemand) {
        check(&standing(&format!("{}.yaml", kind.name())));
    }
    // Envoy looks for the file of clusters where the bootstrap says.
    for name in ["sidecar-ads", "on-demand"] {
        let scratch = Scratch::new().unwrap();
        let clusters = scratch.path().join("clusters.yaml");
        fs::write(&clusters, standing(&format!("{name}-clusters.yaml"))).unwrap();
        let text = standing(&format!("{name}.yaml"));
        let moved = text.replace("/etc/envoy/clusters.yaml", clusters.to_str().unwrap());
        assert_ne!(moved, text);
        validate(Release::default(), scratch.path(), &moved).unwrap();
    }
}

#[test]
fn every_choice_is_valid() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::OnDemand) {
        let mut chosen = settings(kind);
        chosen.api = Api::Sotw;
        chosen.identity = Identity::Named("spiffe://example.org/web".parse().unwrap());
        let listed = ["a", "b"].map(|name| format!("spiffe://example.org/{name}").parse().unwrap());
        chosen.callers = Callers::Listed(listed.into());
        chosen.admin = Admin::Unix("/tmp/countersign-never.sock".into());
        chosen.node_id = r#"a"b\c # {d}: 'e'"#.into();
        chosen.server_name = Some("api.example.org".into());
        check(&render(kind, &chosen).unwrap());
        chosen.callers = Callers::Entries;
        check(&render(kind, &chosen).unwrap());
    }
}

#[test]
fn every_callee_is_valid() {
    let members = [
        Callee::Workload("spiffe://partner.test/api".parse().unwrap()),
        Callee::Named("api.example.org".into()),
        Callee::Domain,
    ];
    for kind in [Kind::Sidecar, Kind::Permissive, Kind::Transparent, Kind::Gateway] {
        for callee in members.clone() {
            check(&render(kind, &Settings { callee, ..settings(kind) }).unwrap());
        }
    }
    for kind in [Kind::Sidecar, Kind::Permissive, Kind::Gateway, Kind::Egress] {
        for shown in [Shown::Nothing, Shown::Svid] {
            check(&render(kind, &Settings { callee: server(shown), ..settings(kind) }).unwrap());
        }
    }
}

#[test]
fn every_kind_is_valid_by_ads() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Passthrough) {
        let scratch = Scratch::new().unwrap();
        let clusters = scratch.path().join("clusters.yaml");
        let chosen = Settings { api: Api::Ads, clusters: clusters.clone(), ..settings(kind) };
        fs::write(&clusters, render_clusters(kind, &chosen).unwrap()).unwrap();
        validate(Release::default(), scratch.path(), &render(kind, &chosen).unwrap()).unwrap();
    }
}

/// The credential injector, where the page says that it is to be put.
#[test]
fn what_the_docs_put_into_a_bootstrap_is_valid() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/workload-api.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, shown) = page.split_once("```yaml\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let text = standing("sidecar.yaml");
    let (before, outbound) = text.split_once("- name: outbound\n").unwrap();
    let (head, filters) = outbound.split_once("http_filters:\n").unwrap();
    let indent = " ".repeat(10);
    let shown: String = shown.lines().map(|line| format!("{indent}{line}\n")).collect();
    assert!(filters.starts_with(&format!("{indent}- name: envoy.filters.http.router")));
    check(&format!("{before}- name: outbound\n{head}http_filters:\n{shown}{filters}"));
}

#[test]
fn the_harness_own_change_is_valid() {
    check(&bootstrap(&settings(Kind::Sidecar), Pool::HandshakeEach).unwrap());
}

#[test]
fn an_edge_with_a_certificate_is_valid() {
    let scratch = Scratch::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["edge.example.org".to_owned()]).unwrap();
    let (chain_file, key_file) = (scratch.path().join("chain.pem"), scratch.path().join("key.pem"));
    fs::write(&chain_file, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let mut chosen = settings(Kind::Gateway);
    chosen.edge_tls = Some(EdgeTls::Files { certificate_chain: chain_file, private_key: key_file });
    validate(Release::default(), scratch.path(), &render(Kind::Gateway, &chosen).unwrap()).unwrap();
    chosen.clusters = scratch.path().join("clusters.yaml");
    for api in [Api::Delta, Api::Sotw, Api::Ads] {
        chosen.api = api;
        chosen.edge_tls = Some(EdgeTls::Named("shop.example.org".into()));
        if api == Api::Ads {
            fs::write(&chosen.clusters, render_clusters(Kind::Gateway, &chosen).unwrap()).unwrap();
        }
        validate(Release::default(), scratch.path(), &render(Kind::Gateway, &chosen).unwrap()).unwrap();
    }
}

/// What a bootstrap of that kind needs on the oldest release.
fn on_the_oldest(kind: Kind, api: Api) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let clusters = scratch.path().join("clusters.yaml");
    let chosen = Settings { api, clusters: clusters.clone(), receipts: Receipts::Never, ..settings(kind) };
    if api == Api::Ads {
        fs::write(&clusters, render_clusters(kind, &chosen)?)?;
    }
    validate(Release::V1_36, scratch.path(), &render(kind, &chosen)?)
}

#[test]
fn every_kind_but_on_demand_is_valid_on_the_oldest_release_without_receipts() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::OnDemand) {
        let by_ads: &[Api] = if kind == Kind::Passthrough { &[] } else { &[Api::Ads] };
        for api in [Api::Delta, Api::Sotw].iter().chain(by_ads) {
            on_the_oldest(kind, *api).unwrap();
        }
    }
    // What it lacks, in its own words.
    let refused = on_the_oldest(Kind::OnDemand, Api::Ads).unwrap_err().to_string();
    assert!(refused.contains("on_demand_secret.v3.Config"), "{refused}");
    let scratch = Scratch::new().unwrap();
    let whole = render(Kind::Sidecar, &settings(Kind::Sidecar)).unwrap();
    let refused = validate(Release::V1_36, scratch.path(), &whole).unwrap_err().to_string();
    assert!(refused.contains("SinkConfig.DropAction"), "{refused}");
}

/// Each becomes live with the secrets that it asks for, and refuses none.
async fn run(release: Release, kind: Kind) {
    let scratch = Scratch::new().unwrap();
    let seat = Seats::here().take_for(release, &scratch, 0).unwrap();
    let server = server::Server::start(&scratch, "server", &Options::default()).await.unwrap();
    server.add_entry("spiffe://example.org/any", &[&seat.selector]).unwrap();
    let port = || ports::free().unwrap();
    let chosen = Settings {
        socket: server.socket(),
        admin: Admin::Unix(Envoy::admin_socket(&scratch, "any")),
        inbound: port(),
        outbound: port(),
        edge: port(),
        health: port(),
        app: port(),
        clusters: scratch.path().join("clusters.yaml"),
        receipts: if release == Release::V1_36 { Receipts::Never } else { settings(kind).receipts },
        ..settings(kind)
    };
    let envoy = another(&scratch, "any", &seat, (kind, &chosen)).await.unwrap();
    let stats = envoy.stats().await.unwrap();
    assert_eq!(stats.sum("sds.", ".update_rejected"), 0, "{kind:?}");
    let came = stats.each("sds.", ".update_success");
    assert!(came.iter().all(|updates| *updates > 0), "{kind:?}: {came:?}");
    assert_eq!(came.is_empty(), kind == Kind::Passthrough, "{kind:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_runs_on_each_release_that_has_what_it_needs() {
    for release in Release::ALL {
        for kind in Kind::ALL {
            if (release, kind) != (Release::V1_36, Kind::OnDemand) {
                run(release, kind).await;
            }
        }
    }
}

/// With `BLESS=1` they are written anew, as with the standing files.
#[test]
fn those_of_docker_compose_are_rendered_and_valid() {
    let web = Callee::Named("api.example.org".into());
    let api = Callee::Workload("spiffe://example.org/web".parse().unwrap());
    for (service, callee, host) in [("web", web, "api-envoy"), ("api", api, "web-envoy")] {
        let mut chosen = Settings::new(Kind::Sidecar, "example.org".parse().unwrap(), callee);
        chosen.node_id = service.into();
        chosen.service = service.into();
        chosen.callers = Callers::Entries;
        chosen.upstreams = vec![Host { host: host.into(), port: 15006 }];
        let rendered = render(Kind::Sidecar, &chosen).unwrap();
        let name = format!("compose/{service}-envoy.yaml");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &rendered).unwrap();
        }
        assert!(fs::read_to_string(&file).unwrap() == rendered, "{name} differs: BLESS=1 cargo test");
        check(&rendered);
    }
}
