//! One batch of tokens: check, sign, record, answer. A signature that is not recorded never leaves this file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use zeroize::Zeroizing;

use super::batch::{check_id, compute, note};
use super::token::{IssuedToken, TokenContent, TokenKind, TokenRequest, check_audience};
use super::validity::whole;
use super::{Shared, SignError, TokenJob};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::identity::{Revision, Token, text_of};
use crate::jose::jws::{finish, signing_input};
use crate::jose::{Algorithm, jwk, jwt_svid, wit_svid};
use crate::keys::PublicKey;
use crate::x509::random_serial;

/// A token that may go out, once it is recorded.
struct Minted {
    job: TokenJob,
    token: IssuedToken,
}

/// What the audit record says of a token: all but the token, which is a credential as long as it lives.
#[derive(Serialize)]
struct Particulars {
    kind: TokenKind,
    token_id: Arc<str>,
    kid: Arc<str>,
    /// Of a JWT-SVID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<String>,
    issued: Timestamp,
    not_after: Timestamp,
}

/// Issues `jobs` and answers each of them.
pub(super) async fn issue(shared: Arc<Shared>, jobs: Vec<TokenJob>) {
    if jobs.is_empty() {
        return;
    }
    let minted = compute(&shared, jobs, {
        let shared = shared.clone();
        move |jobs| jobs.into_iter().filter_map(|job| mint_or_refuse(&shared, job)).unzip()
    });
    let Some((minted, events)): Option<(Vec<Minted>, Vec<_>)> = minted.await else { return };
    if minted.is_empty() {
        return;
    }
    match shared.log.append(events).await {
        Ok(revision) => {
            count(&shared, &minted);
            minted.into_iter().for_each(|minted| answer(minted, revision));
        }
        Err(error) => {
            let error = SignError::from(error);
            minted.into_iter().for_each(|minted| refuse(&shared, minted.job, error.clone()));
        }
    }
}

fn mint_or_refuse(shared: &Shared, job: TokenJob) -> Option<(Minted, Event<Particulars>)> {
    if job.answer.is_closed() {
        return None; // Nobody waits for it any more.
    }
    match mint(shared, &job.request) {
        Ok((token, event)) => Some((Minted { job, token }, event)),
        Err(error) => {
            refuse(shared, job, error);
            None
        }
    }
}

fn mint(shared: &Shared, request: &TokenRequest) -> Result<(IssuedToken, Event<Particulars>), SignError> {
    let TokenRequest { spiffe_id, content, lifetime } = request;
    check_id(shared, spiffe_id)?;
    let (kind, config) = (content.kind(), &shared.config);
    let signer = shared.token_signer(kind).ok_or(SignError::NoTokenKey { kind })?;
    let lifetime = lifetime.unwrap_or(match kind {
        TokenKind::Jwt => config.jwt_lifetime,
        TokenKind::Wit => config.wit_lifetime,
    });
    let lifetime = lifetime.min(config.longest_leaf_lifetime);
    if lifetime < Duration::from_secs(1) {
        return Err(SignError::TooShort);
    }
    let issued = whole(shared.clock.now());
    let expires = issued + lifetime;
    // 128 random bits and more: no two tokens of a trust domain have one name. WIT-SVID §3.3.
    let token_id: Arc<str> = BASE64URL_NOPAD.encode(random_serial()?.octets()).into();
    let (claims, said) = match content {
        TokenContent::Jwt { audience } => {
            check_audience(audience, config.jwt_audiences)?;
            let content = jwt_svid::Content { spiffe_id, audience, issued, expires, token_id: &token_id };
            (content.claims(), audience.clone())
        }
        TokenContent::Wit { public_key } => {
            if shared.is_own(public_key) {
                return Err(SignError::AuthorityKey);
            }
            let material = jwk::of_public(public_key).ok_or(SignError::NoTokenAlgorithm)?;
            let algorithm = holder_algorithm(public_key).ok_or(SignError::NoTokenAlgorithm)?;
            let begins = whole(issued - config.backdate);
            let key = (&material, algorithm);
            let content = wit_svid::Content { spiffe_id, key, issued, begins, expires, token_id: &token_id };
            (content.claims(), Vec::new())
        }
    };
    let mut text = Zeroizing::new(signing_input(&signer.header, &claims));
    let signature = shared.keys.sign(&signer.key, signer.scheme, text.as_bytes())?;
    finish(&mut text, &signature);
    let kid = signer.kid.clone();
    let (id, not_after) = (token_id.clone(), expires);
    let particulars = Particulars { kind, token_id: id, kid, audience: said, issued, not_after };
    let event = Event::new("token.issued", text_of(spiffe_id), particulars);
    let token = Token::from_text(text);
    Ok((IssuedToken { token, token_id, issued, not_after: expires, revision: Revision::default() }, event))
}

/// The algorithm that a holder proves its key with: one a kind of key.
fn holder_algorithm(key: &PublicKey) -> Option<Algorithm> {
    Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.signing().is_some_and(|(_, scheme)| scheme.fits(key.key_type())))
}

fn count(shared: &Shared, minted: &[Minted]) {
    shared.issued.fetch_add(minted.len() as u64, Ordering::Relaxed);
    for kind in TokenKind::ALL {
        let is_of_it = |minted: &&Minted| minted.job.request.content.kind() == kind;
        let count = minted.iter().filter(is_of_it).count() as u64;
        metrics::counter!("countersign_svids_issued_total", "kind" => kind.as_str()).increment(count);
    }
    if shared.last_error.load().is_some() {
        shared.last_error.store(None);
    }
}

fn answer(minted: Minted, revision: Revision) {
    let Minted { job, mut token } = minted;
    token.revision = revision;
    let kind = job.request.content.kind().as_str();
    tracing::debug!(spiffe_id = %job.request.spiffe_id, kind, token_id = %token.token_id, "issued");
    let _ = job.answer.send(Ok(token)); // Its caller may have gone; the record stands.
}

fn refuse(shared: &Shared, job: TokenJob, error: SignError) {
    note(shared, &error);
    let _ = job.answer.send(Err(error));
}
