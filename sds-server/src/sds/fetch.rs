//! One question, one answer: FetchSecrets by gRPC, and the same as JSON by REST for Envoys that poll.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{ContentHash, Version, WorkloadUpdate};
use spiffe_bridge::node::{EndReason, Node, Session, SessionState};
use tonic::Status;

use super::frame::Frame as Piece;
use super::limits::Limits;
use super::names::MAX_NAME_BYTES;
use super::partial::Place;
use super::proxy::{Proxies, Proxy, look_up_for};
use super::request::{Names, Refusal};
use super::secret::{Lookup, Resource, TYPE_URL};
use super::service::GRPC;
use super::stream::{of_end, of_frame};
use super::wire::{CONTENT_FIELD, put_len, put_str};
use super::{frame, rest, sotw};
use crate::runtime::BoxError;

mod tokens;

/// From the first byte of the question to its answer. A first SVID takes milliseconds to be signed.
const DEADLINE: Duration = Duration::from_secs(10);

/// How the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `FetchSecrets`
    Grpc,
    /// `POST /v3/discovery:secrets`
    Rest,
}

/// A body that is there as a whole.
#[derive(Debug, Default)]
pub struct Whole(VecDeque<Frame<Piece>>);

impl Body for Whole {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

impl Whole {
    /// A gRPC message of `parts`, and that it went well.
    pub(crate) fn grpc(parts: impl IntoIterator<Item = Bytes>) -> Response<Self> {
        let mut frames: VecDeque<_> = parts.into_iter().map(Piece::whole).map(Frame::data).collect();
        let status = (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        frames.push_back(Frame::trailers(HeaderMap::from_iter([status])));
        let mut response = Response::new(Self(frames));
        response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        response
    }
}

/// What was asked, of either form.
pub(super) struct Question {
    pub(super) names: Vec<String>,
    /// The version that the client has; REST is told when it is still the current one.
    pub(super) version: String,
    pub(super) type_url: String,
}

/// What an answer takes beside the question.
pub(super) struct Around {
    pub(super) limits: Limits,
    pub(super) proxies: Proxies,
    pub(super) tokens: Option<Node>,
    pub(super) now: Timestamp,
}

/// Answers one request.
pub(super) async fn answer<B>(
    form: Form,
    body: B,
    session: Session,
    place: Place,
    around: Around,
) -> Response<Whole>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let answered = tokio::time::timeout(DEADLINE, ask(form, body, session, place, &around)).await;
    let late = || Err(Status::deadline_exceeded("the first SVID is still being signed: ask again"));
    match (answered.unwrap_or_else(|_| late()), form) {
        (Ok(response), _) => response,
        (Err(status), Form::Grpc) => status.into_http(),
        (Err(status), Form::Rest) => rest::refuse(&status),
    }
}

async fn ask<B>(
    form: Form,
    body: B,
    session: Session,
    place: Place,
    around: &Around,
) -> Result<Response<Whole>, Status>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let Around { limits, proxies, tokens, now } = around;
    let bytes = read(body, place).await?;
    let question = match form {
        Form::Grpc => of_grpc(bytes, limits)?,
        Form::Rest => rest::question(&bytes)?,
    };
    if !question.type_url.is_empty() && question.type_url != TYPE_URL {
        return Err(Status::invalid_argument(Refusal::TypeUrl.to_string())); // XD-02
    }
    if question.names.len() > limits.names {
        return Err(Status::resource_exhausted(Refusal::TooManyNames { max: limits.names }.to_string()));
    }
    let update = served(&session).await.map_err(of_end)?;
    let (update, missing) = tokens::added(update, &question.names, &session, tokens.as_ref()).await;
    // It took a while: the caller may be another by now.
    session.verify().map_err(of_end)?;
    let proxy = proxies.of(&session);
    let found = find(&update, question.names, proxy.as_deref(), *now);
    let Some(version) = version(&found) else {
        // "Not yours" and "no such name" are one answer (invariant 7).
        let none = || Status::not_found("no secret of these names is available to this caller");
        return Err(missing.map_or_else(none, |refused| Status::unavailable(refused.to_string())));
    };
    if let Some(proxy) = proxy {
        proxy.fetched(&found, &update, *now);
    }
    Ok(match form {
        Form::Grpc => grpc(&version, &found),
        Form::Rest if question.version == version => rest::unchanged(),
        Form::Rest => rest::response(&version, &found)?,
    })
}

