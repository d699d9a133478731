//! SIGHUP: the entries are read again.

use std::convert::Infallible;

use spiffe_bridge::registration::DirectoryHandle;

use crate::runtime::{Drain, Reread};

pub(super) async fn run(
    mut reread: Reread,
    directory: DirectoryHandle,
    drain: Drain,
) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = drain.begun() => return Ok(()),
            () = reread.requested() => drop(directory.rescan().await),
        }
    }
}
