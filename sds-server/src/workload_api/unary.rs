//! The calls with one answer: a JWT-SVID, and the judgement of one. Workload API §6.2.1, §6.2.3.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use spiffe_bridge::authority::check_audience;
use spiffe_bridge::identity::WorkloadUpdate;
use spiffe_bridge::jose::jwt_svid;
use spiffe_bridge::node::{Session, TokenRefused, TokenSpec};
use tonic::Status;
use zeroize::Zeroize as _;

use super::feed::{nothing, of_reason};
use super::gate::decoded;
use super::manner::{Manner, WORKLOAD};
use super::message::Message;
use super::metrics::{RefusedFor, sent};
use super::service::Shared;
use super::x509::bundles;
use crate::proto::workload::{Jwtsvid, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use crate::sds::fetch::served;

/// How long a caller that is not known yet is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

type Refusal = (RefusedFor, Status);

/// `FetchJWTSVID` for `audience`: of the identity `spiffe_id` of a session's workload, or of all if that is empty.
pub(crate) async fn fetch(
    audience: Vec<String>,
    spiffe_id: String,
    session: &Session,
    shared: &Shared,
    manner: &Manner,
) -> Result<Message, Refusal> {
    let invalid = |error: spiffe_bridge::authority::SignError| {
        (RefusedFor::Message, Status::invalid_argument(error.to_string()))
    };
    check_audience(&audience, shared.jwt_audiences).map_err(invalid)?; // WA-09, WA-22
    let update = known(session, manner).await?;
    let asked = |id: &str| spiffe_id.is_empty() || id == spiffe_id;
    let identities: Vec<_> =
        update.identities.iter().filter(|identity| asked(&identity.svid.spiffe_id.to_string())).collect();
    if identities.is_empty() {
        return Err(nothing(&update, &shared.readiness, session.caller(), manner));
    }
    let tokens = identities.iter().map(async |identity| {
        let (id, audience) = (identity.svid.spiffe_id.clone(), audience.clone());
        let caller = session.holder().cloned();
        shared.node.token(caller, id, TokenSpec::Jwt { audience }).await?.fresh().await
    });
    let tokens = try_join_all(tokens).await.map_err(of_token)?;
    // It took a while: the process may be another by now.
    session.verify().map_err(|reason| (RefusedFor::Session, (manner.ended)(reason)))?;
    let mut hints = HashSet::new();
    let svids = identities.iter().zip(&tokens).map(|(identity, token)| Jwtsvid {
        spiffe_id: token.spiffe_id.to_string(),
        svid: token.token.expose_text().to_owned(), // wiped below
        hint: identity.hint.as_deref().filter(|hint| hints.insert(*hint)).unwrap_or_default().to_owned(),
    });
    let mut response = JwtsvidResponse { svids: svids.collect() };
    let message = Message::of(&response);
    response.svids.iter_mut().for_each(|svid| svid.svid.zeroize());
    sent(manner, "jwt_svid");
    Ok(message)
}

/// `ValidateJWTSVID`: by the bundle of the token's own trust domain, if the caller may trust it.
pub(super) async fn validate(request: Bytes, session: &Session, shared: &Shared) -> Result<Message, Refusal> {
    let ValidateJwtsvidRequest { audience, svid } = decoded(request)?;
    if audience.is_empty() || svid.is_empty() {
        let text = "a token and the audience that it must be for are needed";
        return Err((RefusedFor::Message, Status::invalid_argument(text)));
    }
    let update = known(session, WORKLOAD).await?;
    if update.bundle.is_none() {
        return Err(nothing(&update, &shared.readiness, session.caller(), WORKLOAD));
    }
    let bundle =
        |domain: &_| bundles(&update).map(|(_, bundle)| bundle).find(|bundle| bundle.trust_domain == *domain);
    let (now, leeway) = (shared.clock.now(), shared.config.jwt_leeway);
    let verified = jwt_svid::verify(&svid, &audience, bundle, now, leeway);
    let verified =
        verified.map_err(|error| (RefusedFor::Token, Status::invalid_argument(error.to_string())))?;
    let fields = verified.claims.into_iter().map(|(name, value)| (name, of_json(value))).collect();
    let (spiffe_id, claims) = (verified.spiffe_id.to_string(), Some(Struct { fields }));
    sent(WORKLOAD, "jwt_validate");
    Ok(Message::of(&ValidateJwtsvidResponse { spiffe_id, claims }))
}

/// What the workload may have, once it is known who it is.
pub(crate) async fn known(session: &Session, manner: &Manner) -> Result<Arc<WorkloadUpdate>, Refusal> {
    match tokio::time::timeout(DEADLINE, served(session)).await {
        Ok(served) => served.map_err(|reason| (of_reason(reason), (manner.ended)(reason))),
        Err(_) => {
            let text = "the workload is still being looked at: come again";
            Err((RefusedFor::Unavailable, Status::unavailable(text)))
        }
    }
}

fn of_token(refused: TokenRefused) -> Refusal {
    match refused {
        TokenRefused::TooMany | TokenRefused::TooFast => {
            (RefusedFor::Streams, Status::resource_exhausted(refused.to_string()))
        }
        _ => (RefusedFor::Unavailable, Status::unavailable(refused.to_string())),
    }
}

/// JSON as the well-known type that carries it; its numbers are doubles.
fn of_json(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(of_json).collect() })
        }
        Json::Object(members) => {
            let fields = members.into_iter().map(|(name, value)| (name, of_json(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}
