//! What one push and its ACK cost, and one idle stream, in each of the ways to serve SDS: docs/decisions/0001-transport.md.
//!
//! `cargo bench -p integration --bench transport`. Each mode runs in a process of its own, on one thread; its clients
//! are another process on the other core. The floor is a bare h2 server that sends one ready frame to all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "bench"
)]

use std::path::Path;
use std::process::{Child, Command};

mod client;
mod codec;
mod floor;
mod generated;
mod pushes;
mod server;

use client::client;
use server::server;

const TYPE_URL: &str = sds_server::sds::secret::TYPE_URL;
const MODES: [&str; 4] = ["tonic", "codec", "frames", "floor"];
const STREAMS_PER_CONNECTION: usize = 1000;
const PUSHES: u64 = 15;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", mode, streams] => runtime.block_on(server(mode, streams.parse().unwrap())),
        ["client", path, streams] => runtime.block_on(client(Path::new(path), streams.parse().unwrap())),
        _ => {
            println!(
                "mode    streams  message B  CPU us/push+ACK  wall ms/push  idle KB/stream  after pushes KB/stream"
            );
            for streams in [1000, 10_000] {
                for mode in MODES {
                    let status = role().args(["server", mode, &streams.to_string()]).status().unwrap();
                    assert!(status.success(), "{mode}");
                }
            }
        }
    }
}

fn role() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Ends the client with its server.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
