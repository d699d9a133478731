use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::endpoint::uds::Listener;

/// A connection of this process, and the server's end of it.
async fn connection() -> (StdStream, UnixStream, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    let listener = Listener::bind(&path, 0o666).unwrap();
    let client = StdStream::connect(&path).unwrap();
    (client, listener.accept().await.unwrap(), dir)
}

fn witnessed(stream: UnixStream) -> Witnessed {
    let peer = Peer::of(&stream).unwrap();
    assert_eq!(peer.pid, std::process::id());
    Witnessed::new(stream.into_std().unwrap(), &peer, Arc::default()).unwrap()
}

#[tokio::test]
async fn the_bytes_of_the_one_that_connected_come_through_also_those_from_before_the_accept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    let listener = Listener::bind(&path, 0o666).unwrap();
    let mut client = StdStream::connect(&path).unwrap();
    client.write_all(b"before ").unwrap();
    let stream = listener.accept().await.unwrap();
    client.write_all(b"between ").unwrap();
    let mut served = witnessed(stream);
    client.write_all(b"after").unwrap();
    drop(client);
    let mut all = String::new();
    served.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "before between after");
}

#[tokio::test]
async fn the_bytes_of_another_process_are_refused_and_those_before_them_are_not() {
    let (mut client, stream, _dir) = connection().await;
    let mut served = witnessed(stream);
    client.write_all(b"mine").unwrap();
    let handed_on: OwnedFd = client.try_clone().unwrap().into();
    let child = Command::new("printf").arg("theirs").stdout(Stdio::from(handed_on)).status().unwrap();
    assert!(child.success());
    client.write_all(b"mine again").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(served.read(&mut buffer).await.unwrap(), 4, "no two writers in one read");
    let refused = served.read(&mut buffer).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn descriptors_that_are_sent_along_are_not_taken() {
    let (client, stream, _dir) = connection().await;
    let mut served = witnessed(stream);
    let (mut end, sent) = std::io::pipe().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [sent.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&client, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    drop(sent);
    let mut buffer = [0; 8];
    assert_eq!(served.read(&mut buffer).await.unwrap(), 1);
    // Had we got it, the pipe would be open still, and this would not end.
    assert_eq!(end.read(&mut buffer).unwrap(), 0);
}
