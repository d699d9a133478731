//! A client and a server built with the `spiffe-rustls` crate, as it is on crates.io: mutual TLS by what our Workload
//! API gives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use integration::poll;
use integration::scratch::Scratch;
use integration::server::{Options, Server};
use rustls_pki_types::ServerName;
use spiffe::X509Source;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Past every wait here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "spiffe://example.org/web";

async fn source(server: &Server) -> X509Source {
    let endpoint = format!("unix:{}", server.socket().display());
    let building = X509Source::builder().endpoint(&endpoint).build();
    tokio::time::timeout(PATIENCE, building).await.expect("an SVID in time").unwrap()
}

/// Calls, and gives the leaf that each side was shown: the server's word of the client's comes over the connection.
async fn call(to: SocketAddr, config: &Arc<rustls::ClientConfig>) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let name = ServerName::try_from("web.test").unwrap();
    let stream = TcpStream::connect(to).await?;
    let mut stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    let servers = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut clients = Vec::new();
    stream.read_to_end(&mut clients).await?;
    Ok((servers, clients))
}

#[tokio::test(flavor = "multi_thread")]
async fn spiffe_rustls_speaks_mutual_tls_through_renewals_on_both_sides() {
    let scratch = Scratch::new().unwrap();
    let options = Options { leaf_lifetime: Some("8s".into()), renew_at: Some(0.1), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let ours = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    server.add_entry(WEB, &[&ours]).unwrap();

    let web = || authorizer::exact([WEB]).unwrap();
    let accepting = mtls_server(source(&server).await).authorize(web()).build().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(accepting));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A caller that it refuses is the caller's to tell of.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let _ = stream.write_all(&shown).await;
            let _ = stream.shutdown().await;
        }
    });

    let calling = Arc::new(mtls_client(source(&server).await).authorize(web()).build().unwrap());
    // Between an SVID and the next one's conversion the crate may turn a handshake away: it says so in its manual.
    let answered = async || call(address, &calling).await.ok();
    let first = poll::until("the two speak", PATIENCE, answered).await.unwrap();
    let both_renewed = async || {
        let (servers, clients) = call(address, &calling).await.ok()?;
        (servers != first.0 && clients != first.1).then_some(())
    };
    poll::until("both show new SVIDs", PATIENCE, both_renewed).await.unwrap();

    let stranger = authorizer::exact(["spiffe://example.org/other"]).unwrap();
    let refusing = Arc::new(mtls_client(source(&server).await).authorize(stranger).build().unwrap());
    assert!(call(address, &refusing).await.is_err(), "another's SPIFFE ID is asked for");
}
