//! `cargo demo`: the whole of it in one terminal; `cargo demo -- --check` does it unattended.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    integration::demo::run(&arguments)
}
