//! A server with entries of this process and of others, and with three partners, one of them declared by its bundle
//! document.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use integration::ca::Ca;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};
use prost::Message;
use tonic::Status;

use super::trusted::{Roots, Trusted, Validator, roots};

pub(super) const WEB: &str = "spiffe://example.org/web";
pub(super) const FRONT: &str = "spiffe://partner.test/front";
const API: &str = "spiffe://example.org/api";
const CLOSED: &str = "spiffe://example.org/closed";

pub(super) struct World {
    pub(super) server: Server,
    /// By trust domain, our own among them.
    pub(super) roots: BTreeMap<&'static str, Roots>,
    _scratch: Scratch,
}

/// The document of a trust domain, whichever form its bundle has.
pub(super) fn declared(domain: &str, bundle: &str) -> String {
    let bundle = bundle.replace('\r', "").replace('\n', "\n  ");
    format!("kind: TrustDomain\ntrust_domain: {domain}\nbundle: |\n  {bundle}\n")
}

/// The PEM of so many roots with that name.
pub(super) fn partner(name: &str, count: usize) -> String {
    (0..count).map(|n| Ca::new(&format!("{name} {n}"), None).unwrap().pem()).collect()
}

fn document(root: &[u8]) -> String {
    let key = serde_json::json!({ "kty": "EC", "use": "x509-svid", "x5c": [BASE64.encode(root)] });
    serde_json::json!({ "keys": [key], "spiffe_sequence": 1 }).to_string()
}

fn entry(path: &str, selector: &str, name: &str, peers: &[&str]) -> String {
    let peers = peers.join(", ");
    format!(
        "---\nkind: Workload\nspiffe_id: spiffe://example.org/{path}\nselectors: ['{selector}']\ndns_names: [{name}]\npeers: [{peers}]\n"
    )
}

impl World {
    pub(super) async fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
        // The names of `many` are more than a handshake has room for.
        let [two, one, many] = [partner("p", 2), partner("q", 1), partner(&"x".repeat(600), 110)];
        let [two_roots, one_root, many_roots] = [&two, &one, &many].map(|pem| roots(pem.as_bytes()));
        let bundles = [("partner.test", two), ("json.test", document(&one_root[0])), ("many.test", many)];
        for (domain, bundle) in bundles {
            server.write_documents(domain, &declared(domain, &bundle)).unwrap();
        }

        let (me, other) = (Seats::here().own_selector().unwrap(), "unix:uid:3999999999");
        let entries = [
            entry("api", &me, "api.example.org", &[WEB, FRONT]),
            entry("batch", &me, "", &[WEB]),
            entry("closed", &me, "", &[]),
            entry("db-1", other, "db.example.org", &[API]),
            entry("db-2", other, "db.example.org", &[WEB, CLOSED]),
            entry("db-3", other, "db.example.org", &[WEB]),
        ];
        server.write_documents("entries", &entries.concat()).unwrap();
        let own = roots(&server.cli(&["bundle"]).unwrap().stdout);
        let roots = [
            ("example.org", own),
            ("json.test", one_root),
            ("many.test", many_roots),
            ("partner.test", two_roots),
        ];
        let world = Self { server, roots: roots.into(), _scratch: scratch };
        // One file may have been taken in before another.
        let bundles = world.roots.keys().map(|domain| format!("spiffe://{domain}"));
        let names: Vec<_> = bundles.chain(["upstream:db.example.org".to_owned()]).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let served = async || world.ask(&names).await.is_ok_and(|(_, found)| found.len() == names.len());
        poll::holds("served", Duration::from_secs(10), served).await.unwrap();
        world
    }

    /// By gRPC: the version, and the secrets.
    pub(super) async fn ask(&self, names: &[&str]) -> Result<(String, Vec<Secret>), Status> {
        let channel = sds::connect(&self.server.socket()).await.unwrap();
        let resource_names = names.iter().map(ToString::to_string).collect();
        let request = DiscoveryRequest { resource_names, ..DiscoveryRequest::default() };
        let response = SecretDiscoveryServiceClient::new(channel).fetch_secrets(request).await?.into_inner();
        let secrets = response.resources.iter().map(|any| Secret::decode(&*any.value).unwrap());
        Ok((response.version_info, secrets.collect()))
    }

    /// What the one secret of that name says.
    pub(super) async fn trusted(&self, name: &str) -> Trusted {
        let (_, mut secrets) = self.ask(&[name]).await.unwrap();
        assert_eq!((secrets.len(), secrets[0].name.as_str()), (1, name));
        Trusted::of(secrets.remove(0))
    }

    /// Envoy's own validator with the roots of `domain`.
    pub(super) fn under(&self, domain: &str) -> Validator {
        Validator::Default(self.roots[domain].clone())
    }

    /// The SPIFFE validator with `domains`, each under its own roots.
    pub(super) fn by(&self, domains: &[&str]) -> Validator {
        Validator::Spiffe(domains.iter().map(|one| ((*one).to_owned(), self.roots[*one].clone())).collect())
    }
}
