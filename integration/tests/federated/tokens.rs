//! Whose tokens are good.

use integration::poll;
use integration::scratch::Scratch;
use integration::server::Server;
use integration::workload::ask;
use prost_types::value::Kind;
use sds_server::proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use tonic::{Code, Status};

use super::partner::{FRONT, PATIENCE, Signer, WEB, authority, publish, served};

async fn judged(server: &Server, token: &str, audience: &str) -> Result<ValidateJwtsvidResponse, Status> {
    let question = ValidateJwtsvidRequest { audience: audience.into(), svid: token.into() };
    ask(&server.socket(), "ValidateJWTSVID", question).await
}

async fn assert_refused(server: &Server, token: &str, audience: &str, why: &str) {
    let refused = judged(server, token, audience).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{why}: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partners_token_is_good_for_as_long_as_its_key_stands_in_the_document() {
    let scratch = Scratch::new().unwrap();
    let (server, partner) = (served(&scratch).await, authority());
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let token = one.token(FRONT);
    assert_refused(&server, &token, "reports", "nobody knows the partner").await;

    publish(&server, 1, &[&partner], &[&one], "");
    let is_good = async |token: &str| judged(&server, token, "reports").await.is_ok();
    poll::holds("it is good", PATIENCE, async || is_good(&token).await).await.unwrap();
    let told = judged(&server, &token, "reports").await.unwrap();
    assert_eq!(told.spiffe_id, FRONT);
    let claims = told.claims.unwrap().fields;
    assert_eq!(claims["colour"].kind, Some(Kind::StringValue("blue".into())));
    assert_refused(&server, &token, "billing", "it is for others").await;
    assert_refused(&server, &one.token(WEB), "reports", "the partner says who is whom of ours").await;
    assert_refused(&server, &one.token("spiffe://third.test/web"), "reports", "or of a third").await;
    assert_refused(&server, &Signer::new("one").token(FRONT), "reports", "another key of that name").await;

    publish(&server, 2, &[&partner], &[&two], "");
    poll::holds("its key is gone", PATIENCE, async || !is_good(&token).await).await.unwrap();
    let token = two.token(FRONT);
    assert_eq!(judged(&server, &token, "reports").await.unwrap().spiffe_id, FRONT, "the new one is there");
    server.remove_documents("partner").unwrap();
    poll::holds("the partner is gone", PATIENCE, async || !is_good(&token).await).await.unwrap();
    assert_refused(&server, &token, "reports", "nobody knows the partner any more").await;
}
