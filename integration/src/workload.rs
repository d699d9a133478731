//! A client of the Workload API that asks as any library does, and shows the messages as they came.

use std::path::Path;

use prost::Message;
use tonic::codec::Streaming;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::{http, sds};

/// A stream of `method`, over a connection of its own.
///
/// # Errors
/// It is refused; `Unavailable` also if nobody listens there.
pub async fn stream<Q, A>(socket: &Path, method: &str, question: Q) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
    let channel = sds::connect(socket).await.map_err(|error| unavailable(&error))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| unavailable(&error))?;
    let path = format!("/SpiffeWorkloadAPI/{method}").parse();
    let path = path.map_err(|_| Status::invalid_argument("no call has such a name"))?;
    let mut request = Request::new(question);
    request.metadata_mut().insert("workload.spiffe.io", AsciiMetadataValue::from_static("true"));
    Ok(client.server_streaming(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
}

/// The next message of a stream.
///
/// # Errors
/// How it ended; `DeadlineExceeded` if nothing came.
pub async fn next<A>(stream: &mut Streaming<A>) -> Result<A, Status> {
    let next = tokio::time::timeout(http::PATIENCE, stream.message()).await;
    let next = next.map_err(|_| Status::deadline_exceeded("nothing came"))?;
    next?.ok_or_else(|| Status::new(Code::Ok, "the stream ended"))
}

/// The first answer of `method`: a call with one answer looks the same.
///
/// # Errors
/// As those of [`stream`] and [`next`].
pub async fn ask<Q, A>(socket: &Path, method: &str, question: Q) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    next(&mut stream(socket, method, question).await?).await
}
