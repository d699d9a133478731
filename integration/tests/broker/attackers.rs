//! Brokers that are none any more, and pids that mean another process: lines of docs/threat-model.md.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use integration::remote::client;
use integration::server::Options;
use integration::{poll, tools};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use sds_server::proto::broker::{
    FetchJwtsvidRequest, FetchJwtsvidResponse, SubscribeToX509svidRequest, SubscribeToX509svidResponse,
};
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::Endpoint;
use tower::service_fn;

use super::fixture::{
    BROKER, Node, SOON, Turning, WEB, ask, by_pid, followed, ids, next, own, reason, selector, shake, stream,
    svids,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_svid_expires_is_cut_off_until_it_shows_a_new_one() {
    // Long enough to be used, and renewed late, so that it is the old one that the broker goes on with.
    let options = Options { leaf_lifetime: Some("6s".into()), ..Options::default() };
    let node = Node::start_with(options).await;
    let (channel, workload) = (node.broker().await, node.workload());
    let mut stream = followed(&channel, workload.id()).await;
    let ended = loop {
        // Renewals of the workload come meanwhile.
        if let Err(ended) = next(&mut stream).await {
            break ended;
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    followed(&node.broker().await, workload.id()).await;
}

// One thread: between two steps of hyper's client (`ClientTask::poll`: `send_request`, `poll_ready`) another would take in
// the answer with its GOAWAY, and the call be dropped for it.
#[tokio::test]
async fn a_broker_whose_entry_is_removed_is_cut_off_at_once_and_for_good() {
    let node = Node::start().await;
    // It outlives its entry by most of an hour.
    let svid = node.svid(BROKER).await;
    let (channel, workload) = (node.channel(&svid).await, node.workload());
    let mut stream = followed(&channel, workload.id()).await;
    node.server.remove_documents("broker").unwrap();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    // It may connect, and is told why it is served no more, by every call.
    let told = |call: Result<(), tonic::Status>| {
        let refused = call.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("no entry"), "{refused}");
    };
    for _ in 0..20 {
        told(svids(&node.channel(&svid).await, workload.id()).await.map(drop));
        let question = FetchJwtsvidRequest {
            reference: by_pid(workload.id()),
            audience: vec!["reports".into()],
            spiffe_id: String::new(),
        };
        let again = node.channel(&svid).await;
        let token: Result<FetchJwtsvidResponse, _> = ask(&again, "FetchJWTSVID", question).await;
        told(token.map(drop));
    }
    // Given back, it is a broker again by the same SVID.
    node.give("broker", BROKER, &own()).await;
    let channel = node.channel(&svid).await;
    assert!(stream_opens(&channel, workload.id()).await);
}

async fn stream_opens(channel: &tonic::transport::Channel, pid: u32) -> bool {
    let question = SubscribeToX509svidRequest { reference: by_pid(pid) };
    let opened = stream::<_, SubscribeToX509svidResponse>(channel, "SubscribeToX509SVID", question).await;
    match opened {
        Ok(mut opened) => next(&mut opened).await.is_ok(),
        Err(_) => false,
    }
}

/// Connects from a PID namespace of its own, and hands the connection to whoever started it.
const ELSEWHERE: &str = "
import os, socket, sys
broker = socket.socket(socket.AF_UNIX)
broker.connect(sys.argv[1])
home = socket.socket(fileno=0)
socket.send_fds(home, [str(os.getpid()).encode()], [broker.fileno()])
home.recv(1)
";

/// The descriptor that comes over `home`.
fn received(home: &StdStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pid = [0; 16];
    let part = &mut [IoSliceMut::new(&mut pid)];
    recvmsg(home.as_fd(), part, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.next().unwrap().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_pid_namespace_names_nobody_by_its_numbers() {
    let node = Node::start().await;
    let (svid, workload) = (node.svid(BROKER).await, node.workload());
    let (home, theirs) = StdStream::pair().unwrap();
    let python = tools::python().unwrap();
    let mut elsewhere = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(python.get_program())
        .args(python.get_args())
        .args(["-c", ELSEWHERE])
        .arg(&node.socket)
        .envs(python.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let (connection, home) = tokio::task::spawn_blocking(move || (received(&home), home)).await.unwrap();
    let connection = StdStream::from(connection);
    connection.set_nonblocking(true).unwrap();
    let connection = std::sync::Mutex::new(Some(connection));
    let config = client(Some(&svid)).unwrap();
    let dial = service_fn(move |_| {
        let connection = connection.lock().unwrap().take().map(UnixStream::from_std);
        let config = config.clone();
        async move {
            let connection = connection.ok_or(std::io::ErrorKind::ConnectionRefused)??;
            shake(connection, config).await.map(TokioIo::new)
        }
    });
    let channel = Endpoint::from_static("http://broker").connect_with_connector(dial).await.unwrap();
    // A number that is somebody's here: what it would mean there is another matter.
    let refused = svids(&channel, workload.id()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(reason(&refused).unwrap().0, "WORKLOAD_REFERENCE_INVALID");
    assert!(refused.message().contains("PID namespace"), "{refused}");
    drop(home);
    elsewhere.wait().unwrap();
    assert!(stream_opens(&node.broker().await, workload.id()).await, "the same broker from here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_other_namespaces_has_no_identity_by_its_program_or_user() {
    let node = Node::start().await;
    let channel = node.broker().await;
    // The very program that the entry is for, where its path means something else.
    let mut inside = Command::new("unshare")
        .args(["--mount", "sh", "-c", "echo ready; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    inside.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let is_sleep = async || {
        std::fs::read_link(format!("/proc/{}/exe", inside.id())).is_ok_and(|exe| exe.ends_with("sleep"))
    };
    poll::holds("it sleeps", SOON, is_sleep).await.unwrap();
    let refused = svids(&channel, inside.id()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(reason(&refused).unwrap().0, "WORKLOAD_NOT_ENTITLED");
    inside.kill().unwrap();
    inside.wait().unwrap();
}

const SHELL: &str = "spiffe://example.org/shell";
/// Two looks, and what a busy machine takes besides.
const PROMPTLY: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_executes_another_program_ends_its_stream_by_itself_and_is_not_told_of_on_it() {
    let node = Node::start().await;
    node.give("shell", SHELL, &selector("sh")).await;
    let channel = node.broker().await;
    let mut program = Command::new("sh");
    program.args(["-c", "read line; exec sleep 600"]);
    let mut shell = Turning::spawn(program);
    let is_shell = async || svids(&channel, shell.id()).await.is_ok_and(|told| ids(&told) == [SHELL]);
    poll::holds("the shell has its SVID", SOON, is_shell).await.unwrap();
    let mut stream = followed(&channel, shell.id()).await;
    let quiet = tokio::time::timeout(PROMPTLY, next(&mut stream)).await;
    assert!(quiet.is_err(), "a process that stays what it is stays told of: {quiet:?}");
    let began = Instant::now();
    shell.turn();
    // Nothing else happens: no entry changes, nothing is renewed.
    let ended = next(&mut stream).await.unwrap_err();
    assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(ended.message().contains("another program"), "{ended}");
    assert_eq!(ids(&svids(&channel, shell.id()).await.unwrap()), [WEB], "asked anew, it is the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_changes_its_user_ends_its_stream_by_itself_and_is_not_told_of_on_it() {
    let node = Node::start().await;
    let mut python = tools::python().unwrap();
    python
        .args(["-c", "import os, time; os.read(0, 1); os.setgid(30001); os.setuid(30001); time.sleep(600)"]);
    let mut turning = Turning::spawn(python);
    let is_python = async || executable(&turning).contains("python");
    poll::holds("it runs Python", SOON, is_python).await.unwrap();
    let (before, after) = ("spiffe://example.org/before", "spiffe://example.org/after");
    node.give("before", before, &format!("unix:path:{}", executable(&turning))).await;
    node.give("after", after, "unix:uid:30001").await;
    let channel = node.broker().await;
    assert_eq!(ids(&svids(&channel, turning.id()).await.unwrap()), [before]);
    let mut stream = followed(&channel, turning.id()).await;
    let began = Instant::now();
    turning.turn();
    let ended = next(&mut stream).await.unwrap_err();
    assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(ended.message().contains("other credentials"), "{ended}");
    assert_eq!(ids(&svids(&channel, turning.id()).await.unwrap()), [after, before], "asked anew");
}

fn executable(turning: &Turning) -> String {
    std::fs::read_link(format!("/proc/{}/exe", turning.id())).unwrap().display().to_string()
}
