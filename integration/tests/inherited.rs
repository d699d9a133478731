//! A program that inherits a served connection by exec gets nothing by asking for more on its old stream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use integration::raw::{self, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS};
use integration::scratch::Scratch;
use integration::seats::Seats;
use integration::server::{Options, Server};
use integration::{poll, sds};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

const STAGE: &str = "COUNTERSIGN_TEST_STAGE";
const SOCKET: &str = "COUNTERSIGN_TEST_SOCKET";
const ID: &str = "spiffe://example.org/web";

fn ask(name: &str) -> Vec<u8> {
    let request =
        DeltaDiscoveryRequest { resource_names_subscribe: vec![name.to_owned()], ..Default::default() };
    raw::frame(DATA, 0, 1, &raw::message(&request.encode_to_vec()))
}

/// Reads until a frame of stream 1 that `ends` accepts; all that came on it.
fn read_until(stream: &mut UnixStream, ends: impl Fn(u8, u8, &[u8]) -> bool) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return all; // the server closed the connection
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        if head[8] == 1 {
            all.extend_from_slice(&payload);
            if ends(head[3], head[4], &payload) {
                return all;
            }
        }
    }
}

/// Asks for the roots as a plain client; the open stream stays at descriptor 100, for a program that comes after it.
fn first_program() {
    let mut stream = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let headers = raw::block(&raw::grpc("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"));
    stream.write_all(raw::PREFACE).unwrap();
    stream.write_all(&raw::frame(SETTINGS, 0, 0, &[])).unwrap();
    stream.write_all(&raw::frame(HEADERS, END_HEADERS, 1, &headers)).unwrap();
    stream.write_all(&ask("ROOTCA")).unwrap();
    read_until(&mut stream, |kind, _, payload| kind == DATA && contains(payload, "END CERTIFICATE"));
    // SAFETY: dup2 has no memory to be wrong about; the copy has no close-on-exec.
    assert_eq!(unsafe { libc::dup2(stream.as_raw_fd(), 100) }, 100);
}

fn program(stage: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments()).env(STAGE, stage);
    command
}

/// Connects and asks, and hands the connection to a process that is there already and inherits nothing of it.
fn hands_it_on() {
    let (own, theirs) = UnixStream::pair().unwrap();
    let mut receiver = program("receives").stdin(OwnedFd::from(theirs)).spawn().unwrap();
    first_program();
    // SAFETY: it was made a moment ago, and nobody else has it.
    let stream = [unsafe { BorrowedFd::borrow_raw(100) }];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&stream)));
    sendmsg(&own, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    assert!(receiver.wait().unwrap().success());
}

/// The process that is handed the connection, and asks for more on it.
fn receives() {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(std::io::stdin(), &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::empty()).unwrap();
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    asks_for_more(UnixStream::from(handed.unwrap()));
}

fn second_program() {
    // SAFETY: the descriptor was made by the program before this one, and nobody else has it.
    asks_for_more(unsafe { UnixStream::from_raw_fd(100) });
}

fn asks_for_more(mut stream: UnixStream) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&ask(ID)).unwrap();
    let came = read_until(&mut stream, |kind, flags, payload| {
        (kind == HEADERS && flags & END_STREAM != 0) || contains(payload, "PRIVATE KEY")
    });
    println!("{}", if contains(&came, "PRIVATE KEY") { "got the key" } else { "got nothing" });
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn arguments() -> [&'static str; 3] {
    ["helper_program", "--exact", "--nocapture"]
}

/// Not a test of its own: what the child process runs.
#[test]
fn helper_program() {
    match std::env::var(STAGE).as_deref() {
        Ok("goes on") => {
            first_program();
            second_program();
        }
        Ok("becomes another") => {
            first_program();
            panic!("exec: {}", program("second").exec());
        }
        Ok("has a child") => {
            first_program();
            assert!(program("second").status().unwrap().success());
        }
        Ok("hands it on") => hands_it_on(),
        Ok("receives") => receives(),
        Ok("second") => second_program(),
        _ => {}
    }
}

/// What the program that comes second says, which finds the stream of the `first` open.
async fn said_after(first: &str) -> String {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    server.add_entry(ID, &[&Seats::here().own_selector().unwrap()]).unwrap();
    let socket = server.socket();
    poll::holds("served", Duration::from_secs(5), async || sds::svid(&socket, ID).await.is_ok())
        .await
        .unwrap();
    let child = program(first).env(SOCKET, socket).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(said.contains("got "), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    said
}

/// What the others are measured by: the same code, and nobody else runs it.
#[tokio::test(flavor = "multi_thread")]
async fn who_connected_itself_gets_the_key_on_the_stream_that_it_opened() {
    let said = said_after("goes on").await;
    assert!(said.contains("got the key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inherited_stream_brings_no_new_secret() {
    let said = said_after("becomes another").await;
    assert!(said.contains("got nothing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_inherited_the_connection_ends_it_by_its_first_byte() {
    let said = said_after("has a child").await;
    assert!(said.contains("got nothing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_handed_on_by_scm_rights_ends_by_the_first_byte_of_who_has_it_now() {
    let said = said_after("hands it on").await;
    assert!(said.contains("got nothing"), "{said}");
}
