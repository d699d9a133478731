//! References: which are taken, what they mean, and how long.

use std::process::Command;

use integration::poll;
use prost::Message;
use sds_server::proto::broker::{
    FetchJwtsvidRequest, FetchJwtsvidResponse, SubscribeToJwtBundlesRequest, SubscribeToJwtBundlesResponse,
    SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse, SubscribeToX509svidRequest,
    SubscribeToX509svidResponse, WorkloadPidReference, WorkloadReference,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::fixture::{
    Node, SOON, Turning, URL, WEB, ask, by_pid, followed, ids, next, own, raw, reason, selector, svids,
};

/// How each call of the API answers to one reference, given as it goes over the wire.
async fn everywhere(channel: &Channel, reference: Option<WorkloadReference>) -> [Result<(), Status>; 4] {
    let svid = SubscribeToX509svidRequest { reference: reference.clone() };
    let bundles = SubscribeToX509BundlesRequest { reference: reference.clone() };
    let keys = SubscribeToJwtBundlesRequest { reference: reference.clone() };
    let token = FetchJwtsvidRequest { reference, audience: vec!["reports".into()], spiffe_id: String::new() };
    [
        ask::<_, SubscribeToX509svidResponse>(channel, "SubscribeToX509SVID", svid).await.map(drop),
        ask::<_, SubscribeToX509BundlesResponse>(channel, "SubscribeToX509Bundles", bundles).await.map(drop),
        ask::<_, SubscribeToJwtBundlesResponse>(channel, "SubscribeToJWTBundles", keys).await.map(drop),
        ask::<_, FetchJwtsvidResponse>(channel, "FetchJWTSVID", token).await.map(drop),
    ]
}

/// That every call answers so, and gives that reason.
async fn check(channel: &Channel, reference: Option<WorkloadReference>, code: Code, why: &str) {
    for answered in everywhere(channel, reference).await {
        let status = answered.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert_eq!(reason(&status), Some((why.to_owned(), "spiffe.io".to_owned())), "{status}");
    }
}

/// A process id that nobody has: that of a process that was waited for.
fn nobody() -> u32 {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    gone.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_03_a_pid_names_one_process_and_its_stream_is_of_no_other() {
    let node = Node::start().await;
    let tail = "spiffe://example.org/tail";
    node.give("tail", tail, &selector("tail")).await;
    let channel = node.broker().await;
    let (mut first, second) = (node.workload(), node.run(Command::new("tail"), &["-f", "/dev/null"]));
    assert_eq!(ids(&svids(&channel, first.id()).await.unwrap()), [WEB]);
    assert_eq!(ids(&svids(&channel, second.id()).await.unwrap()), [tail]);
    let mut stream = followed(&channel, first.id()).await;
    let pid = first.id();
    first.kill().unwrap();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::NotFound);
    // From now on it names nobody, until another has it: `reuse.rs`.
    assert_eq!(svids(&channel, pid).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_06_a_process_is_looked_for_before_anything_is_told() {
    let node = Node::start().await;
    let channel = node.broker().await;
    assert_eq!(svids(&channel, nobody()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(svids(&channel, 4_194_305).await.unwrap_err().code(), Code::NotFound, "above all pids");
    // One that has exited and was not waited for has its pid still, and is no workload any more.
    let mut zombie = Command::new("true").spawn().unwrap();
    let exited = async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap();
        stat.contains(") Z ")
    };
    poll::holds("it has exited", SOON, exited).await.unwrap();
    assert_eq!(svids(&channel, zombie.id()).await.unwrap_err().code(), Code::NotFound);
    zombie.wait().unwrap();
    // A thread has an id of the same kind, and is no process.
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // PID/task/TID
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        tell.send(link.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap()).unwrap();
        let _ = ended.recv();
    });
    let tid = told.recv().unwrap();
    assert_eq!(svids(&channel, tid).await.unwrap_err().code(), Code::NotFound);
    drop(end);
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_07_a_request_without_a_reference_is_invalid() {
    let node = Node::start().await;
    let channel = node.broker().await;
    check(&channel, None, Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID").await;
    let empty = Some(WorkloadReference { reference: None });
    check(&channel, empty, Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_08_nothing_is_believed_of_a_reference_but_the_pid() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let stranger = node.run(Command::new("tail"), &["-f", "/dev/null"]);
    // Fields that no standard has: a user, a path, a SPIFFE ID.
    let claims = [&[0x10, 0x00][..], b"\x1a\x0e/usr/bin/sleep", b"\x22\x18spiffe://example.org/web"].concat();
    let with = |pid: u32| {
        let reference = WorkloadPidReference { pid: i32::try_from(pid).unwrap() };
        raw(URL, [reference.encode_to_vec(), claims.clone()].concat())
    };
    let ask = async |reference| {
        let question = SubscribeToX509svidRequest { reference };
        ask::<_, SubscribeToX509svidResponse>(&channel, "SubscribeToX509SVID", question).await
    };
    assert_eq!(ids(&ask(with(workload.id())).await.unwrap()), [WEB]);
    assert_eq!(ask(with(stranger.id())).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_09_a_pid_is_above_zero() {
    let node = Node::start().await;
    let channel = node.broker().await;
    for pid in [0, -1, i32::MIN] {
        let reference = raw(URL, WorkloadPidReference { pid }.encode_to_vec());
        check(&channel, reference, Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID").await;
    }
    let unreadable = raw(URL, vec![0x08]);
    check(&channel, unreadable, Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_15_a_reference_of_a_type_that_is_not_understood_is_invalid() {
    let node = Node::start().await;
    let (channel, workload) = (node.broker().await, node.workload());
    let pid = WorkloadPidReference { pid: i32::try_from(workload.id()).unwrap() }.encode_to_vec();
    for type_url in [
        "type.googleapis.com/spiffe.broker.KubernetesObjectReference",
        "type.googleapis.com/spiffe.broker.workloadpidreference",
        "type.googleapis.com/WorkloadPIDReference",
        "type.googleapis.com/spiffe.broker.WorkloadPIDReference/",
        "spiffe.broker.WorkloadPIDReference",
        "",
    ] {
        let reference = raw(type_url, pid.clone());
        check(&channel, reference, Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_26_invalid_not_found_and_not_entitled_are_three_answers() {
    let node = Node::start().await;
    let channel = node.broker().await;
    let stranger = node.run(Command::new("tail"), &["-f", "/dev/null"]);
    let code = async |reference| {
        let question = SubscribeToX509svidRequest { reference };
        let asked: Result<SubscribeToX509svidResponse, _> =
            ask(&channel, "SubscribeToX509SVID", question).await;
        asked.unwrap_err().code()
    };
    assert_eq!(code(raw(URL, vec![0xff])).await, Code::InvalidArgument);
    assert_eq!(code(by_pid(nobody())).await, Code::NotFound);
    assert_eq!(code(by_pid(stranger.id())).await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_27_the_reason_is_in_the_details() {
    let node = Node::start().await;
    let channel = node.broker().await;
    let stranger = node.run(Command::new("tail"), &["-f", "/dev/null"]);
    let why =
        |status: Result<_, Status>| reason(&status.map(drop::<SubscribeToX509svidResponse>).unwrap_err());
    let spiffe = |reason: &str| Some((reason.to_owned(), "spiffe.io".to_owned()));
    assert_eq!(why(svids(&channel, 0).await), spiffe("WORKLOAD_REFERENCE_INVALID"));
    assert_eq!(why(svids(&channel, nobody()).await), spiffe("WORKLOAD_NOT_FOUND"));
    assert_eq!(why(svids(&channel, stranger.id()).await), spiffe("WORKLOAD_NOT_ENTITLED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_32_every_call_answers_so() {
    let node = Node::start().await;
    let channel = node.broker().await;
    let stranger = node.run(Command::new("tail"), &["-f", "/dev/null"]);
    check(&channel, by_pid(nobody()), Code::NotFound, "WORKLOAD_NOT_FOUND").await;
    check(&channel, by_pid(stranger.id()), Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ba_29_a_stream_ends_with_its_process_and_with_the_program_that_it_runs() {
    let node = Node::start().await;
    let channel = node.broker().await;
    let mut workload = node.workload();
    let mut stream = followed(&channel, workload.id()).await;
    workload.kill().unwrap();
    let ended = next(&mut stream).await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).unwrap().0.as_str()), (Code::NotFound, "WORKLOAD_NOT_FOUND"));
    // The connection goes on: it is about other workloads too.
    let other = node.workload();
    followed(&channel, other.id()).await;

    // A shell that becomes another program when it reads a line: the pid stays, the workload does not.
    node.give("shell", "spiffe://example.org/shell", &selector("sh")).await;
    let mut program = Command::new("sh");
    program.args(["-c", "read line; exec sleep 600"]);
    let mut shell = Turning::spawn(program);
    let became_shell = async || svids(&channel, shell.id()).await.is_ok();
    poll::holds("the shell has its SVID", SOON, became_shell).await.unwrap();
    let mut stream = followed(&channel, shell.id()).await;
    shell.turn();
    shell.runs("sleep").await;
    // What it may have is told again, and it is looked at before: a change of the entries is such a time.
    node.give("again", "spiffe://example.org/again", &selector("sh")).await;
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(ids(&svids(&channel, shell.id()).await.unwrap()), [WEB], "asked anew, it is the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_may_have_itself_is_no_workloads() {
    let node = Node::start().await;
    let channel = node.broker().await;
    // Asked for itself it is a process like any other.
    let own_svid = svids(&channel, std::process::id()).await.unwrap();
    assert_eq!(ids(&own_svid), ["spiffe://example.org/broker"]);
    assert!(own().starts_with("unix:path:"));
    // And the server is none of its workloads.
    let refused = svids(&channel, node.server.id()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
