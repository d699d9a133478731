//! A process that refuses whatever it gets, for ever.

use std::process::Command;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status;
use integration::{sds, seats};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::world::{ID, MIB, World};

const SOCKET: &str = "COUNTERSIGN_TEST_REFUSES";
const ROUNDS: usize = 2000;
const STREAMS: usize = 200;

/// Refuses what came with `nonce`.
fn refuse(nonce: String) -> DeltaDiscoveryRequest {
    let message = "Failed to load certificate chain from <inline>".to_owned();
    let error_detail = Some(Status { code: 13, message, ..Status::default() });
    DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..Default::default() }
}

/// Asks for all of it once more, and for `none`, which is nobody's: the answer to it comes in any case.
fn ask(none: &str) -> DeltaDiscoveryRequest {
    let names = ["default", "ROOTCA", ID, none].map(str::to_owned);
    DeltaDiscoveryRequest { resource_names_subscribe: names.into(), ..Default::default() }
}

/// Not a test of its own: the process that refuses.
#[tokio::test(flavor = "multi_thread")]
async fn helper_refuses() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let (mut refused, mut answers) = (0, 0);
    for stream in 0..STREAMS {
        let mut client = SecretDiscoveryServiceClient::new(sds::connect(socket.as_ref()).await.unwrap());
        let (sender, requests) = mpsc::channel(8);
        let mut heard = client.delta_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
        // One stream for long, and many for short.
        let rounds = if stream == 0 { ROUNDS } else { 5 };
        for round in 0..rounds {
            let none = format!("none-{round}");
            sender.send(ask(&none)).await.unwrap();
            loop {
                let response: DeltaDiscoveryResponse = heard.message().await.unwrap().unwrap();
                answers += 1;
                refused += response.resources.len();
                let is_last = response.removed_resources.contains(&none);
                sender.send(refuse(response.nonce)).await.unwrap();
                if is_last {
                    break;
                }
            }
        }
    }
    println!("refused {refused} of {answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_refuses_for_ever_is_not_sent_the_same_again_and_fills_no_log() {
    let world = World::start("").await;
    let program = seats::copied(world.scratch(), "refuses", &std::env::current_exe().unwrap()).unwrap();
    let mut command = Command::new(program);
    command.args(["refusing::helper_refuses", "--exact", "--nocapture"]).env(SOCKET, world.socket());
    let refusing = tokio::task::spawn_blocking(move || command.output().unwrap());
    while !refusing.is_finished() {
        world.others_are_served().await;
    }
    let refusing = refusing.await.unwrap();
    let said = String::from_utf8_lossy(&refusing.stdout).into_owned();
    assert!(refusing.status.success(), "{said}\n{}", String::from_utf8_lossy(&refusing.stderr));
    let said = said.lines().find_map(|line| line.strip_prefix("refused ")).unwrap();
    let (refused, answers) = said.split_once(" of ").unwrap();
    let [refused, answers]: [usize; 2] = [refused, answers].map(|count| count.parse().unwrap());
    // What it was asked for again it is told of: that there is nothing for it.
    assert!(
        answers >= ROUNDS && refused < 20,
        "sent {refused} secrets that it had refused, of {answers} answers"
    );
    let lines = world.server.log().lines().count();
    assert!(lines < 400, "{lines} lines in the log");
    world.stands(MIB).await;
}
