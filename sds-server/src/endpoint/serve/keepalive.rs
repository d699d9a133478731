//! Whether the peer is still there: asked by a PING when nothing came from it for a while.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// One connection's questions.
pub(super) struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    asked: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self { pings, interval, timeout, timer: Box::pin(sleep(interval)), asked: None }
    }

    /// Ready when the peer has given no sign of life in time. It last gave one at `heard`: any byte is one.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>, heard: Instant) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let next = match self.asked {
                Some(asked) if heard <= asked => return Poll::Ready(()),
                Some(_) => {
                    let _ = self.pings.poll_pong(cx); // taken in, or no other can be sent
                    self.asked = None;
                    heard + self.interval
                }
                None if heard + self.interval <= now => {
                    // Refused while one is unanswered: then that one is the question.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.asked = Some(now);
                    now + self.timeout
                }
                None => heard + self.interval,
            };
            self.timer.as_mut().reset(next);
        }
    }
}
