//! As h2 alone has it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::pushes::Push;
use super::server::ACKS;

// ---- the floor: h2, one ready frame for all, ACKs counted and not read

pub(super) async fn floor(stream: UnixStream, pushes: watch::Receiver<Push>) {
    let mut builder = h2::server::Builder::new();
    // hyper's windows; with h2's own, requests are cut into pieces and the ACKs miscounted.
    builder
        .max_concurrent_streams(100_000)
        .initial_connection_window_size(1 << 20)
        .initial_window_size(1 << 20);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut pushes = pushes.clone();
        pushes.mark_changed();
        tokio::spawn(async move {
            let response =
                http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(response, false).unwrap();
            let mut body = request.into_body();
            let mut first = true;
            loop {
                tokio::select! {
                    changed = pushes.changed() => {
                        let Ok(()) = changed else { return };
                        let frame = pushes.borrow_and_update().frame.clone();
                        if send.send_data(frame, false).is_err() { return }
                    }
                    data = body.data() => {
                        let Some(Ok(data)) = data else { return };
                        let _ = body.flow_control().release_capacity(data.len());
                        if !std::mem::take(&mut first) {
                            ACKS.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
    }
}