/// All of a body, no longer than there is room for: the length that it stated, or the longest.
pub(crate) async fn read<B>(body: B, place: Place) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let longest = place.bytes();
    let too_long = |_| Status::resource_exhausted(format!("a request of more than {longest} bytes"));
    let room = longest + frame::HEADER_BYTES;
    Ok(Box::pin(Limited::new(body, room).collect()).await.map_err(too_long)?.to_bytes())
}

/// What the session's caller may have, once it is known.
pub(crate) async fn served(session: &Session) -> Result<Arc<WorkloadUpdate>, EndReason> {
    let is_known = |state: &SessionState| !matches!(state, SessionState::ExpectAttestation);
    match session.follow().wait_for(is_known).await {
        SessionState::Serving(update) => Ok(update),
        SessionState::Ended(reason) => Err(reason),
        SessionState::ExpectAttestation => Err(EndReason::Draining),
    }
}

/// The one message of a unary request.
pub(crate) fn only_message(bytes: Bytes, max: usize) -> Result<Bytes, Status> {
    let mut reader = frame::Reader::default();
    reader.push(bytes);
    let message = reader.next(max).map_err(of_frame)?;
    let whole = message.filter(|_| !reader.is_within_message());
    whole.ok_or_else(|| Status::invalid_argument("one message is expected, and all of it"))
}

fn of_grpc(bytes: Bytes, limits: &Limits) -> Result<Question, Status> {
    let request = sotw::decode(only_message(bytes, limits.message_bytes)?);
    let request = request.map_err(|e| Status::invalid_argument(e.to_string()))?;
    let Names::All(names) = request.names else {
        return Err(Status::invalid_argument("a DiscoveryRequest is expected"));
    };
    Ok(Question { names, version: String::new(), type_url: request.type_url })
}

/// What there is of `names` for this client, each once, in their order.
fn find(
    update: &WorkloadUpdate,
    mut names: Vec<String>,
    proxy: Option<&Proxy>,
    now: Timestamp,
) -> Vec<Arc<Resource>> {
    names.retain(|name| name.len() <= MAX_NAME_BYTES);
    names.sort_unstable();
    names.dedup(); // XD-18
    let found = names.iter().filter_map(|name| match look_up_for(proxy, update, name, now) {
        Lookup::Available(resource) => Some(resource),
        Lookup::NotAvailable | Lookup::Withheld(_) => None,
    });
    found.collect()
}

/// Of one secret its own; of several the newest revision and a hash of all.
fn version(found: &[Arc<Resource>]) -> Option<String> {
    let newest = found.iter().map(|resource| resource.version().revision).max()?;
    if let [one] = found {
        return Some(one.version_text().to_owned());
    }
    let texts: Vec<&[u8]> = found.iter().map(|resource| resource.version_text().as_bytes()).collect();
    Some(Version { revision: newest, hash: ContentHash::of(&texts) }.to_string())
}

fn grpc(version: &str, found: &[Arc<Resource>]) -> Response<Whole> {
    let mut head = BytesMut::with_capacity(256);
    frame::begin(&mut head);
    put_str(1, version, &mut head);
    put_str(4, TYPE_URL, &mut head);
    let length = |any: &Bytes| {
        let mut buf = BytesMut::new();
        put_len(CONTENT_FIELD, any.len(), &mut buf);
        buf.freeze()
    };
    // The contents are shared with every stream: nothing of a key is copied here.
    let parts: Vec<Bytes> =
        found.iter().flat_map(|one| [length(one.expose_any()), one.expose_any().clone()]).collect();
    let more: usize = parts.iter().map(Bytes::len).sum();
    let head = frame::end_with(head, more).freeze();
    Whole::grpc(std::iter::once(head).chain(parts))
}

/// A response with one piece of JSON, or none.
pub(super) fn json(code: StatusCode, content: Option<Bytes>) -> Response<Whole> {
    let mut response = Response::new(Whole(content.into_iter().map(Piece::whole).map(Frame::data).collect()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
