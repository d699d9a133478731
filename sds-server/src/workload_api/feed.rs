//! A stream of the Workload API: everything at once, then everything again whenever it changed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame as BodyFrame};
use spiffe_bridge::identity::{ContentHash, WorkloadUpdate};
use spiffe_bridge::node::{Caller, EndReason, Follower, Session, SessionState};
use tonic::Status;

use super::message::Message;
use super::method::Method;
use super::metrics::{Open, RefusedFor, sent};
use super::x509;
use crate::runtime::Readiness;
use crate::sds::frame::Frame;
use crate::sds::partial::Place;
use crate::sds::{of_end, trailers};

/// The body of a response: empty, or a live stream.
#[derive(Default)]
pub struct Feed(Option<Box<Live>>);

struct Live {
    method: Method,
    session: Follower,
    last: Option<ContentHash>,
    readiness: Readiness,
    caller: Arc<Caller>,
    _open: Open,
    _place: Place,
}

impl Feed {
    pub(super) fn open(method: Method, session: &Session, readiness: Readiness, place: Place) -> Self {
        Self(Some(Box::new(Live {
            method,
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
            let Some(message) = message(self.method, &update) else {
                return Poll::Ready(Err(nothing(&update, &self.readiness, &self.caller)));
            };
            if self.last != Some(message.hash) {
                self.last = Some(message.hash);
                sent(self.method);
                return Poll::Ready(Ok(message));
            }
        }
        Poll::Pending
    }
}

/// What `method` tells of `update`, encoded once for all who hold it; `None` if that would be nothing.
fn message(method: Method, update: &Arc<WorkloadUpdate>) -> Option<Message> {
    let derived = update.memo.get_or_derive(method.label(), || match method {
        Method::X509Svids => x509::svids(update),
        Method::X509Bundles => x509::all_bundles(update),
    });
    (*derived).clone()
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
    if update.bundle.is_some() {
        let text = "an entry matches this caller, and its SVID cannot be issued yet: come again";
        return (RefusedFor::Unavailable, Status::unavailable(text));
    }
    if !readiness.is_ready() {
        return (RefusedFor::Unavailable, Status::unavailable("the server is starting: come again"));
    }
    let pid = caller.pid().map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    let text = format!("no entry matches this caller: `countersign explain pid {pid}` tells why");
    (RefusedFor::NoIdentity, Status::permission_denied(text))
}
