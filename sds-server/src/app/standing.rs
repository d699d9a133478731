//! Says so when the API socket's file is not ours any more: callers that come then meet nobody, or somebody else.

use std::convert::Infallible;
use std::time::Duration;

use crate::endpoint::uds::Standing;
use crate::runtime::Drain;

const EVERY: Duration = Duration::from_secs(5);

/// Looks at the file again and again, and logs when what is found changes. `status` looks for itself.
pub(super) async fn run(socket: Standing, drain: Drain) -> Result<(), Infallible> {
    let mut before = None;
    loop {
        let found = socket.look();
        if found != before {
            let path = socket.path().display();
            match &found {
                Some(displaced) => tracing::error!(
                    %path, "new callers do not reach this server by its socket: {displaced}; those that are connected are served on"
                ),
                None => tracing::info!(%path, "the socket is there again"),
            }
            before = found;
        }
        tokio::select! {
            () = drain.begun() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
