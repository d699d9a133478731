//! A stream of the Workload API: everything at once, then everything again whenever it changed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, header};
use http_body::{Body, Frame as BodyFrame};
use spiffe_bridge::identity::{ContentHash, WorkloadUpdate};
use spiffe_bridge::node::{Caller, EndReason, Follower, Interest, Session, SessionState, Want};
use tonic::Status;

use super::feeds::{Feeds, OpenFeed};
use super::manner::Manner;
use super::message::Message;
use super::method::Stream;
use super::metrics::{Open, RefusedFor, sent};
use super::{jwt, wit, x509};
use crate::runtime::Readiness;
use crate::sds::frame::Frame;
use crate::sds::partial::Place;
use crate::sds::{GRPC, trailers};

/// The body of a response: empty, or a live stream.
#[derive(Default)]
pub struct Feed(Option<Box<Live>>);

struct Live {
    manner: &'static Manner,
    method: Stream,
    /// The one identity that is asked for; empty for all.
    only: String,
    session: Follower,
    /// Who asks, if that is another than whose it is.
    broker: Option<Follower>,
    last: Option<ContentHash>,
    listed: Arc<OpenFeed>,
    readiness: Readiness,
    caller: Arc<Caller>,
    _interest: Option<Interest>,
    _open: Open,
    _place: Place,
}

/// What a stream is to tell, and of whom.
pub(crate) struct Opening<'o> {
    pub(crate) manner: &'static Manner,
    pub(crate) method: Stream,
    /// The one identity that is asked for; empty for all.
    pub(crate) only: String,
    pub(crate) session: &'o Session,
    /// Who asks, if that is another than whose it is: the stream ends with either.
    pub(crate) broker: Option<&'o Session>,
    pub(crate) readiness: Readiness,
    pub(crate) feeds: &'o Feeds,
    pub(crate) place: Place,
}

impl Opening<'_> {
    /// The response that tells it.
    pub(crate) fn respond(self) -> Response<Feed> {
        let Self { manner, method, only, session, broker, readiness, feeds, place } = self;
        let interest = (method == Stream::WitSvids).then(|| {
            let mut interest = session.interest();
            interest.set(BTreeSet::from([Want::Wit]));
            interest
        });
        let feed = Feed(Some(Box::new(Live {
            manner,
            method,
            only,
            _interest: interest,
            session: session.follow(),
            broker: broker.map(Session::follow),
            last: None,
            listed: feeds.open(manner, method, session, broker),
            readiness,
            caller: session.caller().clone(),
            _open: Open::new(manner, method),
            _place: place,
        })));
        let mut response = Response::new(feed);
        response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        response
    }
}

impl Body for Feed {
    type Data = Frame;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Frame>, Infallible>>> {
        let Some(live) = &mut self.0 else { return Poll::Ready(None) };
        let frame = match ready!(live.poll(cx)) {
            Ok(message) => BodyFrame::data(Frame::whole(message.framed)),
            Err((reason, status)) => {
                reason.count(live.manner);
                tracing::debug!(
                    caller = %live.caller.origin,
                    method = live.method.label(),
                    reason = status.message(),
                    "stream ended"
                );
                self.0 = None;
                BodyFrame::trailers(trailers(&status))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Live {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Message, (RefusedFor, Status)>> {
        while let Some(asking) = self.broker.as_mut().and_then(|broker| broker.poll_news(cx)) {
            if let SessionState::Ended(reason) = asking {
                return Poll::Ready(Err((of_reason(reason), (self.manner.ended)(reason))));
            }
        }
        while let Some(state) = self.session.poll_news(cx) {
            let update = match state {
                SessionState::ExpectAttestation => continue,
                SessionState::Serving(update) => update,
                SessionState::Ended(reason) => {
                    return Poll::Ready(Err((of_reason(reason), (self.manner.ended)(reason))));
                }
            };
            let message = match told(self.method, &self.only, &update) {
                Told::Message(message) => message,
                Told::Later => continue,
                Told::Nothing => {
                    let nothing = nothing(&update, &self.readiness, &self.caller, self.manner);
                    return Poll::Ready(Err(nothing));
                }
            };
            if self.last != Some(message.hash) {
                self.listed.tell(update);
                self.last = Some(message.hash);
                sent(self.manner, self.method.label());
                return Poll::Ready(Ok(message));
            }
            self.listed.still(update);
        }
        Poll::Pending
    }
}

/// What there is to tell.
pub(super) enum Told {
    /// This.
    Message(Message),
    /// It is being made: the session will say.
    Later,
    /// Nothing that it may have.
    Nothing,
}

impl From<Option<Message>> for Told {
    fn from(message: Option<Message>) -> Self {
        message.map_or(Self::Nothing, Self::Message)
    }
}

/// What `method` tells of `update`, encoded once for all who hold it.
fn told(method: Stream, only: &str, update: &Arc<WorkloadUpdate>) -> Told {
    let once = |derive: fn(&WorkloadUpdate) -> Option<Message>| {
        let derived = update.memo.get_or_derive(method.label(), || derive(update));
        (*derived).clone().into()
    };
    match method {
        Stream::X509Svids => once(x509::svids),
        Stream::X509Bundles => once(x509::all_bundles),
        Stream::JwtBundles => once(jwt::all_bundles),
        Stream::WitBundles => once(wit::all_bundles),
        // Of one connection alone, which has tokens of its own in its update.
        Stream::WitSvids => match update.identities.is_empty() {
            true => Told::Nothing,
            false => wit::svids(update, only),
        },
    }
}

pub(super) fn of_reason(reason: EndReason) -> RefusedFor {
    match reason {
        EndReason::Draining => RefusedFor::Unavailable,
        _ => RefusedFor::Session,
    }
}

/// Why a caller gets nothing. What may change by itself is UNAVAILABLE, and a client comes again (WE-17); that no
/// entry matches is for the operator to change (WE-18).
pub(super) fn nothing(
    update: &WorkloadUpdate,
    readiness: &Readiness,
    caller: &Caller,
    manner: &Manner,
) -> (RefusedFor, Status) {
    if update.bundle.is_some() && update.identities.is_empty() {
        let text = "an entry matches this workload, and its SVID cannot be issued yet: come again";
        return (RefusedFor::Unavailable, Status::unavailable(text));
    }
    if !readiness.is_ready() {
        return (RefusedFor::Unavailable, Status::unavailable("the server is starting: come again"));
    }
    let refused =
        |text: String| (RefusedFor::NoIdentity, (manner.not_entitled)(Status::permission_denied(text)));
    if update.bundle.is_some() {
        // "Not yours" and "no such identity" are one answer (invariant 7).
        return refused("this identity is not one of the workload's".to_owned());
    }
    let pid = caller.pid().map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    refused(format!("no entry matches this workload: `countersign explain pid {pid}` tells why"))
}
