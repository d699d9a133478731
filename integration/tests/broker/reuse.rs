//! Pids that are used again while a broker asks: the real server and a real broker in a PID namespace of their own, where
//! `ns_last_pid` chooses the next pid. Needs root.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};

use super::fixture::{BROKER, Node, followed, ids, next, reason, svid_stream, svids};

const INSIDE: &str = "COUNTERSIGN_TEST_BROKER_REUSE";
const FIRST: u32 = 30_001;
const SECOND: u32 = 30_002;

fn id(name: &str) -> String {
    format!("spiffe://example.org/{name}")
}

/// A workload of `user`, under `pid` if one is named.
fn workload(user: u32, pid: Option<u32>) -> Child {
    for _ in 0..200 {
        if let Some(pid) = pid {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        }
        // Not the program that the fixture has an entry for.
        let mut child = Command::new("tail").args(["-f", "/dev/null"]).gid(user).uid(user).spawn().unwrap();
        if pid.is_none_or(|pid| child.id() == pid) {
            return child;
        }
        // A thread of the server's, or of the test's, was faster.
        end(&mut child);
    }
    panic!("the pid is not given out again");
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The status that ends a stream of somebody who has exited.
fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound && reason(status).unwrap().0 == "WORKLOAD_NOT_FOUND"
}

/// A stream that is open, and then the pid is another's.
async fn in_mid_stream(channel: &Channel) {
    let mut first = workload(FIRST, None);
    let pid = first.id();
    assert_eq!(ids(&svids(channel, pid).await.unwrap()), [id("first")]);
    let mut stream = followed(channel, pid).await;
    end(&mut first);
    let mut second = workload(SECOND, Some(pid));
    let ended = next(&mut stream).await.unwrap_err();
    assert!(is_gone(&ended), "{ended}");
    assert_eq!(ids(&svids(channel, pid).await.unwrap()), [id("second")], "asked anew, it is the other");
    end(&mut second);
}

/// The pid becomes another's `after` it was asked for: 1 if that was told, 0 if the first was, -1 if nobody.
async fn meanwhile(channel: &Channel, after: Duration) -> i8 {
    let mut first = workload(FIRST, None);
    let pid = first.id();
    let asking = tokio::spawn({
        let channel = channel.clone();
        async move {
            let mut stream = svid_stream(&channel, pid).await?;
            Ok::<_, Status>((next(&mut stream).await?, stream))
        }
    });
    let mut second = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        while began.elapsed() < after {
            std::hint::spin_loop();
        }
        end(&mut first);
        workload(SECOND, Some(pid))
    })
    .await
    .unwrap();
    let told = match asking.await.unwrap() {
        Ok((told, mut stream)) => {
            // One whole workload, and never the one that has the user of the one and the group of the other. The second
            // begins as a copy of this program: it can be met before it is what it becomes.
            if ids(&told).contains(&BROKER) {
                assert!(!ids(&told).contains(&&*id("first")), "{:?}", ids(&told));
                let ended = next(&mut stream).await.unwrap_err();
                assert_eq!(ended.code(), Code::Unavailable, "{ended}");
                end(&mut second);
                return -1;
            }
            let was_second = ids(&told) == [id("second")];
            assert!(was_second || ids(&told) == [id("first")], "{:?}", ids(&told));
            if was_second {
                end(&mut second);
            }
            let ended = next(&mut stream).await.unwrap_err();
            assert!(is_gone(&ended), "{ended}");
            i8::from(was_second)
        }
        // It went while it was looked at, or changed its user just then: that is told, and nothing else.
        Err(status) => {
            assert!(matches!(status.code(), Code::NotFound | Code::Unavailable), "{status}");
            -1
        }
    };
    let _ = second.kill();
    second.wait().unwrap();
    told
}

/// Not a test of its own: what is run in the namespace.
#[tokio::test(flavor = "multi_thread")]
async fn reuse_inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let node = Node::start().await;
    node.give("first", &id("first"), &format!("unix:uid:{FIRST}")).await;
    node.give("second", &id("second"), &format!("unix:uid:{SECOND}")).await;
    for (name, user, group) in [("mixed", FIRST, SECOND), ("mixture", SECOND, FIRST)] {
        node.give(name, &id(name), &format!("unix:uid:{user}', 'unix:gid:{group}")).await;
    }
    let channel = node.broker().await;
    for _ in 0..50 {
        in_mid_stream(&channel).await;
    }
    let mut told = [0; 3];
    for round in 0..400 {
        let told_of = meanwhile(&channel, Duration::from_micros(round * 10)).await;
        told[usize::try_from(told_of + 1).unwrap()] += 1;
    }
    let [nobody, first, second] = told;
    assert!(first > 0 && second > 0, "both sides of the change were met: {told:?}");
    println!(
        "\n450 rounds: in the race the first was told of {first} times, the second {second}, nobody {nobody}"
    );
}

#[test]
fn a_pid_that_is_used_again_is_another_workload_and_ends_the_stream_of_the_one_before() {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "reuse::reuse_inside", "--nocapture"]).env(INSIDE, "1");
    let ran = command.output().unwrap();
    let (said, why) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "run as root, where PID namespaces can be made: {said}\n{why}");
    println!("{}", said.lines().find(|line| line.contains(" rounds: ")).unwrap_or_else(|| panic!("{said}")));
}
