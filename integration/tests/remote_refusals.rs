//! Who is not let in at the door to the network, who is put out again, and how its handshakes go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use integration::ca::Ca;
use integration::remote::{Door, client, connect, shake};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::stranger::Credential;
use integration::{poll, sds};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_stream::StreamExt as _;

const SOON: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(3600);
const EDGE: &str = "spiffe://ops.test/edge";
const ID: &str = "spiffe://example.org/edge";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Fixture {
    server: Server,
    door: Door,
    _scratch: Scratch,
}

/// A server with a door, and an entry for whoever has the operator's certificate for the edge.
async fn start(more: &str) -> Fixture {
    let scratch = Scratch::new().unwrap();
    let door = Door::new(&scratch).unwrap();
    let options = Options { more: door.config(more), ..Options::default() };
    let server = Server::start(&scratch, "server", &options).await.unwrap();
    let entry = format!("kind: Workload\nspiffe_id: {ID}\nremote: true\nselectors: ['x509:uri:{EDGE}']\n");
    server.write_documents("edge", &entry).unwrap();
    let fixture = Fixture { server, door, _scratch: scratch };
    let edge = fixture.edge();
    poll::holds("the edge is served", SOON, async || fixture.served(&edge).await).await.unwrap();
    fixture
}

impl Fixture {
    fn edge(&self) -> Credential {
        self.door.operator.issue(EDGE, HOUR).unwrap()
    }

    async fn served(&self, credential: &Credential) -> bool {
        let Ok(channel) = connect(self.door.address, credential).await else { return false };
        sds::svid_over(channel, ID).await.is_ok()
    }
}

