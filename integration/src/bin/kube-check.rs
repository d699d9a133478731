//! Runs pods under a real kubelet, with and without an API server, and shows what the `k8s` attestor makes of them. Needs
//! root, a quarter of an hour, and at the first run some ten minutes more to build kubelet and the API server.
//!
//! ```text
//! kube-check [--v2 | --systemd] [directory] [cluster]
//! --v2       with the cgroups of version 2, under Linux in user mode
//! --systemd  the same with systemd as its first process, which makes kubelet's cgroups
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(integration::kube::run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("kube-check: {error:#}");
    ExitCode::FAILURE
}
