//! A stream of the Workload API: everything at once, then everything again whenever it changed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame as BodyFrame};
use spiffe_bridge::identity::{ContentHash, WorkloadUpdate};
use spiffe_bridge::node::{Caller, EndReason, Follower, Interest, Session, SessionState, Want};
use tonic::Status;

use super::message::Message;
use super::method::Stream;
use super::metrics::{Open, RefusedFor, sent};
use super::{jwt, wit, x509};
use crate::runtime::Readiness;
use crate::sds::frame::Frame;
use crate::sds::partial::Place;
use crate::sds::{of_end, trailers};

/// The body of a response: empty, or a live stream.
#[derive(Default)]
pub struct Feed(Option<Box<Live>>);

struct Live {
    method: Stream,
    /// The one identity that is asked for; empty for all.
    only: String,
    session: Follower,
    last: Option<ContentHash>,
    readiness: Readiness,
    caller: Arc<Caller>,
    _interest: Option<Interest>,
    _open: Open,
    _place: Place,
}

impl Feed {
    pub(super) fn open(
        method: Stream,
        only: String,
        session: &Session,
        readiness: Readiness,
        place: Place,
    ) -> Self {
        let interest = (method == Stream::WitSvids).then(|| {
            let mut interest = session.interest();
            interest.set(BTreeSet::from([Want::Wit]));
            interest
        });
        Self(Some(Box::new(Live {
            method,
            only,
            _interest: interest,
            session: session.follow(),
            last: None,
            readiness,
            caller: session.caller().clone(),
            _open: Open::new(method),
            _place: place,
        })))
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
                reason.count();
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
        while let Some(state) = self.session.poll_news(cx) {
            let update = match state {
                SessionState::ExpectAttestation => continue,
                SessionState::Serving(update) => update,
                SessionState::Ended(reason) => return Poll::Ready(Err((of_reason(reason), of_end(reason)))),
            };
            let message = match told(self.method, &self.only, &update) {
                Told::Message(message) => message,
                Told::Later => continue,
                Told::Nothing => return Poll::Ready(Err(nothing(&update, &self.readiness, &self.caller))),
            };
            if self.last != Some(message.hash) {
                self.last = Some(message.hash);
                sent(self.method.label());
                return Poll::Ready(Ok(message));
            }
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

fn of_reason(reason: EndReason) -> RefusedFor {
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
) -> (RefusedFor, Status) {
    if update.bundle.is_some() && update.identities.is_empty() {
        let text = "an entry matches this caller, and its SVID cannot be issued yet: come again";
        return (RefusedFor::Unavailable, Status::unavailable(text));
    }
    if !readiness.is_ready() {
        return (RefusedFor::Unavailable, Status::unavailable("the server is starting: come again"));
    }
    if update.bundle.is_some() {
        // "Not yours" and "no such identity" are one answer (invariant 7).
        let text = "this identity is not one of the caller's";
        return (RefusedFor::NoIdentity, Status::permission_denied(text));
    }
    let pid = caller.pid().map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    let text = format!("no entry matches this caller: `countersign explain pid {pid}` tells why");
    (RefusedFor::NoIdentity, Status::permission_denied(text))
}
