//! As a service of tonic with a codec of its own has it.

use bytes::{Buf as _, BufMut as _};
use futures::StreamExt as _;
use sds_server::sds::frame::Frame;
use sds_server::sds::{Request, sotw};
use tokio::sync::watch;
use tonic::Status;

use super::generated::{BoxStream, engine, hear, say};
use super::pushes::Push;

// ---- mode 2: tonic's Grpc with a codec of ready messages and small buffers

#[derive(Clone, Copy)]
pub(super) struct SmallCodec;

impl tonic::codec::Codec for SmallCodec {
    type Encode = Frame;
    type Decode = Request;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

fn small() -> tonic::codec::BufferSettings {
    tonic::codec::BufferSettings::new(512, 512)
}

impl tonic::codec::Encoder for SmallCodec {
    type Item = Frame;
    type Error = Status;
    fn encode(&mut self, item: Frame, dst: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item.head.slice(5..));
        dst.put(item.content.unwrap_or_default());
        Ok(())
    }
    fn buffer_settings(&self) -> tonic::codec::BufferSettings {
        small()
    }
}

impl tonic::codec::Decoder for SmallCodec {
    type Item = Request;
    type Error = Status;
    fn decode(&mut self, src: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = src.copy_to_bytes(src.remaining());
        sotw::decode(message).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
    fn buffer_settings(&self) -> tonic::codec::BufferSettings {
        small()
    }
}

pub(super) struct WithCodec(pub(super) watch::Receiver<Push>);

impl tonic::server::StreamingService<Request> for WithCodec {
    type Response = Frame;
    type ResponseStream = BoxStream<Frame>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Request>>) -> Self::Future {
        let mut pushes = self.0.clone();
        pushes.mark_changed();
        let state = (engine(), pushes, request.into_inner());
        let stream = futures::stream::unfold(state, |(mut engine, mut pushes, mut requests)| async move {
            loop {
                if let Some((response, _)) = say(&mut engine, &mut pushes) {
                    return Some((Ok(sotw::encode(&response)), (engine, pushes, requests)));
                }
                tokio::select! {
                    changed = pushes.changed() => changed.ok()?,
                    request = requests.next() => hear(&mut engine, request?.ok()?),
                }
            }
        });
        std::future::ready(Ok(tonic::Response::new(Box::pin(stream))))
    }
}
