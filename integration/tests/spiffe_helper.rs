//! The tool `spiffe-helper`, as it is: it writes SVIDs, bundles and tokens of our Workload API into files, and follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use integration::process::Process;
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use integration::{poll, tools};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::identity::{Revision, TrustBundle, TrustDomain};
use spiffe_bridge::x509::verify::{Role, verify};

const PATIENCE: Duration = Duration::from_secs(30);
const WEB: &str = "spiffe://example.org/web";

fn certificates(path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).ok()?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().ok().filter(|all: &Vec<_>| !all.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn spiffe_helper_writes_what_a_program_needs_and_follows_renewals() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/spiffe-helper");
    let package = "github.com/spiffe/spiffe-helper/cmd/spiffe-helper";
    let program = tools::go_tool("spiffe-helper", &source, package).unwrap();
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();

    let files = scratch.dir("files", None).unwrap();
    let config = scratch.path().join("helper.conf");
    let text = format!(
        "agent_address = \"{}\"\ncert_dir = \"{}\"\nsvid_file_name = \"svid.pem\"\nsvid_key_file_name = \"svid.key\"\n\
         svid_bundle_file_name = \"roots.pem\"\njwt_bundle_file_name = \"keys.json\"\n\
         jwt_svids = [{{jwt_audience = \"reports\", jwt_svid_file_name = \"reports.token\"}}]\n",
        server.socket().display(),
        files.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-config").arg(&config);
    let mut helper =
        Process::spawn("spiffe-helper", command, None, &scratch.path().join("helper.log")).unwrap();

    // The three files come one after the other: what is read belongs together once it verifies and the key fits.
    let domain = TrustDomain::new("example.org").unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let written = || {
        let chain = certificates(&files.join("svid.pem"))?;
        let bundle = TrustBundle::new(domain.clone(), certificates(&files.join("roots.pem"))?, Revision(1));
        let id = verify(&chain, [&bundle], Role::Server, Clock::system().now()).ok()?;
        let key = PrivateKeyDer::from_pem_file(files.join("svid.key")).ok()?;
        let leaf = chain[0].clone();
        CertifiedKey::from_der(chain, key, &provider).and_then(|held| held.keys_match()).ok()?;
        Some((id.to_string(), leaf))
    };
    let (id, first) =
        poll::until("it has written an SVID with its key", PATIENCE, async || written()).await.unwrap();
    assert_eq!(id, WEB);
    // The tool's own form: the JWK Sets by trust domain, in base64.
    let token = async || {
        let token = fs::read_to_string(files.join("reports.token")).ok()?;
        let header = BASE64URL_NOPAD.decode(token.split('.').next()?.as_bytes()).ok()?;
        let header: Value = serde_json::from_slice(&header).ok()?;
        let sets: Value = serde_json::from_slice(&fs::read(files.join("keys.json")).ok()?).ok()?;
        let set = BASE64.decode(sets["example.org"].as_str()?.as_bytes()).ok()?;
        let set: Value = serde_json::from_slice(&set).ok()?;
        set["keys"].as_array()?.iter().any(|key| key["kid"] == header["kid"]).then_some(())
    };
    poll::until("a token and the keys that verify it", PATIENCE, token).await.unwrap();
    let renewed = async || written().filter(|(_, leaf)| *leaf != first);
    let (id, _) = poll::until("it has written the next SVID with its key", PATIENCE, renewed).await.unwrap();
    assert_eq!(id, WEB);
    helper.alive().unwrap();
}
