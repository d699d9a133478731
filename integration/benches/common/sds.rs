//! A client of SDS and of the Workload API on h2 itself, which spends as little as it can: the machine is the server's.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tokio::net::UnixStream;

pub const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Nobody serves this: the server answers at once that it does not.
pub const NOTHING: &str = "/bench.Nothing/Nothing";

/// Answers that are on their way to one connection must not wait for the windows.
const CONNECTION_WINDOW: u32 = 64 << 20;

const DELTA_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
const WORKLOAD_API: &str = "/SpiffeWorkloadAPI/";

/// What a stream asks for.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A secret, state of the world.
    Secret(String),
    /// Secrets, each in a message of its own, incrementally.
    Delta(Vec<String>),
    /// Of the Workload API: `FetchX509SVID` and the like. Nothing is acknowledged there.
    Workload(&'static str),
}

impl From<&str> for Ask {
    fn from(name: &str) -> Self {
        Self::Secret(name.to_owned())
    }
}

impl Ask {
    fn path(&self) -> String {
        match self {
            Self::Secret(_) => STREAM_SECRETS.to_owned(),
            Self::Delta(_) => DELTA_SECRETS.to_owned(),
            Self::Workload(method) => format!("{WORKLOAD_API}{method}"),
        }
    }

    fn first(&self) -> Bytes {
        match self {
            Self::Secret(name) => first(name),
            Self::Delta(names) => frame(&DeltaDiscoveryRequest {
                node: Some(Node { id: "bench".into(), ..Node::default() }),
                type_url: SECRET.into(),
                resource_names_subscribe: names.clone(),
                ..DeltaDiscoveryRequest::default()
            }),
            Self::Workload(_) => frame(&()),
        }
    }

    /// Messages that come at first.
    pub fn at_first(&self) -> usize {
        if let Self::Delta(names) = self { names.len() } else { 1 }
    }

    /// The acknowledgement of `message`, if there is such a thing.
    pub fn ack(&self, message: &Bytes) -> Option<Bytes> {
        match self {
            Self::Secret(name) => Some(ack(name, &decode(message))),
            Self::Delta(_) => {
                let response = DeltaDiscoveryResponse::decode(message.slice(5..)).unwrap();
                let (type_url, response_nonce) = (SECRET.into(), response.nonce);
                Some(frame(&DeltaDiscoveryRequest {
                    type_url,
                    response_nonce,
                    ..DeltaDiscoveryRequest::default()
                }))
            }
            Self::Workload(_) => None,
        }
    }
}

/// One connection. Streams are opened on it one after the other.
#[derive(Clone)]
pub struct Connection(SendRequest<Bytes>);

/// One stream. The answer's headers may come before its first message, or with it.
pub struct Stream {
    name: String,
    send: SendStream<Bytes>,
    answer: Answer,
    unread: BytesMut,
}

enum Answer {
    Headers(ResponseFuture),
    Body(RecvStream),
}

impl Connection {
    /// Connects; waits while the server's backlog is full, as every client must.
    pub async fn open(socket: &Path) -> Self {
        let stream = loop {
            match UnixStream::connect(socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                stream => break stream.unwrap(),
            }
        };
        let (send, connection) = h2::client::Builder::new()
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(64 << 10)
            .handshake(stream)
            .await
            .unwrap();
        tokio::spawn(async move { connection.await.ok() });
        Self(send)
    }

    async fn call(&self, path: &str, message: Bytes, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("workload.spiffe.io", "true") // SDS does not look at it
            .body(())
            .unwrap();
        let mut ready = self.0.clone().ready().await.unwrap();
        let (answer, mut send) = ready.send_request(request, false).unwrap();
        send.send_data(message, end).unwrap();
        (answer, send)
    }

    /// The emptiest call there is: answered with `grpc-status: 12` and nothing else.
    pub async fn call_nothing(&self) {
        let (answer, _send) = self.call(NOTHING, frame(&()), true).await;
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers().get("grpc-status").map(|s| s.as_bytes()), Some(&b"12"[..]), "{answer:?}");
    }

    /// Subscribes to the secret `name`.
    pub async fn subscribe(&self, name: &str) -> Stream {
        self.ask(&name.into()).await
    }

    /// Opens a stream.
    pub async fn ask(&self, ask: &Ask) -> Stream {
        let has_one_request = matches!(ask, Ask::Workload(_));
        let (answer, send) = self.call(&ask.path(), ask.first(), has_one_request).await;
        Stream { name: format!("{ask:?}"), send, answer: Answer::Headers(answer), unread: BytesMut::new() }
    }
}

impl Stream {
    /// The next message, which must come within a minute, with its five octets of gRPC framing.
    pub async fn next(&mut self) -> Bytes {
        let within = tokio::time::timeout(Duration::from_secs(60), self.read()).await;
        within.unwrap_or_else(|_| panic!("no secret {} came within a minute", self.name))
    }

    /// The same, however long it takes.
    pub async fn read(&mut self) -> Bytes {
        loop {
            if let Some((head, _)) = self.unread.split_first_chunk::<5>() {
                let whole = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.unread.len() >= whole {
                    let message = self.unread.split_to(whole).freeze();
                    if self.unread.is_empty() {
                        self.unread = BytesMut::new(); // do not keep what the message is in
                    }
                    return message;
                }
            }
            match &mut self.answer {
                Answer::Headers(answer) => {
                    let answer = answer.await.unwrap();
                    assert!(answer.headers().get("grpc-status").is_none(), "refused: {answer:?}");
                    self.answer = Answer::Body(answer.into_body());
                }
                Answer::Body(body) => {
                    let Some(data) = body.data().await else {
                        panic!("stream of {} ended: {:?}", self.name, body.trailers().await);
                    };
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    self.unread.extend_from_slice(&data);
                }
            }
        }
    }

    /// Sends the acknowledgement that [`ack`] made.
    pub fn send(&mut self, ack: Bytes) {
        self.send.send_data(ack, false).unwrap();
    }
}

/// The first request for the secret `name`.
pub fn first(name: &str) -> Bytes {
    request(name, |first| {
        first.node = Some(Node { id: "bench".into(), cluster: "bench".into(), ..Node::default() });
    })
}

/// What a message says.
pub fn decode(message: &Bytes) -> DiscoveryResponse {
    DiscoveryResponse::decode(message.slice(5..)).unwrap()
}

/// The acknowledgement of `response`, as Envoy writes it when it sends its Node once.
pub fn ack(name: &str, response: &DiscoveryResponse) -> Bytes {
    request(name, |ack| {
        ack.version_info.clone_from(&response.version_info);
        ack.response_nonce.clone_from(&response.nonce);
    })
}

fn request(name: &str, fill: impl FnOnce(&mut DiscoveryRequest)) -> Bytes {
    let mut request = DiscoveryRequest {
        resource_names: vec![name.into()],
        type_url: SECRET.into(),
        ..DiscoveryRequest::default()
    };
    fill(&mut request);
    frame(&request)
}

fn frame(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.encoded_len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut out).unwrap();
    out.freeze()
}
