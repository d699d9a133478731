//! The harness: the real server, real Envoys and plain programs, started together on the loopback.
//!
//! ```text
//! poll       wait for a condition with a deadline: the only way to wait here
//! ports      free ports of 127.0.0.1               scratch   a directory that other users may enter
//! process    a child with its log, killed on drop  tools     brings Envoy in at first use
//! http       one request over any stream           app       a program that knows nothing of TLS
//! load       calls it, and counts failures         seats     how two Envoys are told apart
//! server     the countersign binary                envoy     Envoy: run, validate, statistics
//! sds        a client of SDS, to hold an SVID      stranger  those who must not get in
//! workload   a client of the Workload API
//! ca         an authority that is not ours         remote    the door to the network, and who comes to it
//! outside    a server that is not of the mesh
//! namespace  a network of its own, for what needs one
//! podman     containers of the test's own
//! puppet     SDS with secrets that a test chooses   mint      SVIDs and roots that it makes itself
//! raw        HTTP/2 by hand: requests that no library would write
//! mesh       all of it: two services, each with its sidecar
//! demo       shows that in a terminal
//! compose    docker-compose.yml, run for real       kube      pods of a real kubelet
//! ```
//!
//! Everything that is started dies with the value that started it. No traffic leaves 127.0.0.1.

pub mod app;
pub mod ca;
pub mod compose;
pub mod demo;
pub mod envoy;
pub mod http;
pub mod kube;
pub mod load;
pub mod mesh;
pub mod mint;
pub mod namespace;
pub mod outside;
pub mod podman;
pub mod poll;
pub mod ports;
pub mod process;
pub mod puppet;
pub mod raw;
pub mod remote;
pub mod scratch;
pub mod sds;
pub mod seats;
pub mod server;
pub mod stranger;
pub mod tools;
pub mod workload;
