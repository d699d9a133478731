//! A server with a socket for brokers, a broker, and workloads.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use integration::process::Process;
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::stranger::Credential;
use integration::{poll, remote, sds};
use prost::Message;
use prost_types::Any;
use rustls_pki_types::ServerName;
use sds_server::proto::broker::{
    SubscribeToX509svidRequest, SubscribeToX509svidResponse, WorkloadPidReference, WorkloadReference,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codec::Streaming;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

pub(crate) const SOON: Duration = Duration::from_secs(15);
pub(crate) const BROKER: &str = "spiffe://example.org/broker";
pub(crate) const WEB: &str = "spiffe://example.org/web";
pub(crate) const URL: &str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";

pub(crate) struct Node {
    pub(crate) scratch: Scratch,
    pub(crate) server: Server,
    pub(crate) socket: PathBuf,
}

impl Node {
    /// A server that answers this test as a broker, and an entry for `sleep`.
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        Self::start_among(options, &[], "").await
    }

    /// The same with `others` among the brokers, and `more` keys of their section of the configuration.
    pub(crate) async fn start_among(mut options: Options, others: &[&str], more: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let socket = scratch.dir("broker", None).unwrap().join("broker.sock");
        let allow = [&[BROKER], others].concat().join(", ");
        options.more += &format!("broker: {{socket: {}, allow: [{allow}]{more}}}\n", socket.display());
        let server = Server::start(&scratch, "server", &options).await.unwrap();
        let node = Self { scratch, server, socket };
        node.give("broker", BROKER, &own()).await;
        node.give("web", WEB, &selector("sleep")).await;
        node
    }

    /// Gives `id` to whoever has `selector`, by the entry file `name`, and waits until the server has read it.
    pub(crate) async fn give(&self, name: &str, id: &str, selector: &str) {
        let text = format!("kind: Workload\nspiffe_id: {id}\nselectors: ['{selector}']\n");
        self.server.write_documents(name, &text).unwrap();
        self.listed(id, true).await;
    }

    /// Waits until the server has an entry for `id`, or has none.
    pub(crate) async fn listed(&self, id: &str, is_there: bool) {
        let listed = async || {
            let listed = self.server.cli(&["entries", "-o", "json"]).unwrap();
            String::from_utf8(listed.stdout).unwrap().contains(&format!("\"{id}\"")) == is_there
        };
        poll::holds(&format!("the entries give {id}: {is_there}"), SOON, listed).await.unwrap();
    }

    /// The SVID of this test under `id`.
    pub(crate) async fn svid(&self, id: &str) -> Credential {
        sds::svid(&self.server.socket(), id).await.unwrap()
    }

    /// A channel of the broker that this test is.
    pub(crate) async fn broker(&self) -> Channel {
        self.channel(&self.svid(BROKER).await).await
    }

    /// A channel of whoever has `credential`.
    pub(crate) async fn channel(&self, credential: &Credential) -> Channel {
        channel(&self.socket, credential).await.unwrap()
    }

    /// A workload that lives until it is dropped: `sleep`, unless another program is named.
    pub(crate) fn workload(&self) -> Process {
        self.run(Command::new("sleep"), &["600"])
    }

    pub(crate) fn run(&self, mut program: Command, arguments: &[&str]) -> Process {
        program.args(arguments);
        Process::spawn("workload", program, None, &self.scratch.path().join("workload.log")).unwrap()
    }
}

/// A process that becomes another workload when it is told to: it reads its input first. It lives until it is dropped.
pub(crate) struct Turning(Child);

