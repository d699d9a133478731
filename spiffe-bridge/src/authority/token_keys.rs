//! The keys that sign tokens: made once, recorded beside the root, read at every start.
//!
//! A record lists every key of its kind whose tokens may still be about, and says which one signs: the bundle holds
//! them all. Today there is one; replacing it is rotation's work.

use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::state::{put, read};
use super::token::TokenKind;
use super::{CompleteError, Config, OpenError, StateError, init};
use crate::audit::{self, Event};
use crate::identity::{Revision, TokenKey};
use crate::jose::{Algorithm, jwk, jwt_svid, wit_svid};
use crate::keys::{KeyId, KeyManager, PublicKey, SignatureScheme};
use crate::store::{Compare, Store, Transaction, Write};
use crate::x509::random_serial;

/// Signs the tokens of one kind.
pub(super) struct TokenSigner {
    pub(super) key: KeyId,
    pub(super) kid: Arc<str>,
    pub(super) algorithm: Algorithm,
    pub(super) scheme: SignatureScheme,
    /// Of every token of its kind, JSON.
    pub(super) header: Vec<u8>,
    pub(super) public: PublicKey,
    /// Everything that verifies tokens of its kind, its own key included.
    pub(super) verifying: Vec<TokenKey>,
    /// Of the record.
    pub(super) revision: Revision,
}

/// The keys of a kind, as they are recorded.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    /// The kid of the one that signs.
    signs: String,
    keys: Vec<KeyLine>,
}

impl Document {
    /// The log says so where the configuration asks for another algorithm than that of the key that there is.
    fn tell_if_not_of(&self, kind: TokenKind, algorithm: Algorithm) {
        let signs = self.keys.iter().find(|line| line.kid == self.signs);
        if let Some(line) = signs.filter(|line| line.algorithm != algorithm) {
            tracing::warn!(
                kind = kind.as_str(), key = %line.algorithm, configured = %algorithm,
                "tokens go on being signed with the key that there is: its algorithm was chosen when it was made"
            );
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLine {
    key: String,
    kid: String,
    algorithm: Algorithm,
}

/// The step that makes one. rotation.md, "Steps".
#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    PrepareTokenKey { format: u32, key: String, algorithm: Algorithm },
}

const FORMAT: u32 = 1;

const fn record(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Jwt => "authority/tokens/jwt",
        TokenKind::Wit => "authority/tokens/wit",
    }
}

const fn journal(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Jwt => "authority/journal/jwt",
        TokenKind::Wit => "authority/journal/wit",
    }
}

/// Makes the keys of tokens that the store has none of yet: at the first start of an authority, or the first of a
/// version that knows them. An authority that has them keeps them. Run it before [`super::open`], with the one log of the
/// store; cut off, it is resumed by the next run.
///
/// # Errors
/// [`CompleteError`].
pub async fn complete(
    config: &Config,
    keys: Arc<dyn KeyManager>,
    store: &Store,
    log: &audit::Log,
) -> Result<(), CompleteError> {
    for (kind, algorithm) in [(TokenKind::Jwt, config.jwt_algorithm), (TokenKind::Wit, config.wit_algorithm)]
    {
        match read::<Document>(store, record(kind))? {
            None => make(kind, algorithm, keys.clone(), store, log).await?,
            Some((document, _)) => document.tell_if_not_of(kind, algorithm),
        }
    }
    Ok(())
}

async fn make(
    kind: TokenKind,
    algorithm: Algorithm,
    keys: Arc<dyn KeyManager>,
    store: &Store,
    log: &audit::Log,
) -> Result<(), CompleteError> {
    let (key, algorithm) = prepare(kind, algorithm, store).await?;
    let (key_type, _) = algorithm.signing().ok_or(CompleteError::Algorithm { algorithm })?;
    let public = tokio::task::spawn_blocking({
        let key = key.clone();
        move || init::make_key(keys.as_ref(), &key, key_type).and_then(|()| keys.public(&key))
    });
    let public = public.await.map_err(|_| CompleteError::CutOff)??;
    let kid = kid_of(&public);
    let detail = json!({ "kind": kind, "key": key.as_str(), "kid": kid, "algorithm": algorithm });
    let event = Event::new("authority.token_key_created", kid.as_str(), detail);
    let line = KeyLine { key: key.to_string(), kid: kid.clone(), algorithm };
    let document = Document { format: FORMAT, signs: kid, keys: vec![line] };
    let writes = vec![put(record(kind), &document), Write::Delete { key: journal(kind).into() }];
    let compares = vec![Compare::Absent(record(kind).into())];
    log.append_with([event], Transaction { compares, writes }).await?;
    Ok(())
}

/// Writes the step into the journal, or finds it there. The key that was begun is the one that is finished.
async fn prepare(
    kind: TokenKind,
    algorithm: Algorithm,
    store: &Store,
) -> Result<(KeyId, Algorithm), CompleteError> {
    match read(store, journal(kind))? {
        Some((Step::PrepareTokenKey { format: FORMAT, key, algorithm }, _)) => {
            return Ok((key.parse()?, algorithm));
        }
        Some(_) => return Err(StateError::Unknown { key: journal(kind) }.into()),
        None => {}
    }
    let tail: Vec<u8> = random_serial()?.octets().iter().skip(1).take(8).copied().collect();
    let key: KeyId = format!("{}-{}", kind.as_str(), HEXLOWER.encode(&tail)).parse()?;
    let step = Step::PrepareTokenKey { format: FORMAT, key: key.to_string(), algorithm };
    let compares = vec![Compare::Absent(record(kind).into()), Compare::Absent(journal(kind).into())];
    store.transact(Transaction { compares, writes: vec![put(journal(kind), &step)] }).await?;
    Ok((key, algorithm))
}

/// Names a key by itself, so that no two keys of a bundle have one name. WIT-SVID §6.1.
fn kid_of(public: &PublicKey) -> String {
    BASE64URL_NOPAD.encode(&public.key_identifier())
}

/// The signer of `kind`; `None` before [`complete`].
pub(super) fn open(
    kind: TokenKind,
    keys: &dyn KeyManager,
    store: &Store,
) -> Result<Option<TokenSigner>, OpenError> {
    let Some((document, revision)) = read::<Document>(store, record(kind))? else { return Ok(None) };
    let unknown = || StateError::Unknown { key: record(kind) };
    if document.format != FORMAT {
        return Err(unknown().into());
    }
    let (mut verifying, mut signs) = (Vec::new(), None);
    for line in document.keys {
        let key: KeyId = line.key.parse().map_err(|_| unknown())?;
        let public = keys.public(&key)?;
        if kid_of(&public) != line.kid {
            return Err(OpenError::KeyMismatch { key });
        }
        let kid: Arc<str> = line.kid.into();
        let material = jwk::of_public(&public).ok_or_else(unknown)?;
        verifying.push(TokenKey { kid: kid.clone(), material });
        if *kid == *document.signs {
            let (_, scheme) = line.algorithm.signing().ok_or_else(unknown)?;
            signs = Some((key, kid, line.algorithm, scheme, public));
        }
    }
    let (key, kid, algorithm, scheme, public) = signs.ok_or_else(unknown)?;
    let header = match kind {
        TokenKind::Jwt => jwt_svid::header(algorithm, &kid),
        TokenKind::Wit => wit_svid::header(algorithm, &kid),
    };
    Ok(Some(TokenSigner { key, kid, algorithm, scheme, header, public, verifying, revision }))
}
