//! What the benches share. Each of them measures a figure and its limit in turns, in the same run.
//!
//! ```text
//! cpu     CPU time and resident memory, of a thread here or of another process
//! stats   medians, percentiles, and two measurements in turns
//! table   one line a figure: its limit, the ratio, the goal, and whether it was reached
//! pem     the envelope that Envoy reads                  disk   a directory on a real disk
//! server  the countersign binary in release              floor    a bare h2 server, this program again
//! sds     a client that costs as little as can be         fleet    many of them, in this process
//! crowd   many of them in processes of their own          home     an authority on a real disk
//! envoys  processes that flush statistics                recorder a flush of a real Envoy
//! wire    a client's octets, written by hand              wires    such clients, a connection each, in other processes
//! plot    lines in SVG                                 
//! raw     ready octets on bare sockets                   turns    a figure and its limit measured in turns
//! ```
//!
//! A time that misses its goal is told in the table and fails nothing: machines are noisy.

#![allow(dead_code, unreachable_pub, reason = "each bench uses its part")]

pub mod cpu;
pub mod crowd;
pub mod disk;
pub mod envoys;
pub mod fleet;
pub mod floor;
pub mod home;
pub mod pem;
pub mod plot;
pub mod raw;
pub mod recorder;
pub mod sds;
pub mod server;
pub mod stats;
pub mod table;
pub mod turns;
pub mod wire;
pub mod wires;

/// Whether `cargo bench` runs this. `cargo test --all-targets` starts benches too, without `--bench`.
pub fn asked_for() -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("nothing measured: run it with `cargo bench`");
    }
    asked
}

/// Whether `part` was named on the command line, or nothing was: `cargo bench … -- push memory`.
pub fn wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}