/// Whether the server speaks HTTP/2 with a client of `config`; if not, why not.
async fn speaks(to: SocketAddr, config: ClientConfig) -> Result<(), String> {
    let attempt = async {
        let mut stream = shake(to, config).await.map_err(|error| format!("{error:#}"))?;
        stream.write_all(PREFACE).await.map_err(|error| error.to_string())?;
        match stream.read(&mut [0; 64]).await {
            Ok(0) => Err("closed".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    };
    tokio::time::timeout(SOON, attempt).await.expect("an answer, or the end")
}

async fn refused(to: SocketAddr, config: ClientConfig, why: &str) {
    let error = speaks(to, config).await.expect_err(why);
    assert!(error.contains(why), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_certificate_of_the_named_ca_opens_the_door() {
    let fixture = start("").await;
    let (door, to) = (&fixture.door, fixture.door.address);
    speaks(to, client(Some(&fixture.edge())).unwrap()).await.unwrap();

    refused(to, client(None).unwrap(), "CertificateRequired").await;
    // Of a CA that nobody named, and of one that goes by the same name.
    for (name, why) in [("stranger", "UnknownCA"), ("operator", "DecryptError")] {
        let stranger = Ca::new(name, None).unwrap().issue(EDGE, HOUR).unwrap();
        refused(to, client(Some(&stranger)).unwrap(), why).await;
    }
    let past = SystemTime::now() - Duration::from_secs(5);
    let expired = door.operator.issue_until(EDGE, past).unwrap();
    refused(to, client(Some(&expired)).unwrap(), "CertificateExpired").await;

    let (edge, provider) = (fixture.edge(), Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(edge.chain.clone(), edge.key.clone_key())
        .unwrap();
    old.alpn_protocols = vec![b"h2".to_vec()];
    refused(to, old, "ProtocolVersion").await;
    let mut other = client(Some(&edge)).unwrap();
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    refused(to, other.clone(), "NoApplicationProtocol").await;
    other.alpn_protocols.clear();
    refused(to, other, "closed").await;

    // In clear: all that may come is an alert.
    let mut clear = TcpStream::connect(to).await.unwrap();
    clear.write_all(PREFACE).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, clear.read_to_end(&mut answer)).await.expect("the end");
    assert!(answer.is_empty() || (answer[0] == 21 && answer.len() == 7), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_of_our_own_does_not_open_the_door() {
    let mut fixture = start("").await;
    let me = Seats::here().own_selector().unwrap();
    fixture.server.add_entry("spiffe://example.org/me", &[&me]).unwrap();
    let socket = fixture.server.socket();
    let mine =
        poll::until("this process has an SVID", SOON, async || sds::svid(&socket, "default").await.ok());
    let mine = mine.await.unwrap();
    refused(fixture.door.address, client(Some(&mine)).unwrap(), "UnknownCA").await;

    // Nor can the operator make it: neither while it runs nor at its start.
    let root = String::from_utf8(fixture.server.cli(&["bundle"]).unwrap().stdout).unwrap();
    fixture.door.write(&format!("{}{root}", fixture.door.operator.pem())).unwrap();
    let told = async || {
        let status = fixture.server.cli(&["status"]).unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        status.status.code() == Some(1) && text.contains("renew it here for ever")
    };
    poll::holds("status tells of it", SOON, told).await.unwrap();
    refused(fixture.door.address, client(Some(&mine)).unwrap(), "UnknownCA").await;
    assert!(fixture.served(&fixture.edge()).await, "the CAs of before stay");

    fixture.server.stop().await.unwrap();
    let error = fixture.server.restart().await.unwrap_err();
    assert!(format!("{error:#}").contains("certificate 2 in it is a CA of this server's own"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_post_quantum() {
    let fixture = start("").await;
    let stream = shake(fixture.door.address, client(Some(&fixture.edge())).unwrap()).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full), "no second round");
}

/// Counts the tickets that come.
#[derive(Debug)]
struct Tickets(ClientSessionMemoryCache, Mutex<usize>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.1.lock().unwrap() += 1;
        self.0.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

/// A server of the same name that gives tickets, as rustls does by itself.
async fn generous(ca: &Ca) -> SocketAddr {
    let credential = ca.issue(EDGE, HOUR).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(credential.chain, credential.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            tokio::spawn(async move { stream.read(&mut [0; 64]).await });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_is_given_and_none_is_taken() {
    let fixture = start("").await;
    let store = Arc::new(Tickets(ClientSessionMemoryCache::new(8), Mutex::new(0)));
    let mut config = client(Some(&fixture.edge())).unwrap();
    config.resumption = Resumption::store(store.clone());
    speaks(fixture.door.address, config.clone()).await.unwrap();
    assert_eq!(*store.1.lock().unwrap(), 0, "none came with the first answer");

    let generous = generous(&fixture.door.operator).await;
    speaks(generous, config.clone()).await.unwrap();
    assert!(*store.1.lock().unwrap() > 0, "this client keeps tickets");
    let kind = |stream: &tokio_rustls::client::TlsStream<TcpStream>| stream.get_ref().1.handshake_kind();
    let resumed = shake(generous, config.clone()).await.unwrap();
    assert_eq!(kind(&resumed), Some(HandshakeKind::Resumed), "and shows them");
    assert!(store.0.take_tls13_ticket(&ServerName::try_from("countersign.test").unwrap()).is_some());
    let full = shake(fixture.door.address, config).await.unwrap();
    assert_eq!(kind(&full), Some(HandshakeKind::Full));
}

/// Opens a stream, waits for its first answer, and then for its end: the status.
async fn stream_until_its_end(
    fixture: &Fixture,
    credential: &Credential,
    meanwhile: impl AsyncFnOnce(),
) -> tonic::Code {
    let channel = connect(fixture.door.address, credential).await.unwrap();
    let mut sds = SecretDiscoveryServiceClient::new(channel);
    let request = DiscoveryRequest {
        resource_names: vec![ID.into()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".into(),
        ..DiscoveryRequest::default()
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = sds.stream_secrets(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().expect("the first secret");
    meanwhile().await;
    loop {
        match tokio::time::timeout(SOON, answers.message()).await.expect("its end comes") {
            Ok(Some(_)) => {}
            Ok(None) => return tonic::Code::Ok,
            Err(status) => return status.code(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_cas_cuts_the_connection() {
    let fixture = start("").await;
    let edge = fixture.edge();
    let new = Ca::new("new operator", None).unwrap();
    let young = new.issue(EDGE, HOUR).unwrap();
    let code = stream_until_its_end(&fixture, &edge, async || {
        // A file that cannot be used changes nothing, and is told.
        fixture.door.write("-----BEGIN CERTIFICATE-----\nhalf").unwrap();
        let told = async || fixture.server.cli(&["status"]).unwrap().status.code() == Some(1);
        poll::holds("status tells of the file", SOON, told).await.unwrap();
        assert!(fixture.served(&edge).await);
        fixture.door.trust(&[&fixture.door.operator, &new]).unwrap();
        poll::holds("the new CA's are let in", SOON, async || fixture.served(&young).await).await.unwrap();
        assert!(fixture.served(&edge).await, "both are trusted");
        fixture.door.trust(&[&new]).unwrap();
    });
    assert_eq!(code.await, tonic::Code::PermissionDenied);
    assert!(!fixture.served(&edge).await && fixture.served(&young).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_cuts_its_connection() {
    let fixture = start("").await;
    let brief = fixture.door.operator.issue(EDGE, Duration::from_secs(4)).unwrap();
    let code = stream_until_its_end(&fixture, &brief, async || {}).await;
    assert_eq!(code, tonic::Code::PermissionDenied);
    refused(fixture.door.address, client(Some(&brief)).unwrap(), "CertificateExpired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_keep_nobody_out() {
    let fixture = start(", handshakes: 8, handshake: 2s, connections_per_address: 6").await;
    let to = fixture.door.address;
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(TcpStream::connect(to).await.unwrap());
    }
    // Two of eight places are one address's: the others are closed at once, and these two in time.
    let closed = async |mut stream: TcpStream| match stream.read(&mut [0; 64]).await {
        Ok(0) | Err(_) => {}
        Ok(more) => panic!("{more} bytes to one who said nothing"),
    };
    for stream in idle.drain(2..) {
        tokio::time::timeout(SOON, closed(stream)).await.expect("closed");
    }
    let edge = fixture.edge();
    let from_elsewhere = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let stream = socket.connect(to).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client(Some(&edge)).unwrap()));
        let mut stream =
            connector.connect(ServerName::try_from("countersign.test").unwrap(), stream).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0, "served as if they were not there");
    };
    from_elsewhere().await;
    for stream in idle {
        tokio::time::timeout(SOON, closed(stream)).await.expect("closed in time");
    }
    assert!(fixture.served(&edge).await, "and this address is served again");

    // Done with their handshakes they count as connections: six from here, others elsewhere.
    let mut held = Vec::new();
    let full = async || match shake(to, client(Some(&edge)).unwrap()).await {
        Ok(mut stream) => {
            let spoke = stream.write_all(PREFACE).await.is_ok()
                && stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0);
            held.push(stream);
            !spoke
        }
        Err(_) => true,
    };
    poll::holds("this address has all that it may", SOON, full).await.unwrap();
    from_elsewhere().await;
    let metrics = fixture.server.cli(&["status", "-o", "json"]).unwrap();
    assert!(metrics.status.success(), "{}", String::from_utf8_lossy(&metrics.stdout));
}

/// Whoever was accepted just before a server leaves is told to go elsewhere, and counts no connection that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_under_way_when_the_server_leaves_comes_to_its_end() {
    let mut fixture = start("").await;
    let config = Arc::new(client(Some(&fixture.edge())).unwrap());
    let pause = || tokio::time::sleep(Duration::from_millis(100));
    let stream = TcpStream::connect(fixture.door.address).await.unwrap();
    pause().await; // it is accepted
    let shaken = async {
        pause().await; // the drain has begun
        let name = ServerName::try_from("countersign.test").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
        stream.write_all(PREFACE).await?;
        stream.read(&mut [0; 64]).await
    };
    let (stopped, greeting) = tokio::join!(fixture.server.stop(), shaken);
    stopped.unwrap();
    assert!(greeting.unwrap() > 0);
}
