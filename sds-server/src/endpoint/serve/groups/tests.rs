use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::*;
use crate::runtime::{Crowd, drain};

fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    tokio::time::timeout(Duration::from_secs(20), future).map(|done| done.expect("it takes too long"))
}

fn groups<N: Newcomer>(crowd: Option<Handle>) -> Groups<N> {
    Groups::new(crowd, &drain::channel().1)
}

fn job(future: impl Future<Output = ()> + Send + 'static) -> First {
    Box::new(move |_: &Group| -> Job { Box::pin(future) })
}

fn work(length: Duration) {
    let start = Instant::now();
    while start.elapsed() < length {
        std::hint::spin_loop();
    }
}

/// Woken at once. The runtime's own yield waits until it has looked for I/O.
async fn step() {
    let mut is_woken = false;
    let woken = |cx: &mut std::task::Context<'_>| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut is_woken, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    };
    std::future::poll_fn(woken).await;
}

/// A thousand connections of one process that never stop, and one of another that needs ten turns: it has them before
/// the thousand have had one each.
#[tokio::test]
async fn a_process_waits_for_one_turn_of_each_other_however_much_that_has_to_do() {
    let groups = groups(None);
    let turns = Arc::new(AtomicUsize::new(0));
    for number in 0..1000 {
        let turns = turns.clone();
        let busy = async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                work(Duration::from_micros(20));
                step().await;
            }
        };
        groups.begin(Party::Process(1), number, job(busy));
    }
    while turns.load(Ordering::Relaxed) < 10_000 {
        tokio::task::yield_now().await;
    }
    let (done, ended) = oneshot::channel();
    let before = turns.load(Ordering::Relaxed);
    let quick = async move {
        for _ in 0..10 {
            step().await;
        }
        done.send(()).unwrap();
    };
    groups.begin(Party::Process(2), 1, job(quick));
    soon(ended).await.unwrap();
    let waited = turns.load(Ordering::Relaxed) - before;
    assert!(waited < 500, "{waited} turns of single connections");
}

#[tokio::test]
async fn a_panic_ends_what_panicked_and_a_group_without_anybody_ends() {
    let groups = groups(None);
    let (sender, mut told) = mpsc::channel(4);
    groups.begin(Party::Process(1), 1, job(async { panic!("a test's") }));
    let begins: First = Box::new(|_: &Group| -> Job { panic!("a test's") });
    groups.begin(Party::Process(1), 1, begins);
    let lives = sender.clone();
    groups.begin(Party::Process(1), 1, job(async move { lives.send(1).await.unwrap() }));
    assert_eq!(soon(told.recv()).await, Some(1));
    while !groups.shared.open().is_empty() {
        yield_now().await;
    }
    groups.begin(Party::Process(1), 1, job(async move { sender.send(2).await.unwrap() }));
    assert_eq!(soon(told.recv()).await, Some(2));
    soon(groups.ended()).await;
    assert!(groups.shared.open().is_empty());
}

#[tokio::test]
async fn work_beside_a_connection_ends_with_it() {
    let groups = groups::<First>(None);
    let (kept, mut gone) = mpsc::channel::<()>(1);
    let (end, ends) = oneshot::channel::<()>();
    let connection = move |group: &Group| -> Job {
        let beside = group.beside(async move {
            kept.closed().await; // for ever: the other half lives
            drop(kept);
        });
        Box::pin(async move {
            ends.await.unwrap();
            drop(beside);
        })
    };
    groups.begin(Party::Process(1), 1, Box::new(connection));
    yield_now().await;
    assert!(gone.recv().now_or_never().is_none(), "it runs");
    end.send(()).unwrap();
    assert_eq!(soon(gone.recv()).await, None);
    soon(groups.ended()).await;
}

#[tokio::test]
async fn what_is_left_is_dropped_with_the_groups() {
    let groups = groups(None);
    let (kept, mut gone) = mpsc::channel::<()>(1);
    groups.begin(Party::Process(1), 1, job(async move { kept.closed().await }));
    yield_now().await;
    drop(groups);
    assert_eq!(soon(gone.recv()).await, None);
}

/// Somebody who left, or not.
struct Waits(bool, mpsc::UnboundedSender<bool>);

