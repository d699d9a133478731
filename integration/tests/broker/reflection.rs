//! Calls that are built from what reflection tells and from nothing else, as `grpcurl` does it, on both sockets.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use integration::sds;
use prost::Message;
use prost_types::FileDescriptorProto;
use protox::prost_reflect::{DescriptorPool, DynamicMessage, MapKey, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::fixture::{BROKER, Node, WEB, next};

/// Their messages are the same.
const VERSIONS: [&str; 2] = ["grpc.reflection.v1", "grpc.reflection.v1alpha"];

/// Messages that are encoded already.
#[derive(Clone, Copy)]
struct Octets;

impl Codec for Octets {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Octets {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Octets {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// A socket, and the header that its API asks for.
struct Door(Channel, &'static str);

impl Door {
    async fn client(&self) -> tonic::client::Grpc<Channel> {
        let mut client = tonic::client::Grpc::new(self.0.clone());
        client.ready().await.unwrap();
        client
    }

    fn marked<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(self.1, "true".parse().unwrap());
        request
    }

    /// What that version of reflection answers.
    async fn reflected(&self, version: &str, question: MessageRequest) -> MessageResponse {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let path = format!("/{version}.ServerReflection/ServerReflectionInfo").parse().unwrap();
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let asked = self.marked(tokio_stream::once(question));
        let mut answers = self.client().await.streaming(asked, path, codec).await.unwrap().into_inner();
        next(&mut answers).await.unwrap().message_response.unwrap()
    }

    /// All that is told of `symbols`: their files, and whatever those import.
    async fn pool(&self, version: &str, symbols: &[&str]) -> DescriptorPool {
        let by_symbol = |symbol: &&str| MessageRequest::FileContainingSymbol((*symbol).to_owned());
        let mut questions: Vec<_> = symbols.iter().map(by_symbol).collect();
        let mut files = BTreeMap::new();
        while let Some(question) = questions.pop() {
            let answer = self.reflected(version, question.clone()).await;
            let MessageResponse::FileDescriptorResponse(told) = answer else {
                panic!("{question:?}: {answer:?}")
            };
            for file in told.file_descriptor_proto {
                let file = FileDescriptorProto::decode(&*file).unwrap();
                let missing = file.dependency.iter().filter(|name| !files.contains_key(*name));
                questions.extend(missing.cloned().map(MessageRequest::FileByFilename));
                files.insert(file.name().to_owned(), file);
            }
        }
        // Empty at first: it knows no well-known types, and takes nothing that does not resolve.
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files.into_values()).unwrap();
        pool
    }

    /// The first answer to `method` of `service`, whose request `fill` fills in.
    async fn call(
        &self,
        pool: &DescriptorPool,
        (service, method): (&str, &str),
        fill: impl FnOnce(&mut DynamicMessage),
    ) -> DynamicMessage {
        let service = pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|known| known.name() == method).unwrap();
        let mut request = DynamicMessage::new(method.input());
        fill(&mut request);
        let path = format!("/{}/{}", service.full_name(), method.name()).parse().unwrap();
        let asked = self.marked(request.encode_to_vec());
        let answers = self.client().await.server_streaming(asked, path, Octets).await;
        let mut answers: Streaming<Vec<u8>> = answers.unwrap().into_inner();
        DynamicMessage::decode(method.output(), &*next(&mut answers).await.unwrap()).unwrap()
    }
}

/// What stands at the end of `path`, which goes by the first of each list.
fn at(message: &DynamicMessage, path: &[&str]) -> Value {
    let mut value = Value::Message(message.clone());
    for name in path {
        value = match &value {
            Value::Message(message) => message.get_field_by_name(name).unwrap().into_owned(),
            Value::Map(members) => members[&MapKey::String((*name).to_owned())].clone(),
            other => panic!("{name} of {other:?}"),
        };
        if let Value::List(list) = value {
            value = list.into_iter().next().unwrap();
        }
    }
    value
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workload_api_is_called_by_what_reflection_tells() {
    let node = Node::start().await;
    let door = Door(sds::connect(&node.server.socket()).await.unwrap(), "workload.spiffe.io");
    for version in VERSIONS {
        let pool = door.pool(version, &["SpiffeWorkloadAPI"]).await;
        assert!(pool.get_file_by_name("google/protobuf/struct.proto").is_some(), "{version}");
        let api = |method| ("SpiffeWorkloadAPI", method);
        let told = door.call(&pool, api("FetchX509SVID"), |_| {}).await;
        assert_eq!(at(&told, &["svids", "spiffe_id"]), text(BROKER));
        let audience = Value::List(vec![text("reports")]);
        let told = door
            .call(&pool, api("FetchJWTSVID"), |request| request.set_field_by_name("audience", audience))
            .await;
        let token = at(&told, &["svids", "svid"]);
        let judged = door.call(&pool, api("ValidateJWTSVID"), |request| {
            request.set_field_by_name("audience", text("reports"));
            request.set_field_by_name("svid", token);
        });
        // Read as a google.protobuf.Struct that came over reflection too.
        let claims = ["claims", "fields", "sub", "string_value"];
        assert_eq!(at(&judged.await, &claims), text(BROKER), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_api_is_called_by_what_reflection_tells() {
    const REFERENCE: &str = "spiffe.broker.WorkloadPIDReference";
    let node = Node::start().await;
    let (door, workload) = (Door(node.broker().await, "broker.spiffe.io"), node.workload());
    for version in VERSIONS {
        let pool = door.pool(version, &["spiffe.broker.API", REFERENCE]).await;
        let message = |name: &str| DynamicMessage::new(pool.get_message_by_name(name).unwrap());
        let mut process = message(REFERENCE);
        process.set_field_by_name("pid", Value::I32(i32::try_from(workload.id()).unwrap()));
        let mut any = message("google.protobuf.Any");
        any.set_field_by_name("type_url", text(&format!("type.googleapis.com/{REFERENCE}")));
        any.set_field_by_name("value", Value::Bytes(process.encode_to_vec().into()));
        let mut reference = message("spiffe.broker.WorkloadReference");
        reference.set_field_by_name("reference", Value::Message(any));
        let told = door.call(&pool, ("spiffe.broker.API", "SubscribeToX509SVID"), |request| {
            request.set_field_by_name("reference", Value::Message(reference));
        });
        assert_eq!(at(&told.await, &["svids", "spiffe_id"]), text(WEB), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_that_reflection_lists_can_be_called_by_it() {
    let node = Node::start().await;
    let api = Door(sds::connect(&node.server.socket()).await.unwrap(), "workload.spiffe.io");
    for door in [api, Door(node.broker().await, "broker.spiffe.io")] {
        for version in VERSIONS {
            let answer = door.reflected(version, MessageRequest::ListServices(String::new())).await;
            let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
            assert!(list.service.len() >= 2, "{list:?}");
            for service in &list.service {
                let pool = door.pool(version, &[&service.name]).await;
                let known = pool.get_service_by_name(&service.name).unwrap();
                assert!(known.methods().len() > 0, "{service:?}");
            }
            let pool = door.pool(version, &["grpc.health.v1.Health"]).await;
            let told = door.call(&pool, ("grpc.health.v1.Health", "Check"), |_| {}).await;
            assert_eq!(at(&told, &["status"]), Value::EnumNumber(1), "SERVING, as its file says");
        }
    }
}