impl Turning {
    pub(crate) fn spawn(mut program: Command) -> Self {
        Self(program.stdin(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its input ends: now.
    pub(crate) fn turn(&mut self) {
        drop(self.0.stdin.take());
    }

    /// Waits until its program is `name`.
    pub(crate) async fn runs(&self, name: &str) {
        let executable = || std::fs::read_link(format!("/proc/{}/exe", self.id())).unwrap();
        poll::holds("it runs the program", SOON, async || executable().ends_with(name)).await.unwrap();
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What this very test is selected by, and no workload of it.
pub(crate) fn own() -> String {
    Seats::Programs.own_selector().unwrap()
}

/// What a program of the system is selected by.
pub(crate) fn selector(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.exists());
    format!("unix:path:{}", found.unwrap().canonicalize().unwrap().display())
}

/// A channel to the socket for brokers, of whoever has `credential`.
pub(crate) async fn channel(
    socket: &Path,
    credential: &Credential,
) -> Result<Channel, tonic::transport::Error> {
    let (socket, config) = (socket.to_path_buf(), remote::client(Some(credential)).unwrap());
    let dial = service_fn(move |_| {
        let (socket, config) = (socket.clone(), config.clone());
        async move {
            let stream = sds::dialled(&socket).await?;
            shake(stream, config).await.map(TokioIo::new).map_err(std::io::Error::other)
        }
    });
    Endpoint::from_static("http://broker").connect_with_connector(dial).await
}

/// A TLS connection as the client sees it: in TLS 1.3 that is before the server has looked at its certificate.
pub(crate) async fn shake<S>(stream: S, config: rustls::ClientConfig) -> std::io::Result<TlsStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = ServerName::try_from("countersign.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

pub(crate) fn by_pid(pid: u32) -> Option<WorkloadReference> {
    raw(URL, WorkloadPidReference { pid: i32::try_from(pid).unwrap() }.encode_to_vec())
}

pub(crate) fn raw(type_url: &str, value: Vec<u8>) -> Option<WorkloadReference> {
    Some(WorkloadReference { reference: Some(Any { type_url: type_url.to_owned(), value }) })
}

/// A stream of `method`, with these values of the security header.
pub(crate) async fn stream_with<Q, A>(
    channel: &Channel,
    method: &str,
    question: Q,
    header: &[&str],
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/spiffe.broker.API/{method}").parse().unwrap();
    let mut request = tonic::Request::new(question);
    for value in header {
        request.metadata_mut().append("broker.spiffe.io", AsciiMetadataValue::try_from(*value).unwrap());
    }
    Ok(client.server_streaming(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
}

/// A stream of `method`, with the security header.
pub(crate) async fn stream<Q, A>(channel: &Channel, method: &str, question: Q) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    stream_with(channel, method, question, &["true"]).await
}

/// The first answer of `method`, or how it ended: a call with one answer looks the same.
pub(crate) async fn ask<Q, A>(channel: &Channel, method: &str, question: Q) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    next(&mut stream(channel, method, question).await?).await
}

/// The next message of a stream, or how it ended.
pub(crate) async fn next<A>(stream: &mut Streaming<A>) -> Result<A, Status> {
    let next = tokio::time::timeout(SOON, stream.message()).await.expect("a message in time");
    next?.ok_or_else(|| Status::new(Code::Ok, "the stream ended"))
}

/// The SVIDs of a process.
pub(crate) async fn svids(channel: &Channel, pid: u32) -> Result<SubscribeToX509svidResponse, Status> {
    ask(channel, "SubscribeToX509SVID", SubscribeToX509svidRequest { reference: by_pid(pid) }).await
}

/// A stream of the SVIDs of a process, whose first message has come.
pub(crate) async fn followed(channel: &Channel, pid: u32) -> Streaming<SubscribeToX509svidResponse> {
    let mut stream = svid_stream(channel, pid).await.unwrap();
    next(&mut stream).await.unwrap();
    stream
}

/// A stream of the SVIDs of a process.
pub(crate) async fn svid_stream(
    channel: &Channel,
    pid: u32,
) -> Result<Streaming<SubscribeToX509svidResponse>, Status> {
    stream(channel, "SubscribeToX509SVID", SubscribeToX509svidRequest { reference: by_pid(pid) }).await
}

pub(crate) fn ids(response: &SubscribeToX509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// The reason in the details of a status, and the domain that it is of.
pub(crate) fn reason(status: &Status) -> Option<(String, String)> {
    let details = Detail::decode(status.details()).unwrap();
    assert!(details.code == 0 || details.code == status.code() as i32);
    let info = details.details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    let info = Info::decode(&*info.value).unwrap();
    Some((info.reason, info.domain))
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// The modes of a file's owner, group and others.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