impl Newcomer for Waits {
    fn has_left(&self) -> bool {
        self.0
    }

    fn begin(self, _: &Group) -> Option<Job> {
        self.1.send(self.0).unwrap();
        None
    }
}

#[tokio::test]
async fn who_left_before_its_turn_does_not_begin_and_a_purge_lets_go_of_it() {
    let groups = groups(None);
    let (sender, mut begun) = mpsc::unbounded_channel();
    for left in [true, false, true, true, false] {
        groups.begin(Party::Process(1), 1, Waits(left, sender.clone()));
    }
    groups.purge();
    assert_eq!(sender.strong_count(), 3, "two wait");
    drop(sender);
    assert_eq!(soon(begun.recv()).await, Some(false));
    assert_eq!(soon(begun.recv()).await, Some(false));
    assert_eq!(soon(begun.recv()).await, None);
}

#[tokio::test]
async fn who_keeps_a_thread_busy_goes_on_among_the_crowd_and_comes_back_later() {
    let crowd = Crowd::start().unwrap();
    let groups = groups(crowd.handle().cloned());
    let (sender, told) = oneshot::channel();
    let busy = async move {
        let is_there = || std::thread::current().name() == Some("crowd");
        assert!(!is_there());
        while !is_there() {
            work(TURN);
            yield_now().await;
        }
        while is_there() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sender.send(()).unwrap();
    };
    groups.begin(Party::Process(1), 1, job(busy));
    soon(told).await.unwrap();
    soon(groups.ended()).await;
}

/// One connection after the other, each of which ends before its share is taken.
#[tokio::test]
async fn who_comes_again_and_again_goes_to_the_crowd_too() {
    let crowd = Crowd::start().unwrap();
    let groups = groups(crowd.handle().cloned());
    let is_of_crowd = async || {
        let (sender, told) = oneshot::channel();
        let brief = async move {
            (0..10).for_each(|_| work(TURN / 10));
            let _ = sender.send(std::thread::current().name() == Some("crowd"));
        };
        groups.begin(Party::Process(1), 1, job(brief));
        let is_there = soon(told).await.unwrap();
        while !groups.shared.open().is_empty() {
            yield_now().await;
        }
        is_there
    };
    assert!(!is_of_crowd().await);
    soon(async { while !is_of_crowd().await {} }).await;
}

#[tokio::test]
async fn all_are_polled_when_the_drain_begins_and_when_it_is_forced() {
    let (drainer, drain) = drain::channel();
    let groups = Groups::new(None, &drain);
    let (sender, mut seen) = mpsc::unbounded_channel();
    for number in 0..100 {
        let (sender, drain) = (sender.clone(), drain.clone());
        let looks = std::future::poll_fn(move |_| {
            sender.send((number, drain.has_begun(), drain.is_forced())).unwrap();
            std::task::Poll::<()>::Pending
        });
        groups.begin(Party::Process(number % 7), number.into(), job(looks));
    }
    let mut all_see = async |begun, forced| {
        let mut seeing = std::collections::BTreeSet::new();
        while seeing.len() < 100 {
            let (number, has_begun, is_forced) = soon(seen.recv()).await.unwrap();
            assert_eq!((has_begun, is_forced), (begun, forced), "{number}");
            seeing.insert(number);
        }
    };
    all_see(false, false).await;
    drainer.begin();
    all_see(true, false).await;
    drainer.force();
    all_see(true, true).await;
}

/// Once its caller is known a connection says all at once that it has to say.
#[tokio::test]
async fn what_a_newcomer_has_beside_it_is_polled_before_it() {
    let groups = groups(None);
    let (sender, mut order) = mpsc::unbounded_channel();
    let newcomer: First = Box::new(move |group: &Group| -> Job {
        let told = sender.clone();
        let beside = group.beside(async move { told.send("beside").unwrap() });
        Box::pin(async move {
            sender.send("newcomer").unwrap();
            drop(beside);
        })
    });
    groups.begin(Party::Process(1), 1, newcomer);
    assert_eq!(soon(order.recv()).await, Some("beside"));
    assert_eq!(soon(order.recv()).await, Some("newcomer"));
}
