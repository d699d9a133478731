//! Tasks that end well, fail, panic and do not end.

use std::convert::Infallible;
use std::io;

use super::*;
use crate::runtime::drain;

async fn until_drained(drain: Drain) -> Result<(), Infallible> {
    drain.begun().await;
    Ok(())
}

fn supervisor() -> Supervisor {
    let mut supervisor = Supervisor::new(drain::channel().0);
    supervisor.spawn("good", until_drained);
    supervisor.spawn_background("signals", std::future::pending::<Result<(), Infallible>>());
    supervisor
}

#[tokio::test]
async fn a_drain_ends_the_process_well() {
    let supervisor = supervisor();
    supervisor.drainer.begin();
    supervisor.run(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_task_that_fails_drains_the_others() {
    let mut supervisor = supervisor();
    supervisor.spawn("bad", |_| async { Err(io::Error::other("no disk")) });
    let failure = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(failure, Failure::Failed { task: "bad", .. }), "{failure:?}");
}

#[tokio::test]
async fn a_task_that_panics_drains_the_others_and_says_why() {
    let mut supervisor = supervisor();
    supervisor.spawn("bug", |_| async {
        assert_eq!(1 + 1, 3, "arithmetic");
        Ok::<(), Infallible>(())
    });
    let failure = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
    assert!(failure.to_string().contains("arithmetic"), "{failure}");
}

#[tokio::test]
async fn only_a_finite_task_may_end_by_itself() {
    let mut supervisor = supervisor();
    supervisor.spawn_finite("once", |_| async { Ok::<(), Infallible>(()) });
    supervisor.spawn("loop", |_| async {
        tokio::task::yield_now().await;
        Ok::<(), Infallible>(())
    });
    let failure = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(failure, Failure::Ended { task: "loop" }), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn work_is_forced_at_the_deadline_and_a_task_that_ignores_that_is_named() {
    let mut supervisor = supervisor();
    supervisor.spawn("slow", |drain| async move {
        drain.forced().await;
        Ok::<(), Infallible>(())
    });
    supervisor.spawn("deaf", |_| std::future::pending::<Result<(), Infallible>>());
    supervisor.drainer.begin();
    let failure = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(&failure, Failure::Stuck { tasks } if tasks == &["deaf"]), "{failure:?}");
}
