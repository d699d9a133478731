//! Who may connect, and how a connection ends.

use std::convert::Infallible;
use std::time::Duration;

use sds_server::endpoint::uds::Listener;
use sds_server::endpoint::{Config, Limits, Peer, Server};
use sds_server::runtime::drain;
use spiffe_bridge::node::{Caller, EndReason, Session, SessionState};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::body::Body;

use super::{get, serve, soon, tempdir};

#[tokio::test]
async fn a_request_carries_its_callers_session() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    assert_eq!(get(&mut client, "/fast").await.unwrap(), std::process::id().to_string());
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_the_next_one_fits_again() {
    let fixture = serve(Config { connections: 2, connections_per_uid: 1, ..Config::default() });
    let (mut client, connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();

    let mut refused = UnixStream::connect(&fixture.path).await.unwrap();
    assert_eq!(soon(refused.read(&mut [0; 64])).await.unwrap_or(0), 0);

    drop(client);
    soon(connection).await.unwrap();
    soon(async {
        while fixture.limits.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut client, _connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let fixture = serve(Config { first_request: Duration::from_millis(50), ..Config::default() });
    let mut silent = UnixStream::connect(&fixture.path).await.unwrap();
    let mut sink = Vec::new();
    let _ = soon(silent.read_to_end(&mut sink)).await;
    assert_eq!(fixture.limits.open(), 0);
}

#[tokio::test]
async fn a_drain_says_goaway_lets_work_finish_and_frees_the_path() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
    let mut other = client.clone();
    let slow = tokio::spawn(async move { get(&mut other, "/slow").await });
    get(&mut client, "/fast").await.unwrap(); // the slow request went out before this one

    fixture.drainer.begin();
    soon(async {
        // The client hears GOAWAY: it may send nothing more.
        while get(&mut client, "/fast").await.is_ok() {}
    })
    .await;
    // The thread that accepts ends beside the connections, not before them.
    soon(async {
        while fixture.path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!fixture.server.is_finished());
    fixture.finish.send_replace(true);
    assert_eq!(soon(slow).await.unwrap().unwrap(), std::process::id().to_string());
    soon(fixture.server).await.unwrap().unwrap();
    assert_eq!(fixture.limits.open(), 0);
}

#[tokio::test]
async fn work_that_does_not_finish_is_dropped_when_the_drain_is_forced() {
    let fixture = serve(Config::default());
    let (mut client, _connection) = fixture.connect().await;
    let slow = tokio::spawn(async move { get(&mut client, "/slow").await });
    soon(async {
        while fixture.limits.open() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fixture.drainer.begin();
    fixture.drainer.force();
    soon(fixture.server).await.unwrap().unwrap();
    assert!(soon(slow).await.unwrap().is_err());
}

/// Nobody tells the work beside a connection of the drain: it is let go, and what it held ends.
#[tokio::test]
async fn a_drain_ends_the_session_of_a_connection_with_the_work_that_keeps_it() {
    let (_dir, path) = tempdir();
    let (config, (drainer, drain)) = (Config::default(), drain::channel());
    let service = tower::service_fn(async |_: http::Request<Body>| {
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let (sender, mut admitted) = mpsc::unbounded_channel();
    let admit = move |peer: Peer, connection| {
        let (sessions, session) = Session::channel(Caller::local(connection, peer.pid, peer.uid, peer.gid));
        sender.send(session.clone()).unwrap();
        (session, async move { sessions.abandoned().await })
    };
    let listener = Listener::bind(&path, 0o666).unwrap();
    let server = Server::new(listener, Limits::new(&config, 100), config, service, admit);
    let server = tokio::spawn(server.run(drain));
    let _connected = UnixStream::connect(&path).await.unwrap();
    let session = soon(admitted.recv()).await.unwrap();
    assert_eq!(session.verify(), Ok(()));
    drainer.begin();
    let is_over = |state: &SessionState| matches!(state, SessionState::Ended(EndReason::Draining));
    soon(session.follow().wait_for(is_over)).await;
    drainer.force();
    soon(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_whose_session_has_ended_is_closed() {
    let mut fixture = serve(Config::default());
    let (mut client, connection) = fixture.connect().await;
    get(&mut client, "/fast").await.unwrap();
    let writer = fixture.sessions.recv().await.unwrap();
    writer.publish(SessionState::Ended(EndReason::ProcessExited));
    soon(connection).await.unwrap();
    soon(writer.abandoned()).await;
}
