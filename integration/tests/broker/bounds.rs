//! What brokers may take: `broker.streams`, the half of it that one of them has, and the files of its user.

use std::process::Command;

use integration::server::Options;
use integration::{poll, sds};
use sds_server::proto::broker::{FetchJwtsvidRequest, FetchJwtsvidResponse, SubscribeToX509svidResponse};
use tonic::codec::Streaming;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use super::fixture::{
    BROKER, Node, SOON, WEB, ask, by_pid, followed, ids, next, own, selector, svid_stream, svids,
};

const OTHER: &str = "spiffe://example.org/other-broker";

/// Streams of `pid`, one after the other over `channels`, until one is refused; and how.
async fn fill(channels: &[Channel], pid: u32) -> (Vec<Streaming<SubscribeToX509svidResponse>>, Status) {
    let mut open = Vec::new();
    for channel in channels.iter().cycle().take(1000) {
        match svid_stream(channel, pid).await {
            Ok(mut stream) => {
                next(&mut stream).await.unwrap();
                open.push(stream);
            }
            Err(refused) => return (open, refused),
        }
    }
    panic!("{} streams were taken, and no end", open.len());
}

fn assert_full(refused: &Status, key: &str) {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains(key), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_has_half_of_the_calls_and_another_and_the_workload_api_are_served_beside_it() {
    let node = Node::start_among(Options::default(), &[OTHER], ", streams: 16").await;
    node.give("other", OTHER, &own()).await;
    let (workload, svid) = (node.workload(), node.svid(BROKER).await);
    // On whichever of its connections: it is one broker.
    let channels = [node.channel(&svid).await, node.channel(&svid).await, node.channel(&svid).await];
    let (mut open, refused) = fill(&channels, workload.id()).await;
    assert_eq!(open.len(), 8);
    assert_full(&refused, "broker.streams");

    // Every call is one, also of the services beside the API.
    let token = FetchJwtsvidRequest {
        reference: by_pid(workload.id()),
        audience: vec!["reports".into()],
        spiffe_id: String::new(),
    };
    let token: Result<FetchJwtsvidResponse, _> = ask(&channels[0], "FetchJWTSVID", token).await;
    assert_full(&token.map(drop).unwrap_err(), "broker.streams");
    let mut asked = Request::new(tokio_stream::once(ServerReflectionRequest::default()));
    asked.metadata_mut().insert("broker.spiffe.io", "true".parse().unwrap());
    let reflected = ServerReflectionClient::new(channels[1].clone()).server_reflection_info(asked).await;
    assert_full(&reflected.map(drop).unwrap_err(), "broker.streams");

    let other = node.channel(&node.svid(OTHER).await).await;
    let (others, refused) = fill(&[other], workload.id()).await;
    assert_eq!(others.len(), 8, "the other has its half");
    assert_full(&refused, "broker.streams");
    assert_eq!(sds::svid(&node.server.socket(), BROKER).await.unwrap().chain.len(), 1);

    // Those that are open go on…
    node.give("more", "spiffe://example.org/more", &selector("sleep")).await;
    for stream in &mut open {
        assert_eq!(ids(&next(stream).await.unwrap()), ["spiffe://example.org/more", WEB]);
    }
    // …and one that ends makes room for one, and no more.
    drop(open.pop());
    let mut again = None;
    let opens = async || {
        again = svid_stream(&channels[2], workload.id()).await.ok();
        again.is_some()
    };
    poll::holds("there is room", SOON, opens).await.unwrap();
    assert_full(&svids(&channels[2], workload.id()).await.unwrap_err(), "broker.streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_takes_a_file_of_the_brokers_user_and_gives_it_back() {
    let limits = "limits: {connections: 64, connections_per_uid: 24}\n";
    let node = Node::start_with(Options { more: limits.into(), ..Options::default() }).await;
    let (workload, channel) = (node.workload(), node.broker().await);
    let (mut open, refused) = fill(std::slice::from_ref(&channel), workload.id()).await;
    // One is the connection; a connection to the API socket may be about to end.
    assert!((20..=23).contains(&open.len()), "{}", open.len());
    assert_full(&refused, "limits.connections_per_uid");
    node.give("more", "spiffe://example.org/more", &selector("sleep")).await;
    assert_eq!(ids(&next(&mut open[0]).await.unwrap()), ["spiffe://example.org/more", WEB]);
    drop(open);
    let has_room = async || svids(&channel, workload.id()).await.is_ok();
    poll::holds("the files are given back", SOON, has_room).await.unwrap();
    // A process that has ended gives its file back too, though nobody dropped the stream.
    let mut ended = Vec::new();
    for _ in 0..100 {
        let mut short = node.run(Command::new("sleep"), &["600"]);
        let mut stream = followed(&channel, short.id()).await;
        short.kill().unwrap();
        assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::NotFound);
        ended.push(stream);
    }
}
