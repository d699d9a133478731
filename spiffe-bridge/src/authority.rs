//! The half that signs: one root, an issuing CA below it or none, leaves under that, each reserved, signed and recorded before it goes out.
//! Tokens too, each signed by a key of its kind and recorded before it goes out.
//!
//! ```text
//! sign ─► bounded queue ─► Issuer: batch ─► check, build ─► reserve (durable) ─► sign ─► audit (durable) ─► answer
//! ```
//!
//! - No signature is made before its serial and to-be-signed octets are durable, and none goes out
//!   before its audit record is (invariants 4 and 5).
//! - No leaf outlives the CA that signs it, none is for another trust domain, and none for a CA's own key.
//! - A store that fails stops signing and nothing else: what was issued stays valid (invariant 3).
//! - The CAs' certificates and the journal are in the store, their private keys are in the key manager.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::audit;
use crate::clock::{Clock, Timestamp};
use crate::identity::{Revision, Serial, SpiffeId, TokenKeys, TrustBundle};
use crate::jose::Algorithm;
use crate::keys::{KeyHome, KeyManager, KeyType, PublicKey};
use crate::store::{Store, StoreError};
use crate::x509::{self, CaFacts, Draft, Template};
use signer::Signer;
use token_keys::TokenSigner;

mod batch;
mod config;
mod error;
mod init;
mod issuer;
mod mint;
mod signer;
mod state;
mod token;
mod token_keys;
mod validity;

pub use config::{Config, Hierarchy, LeafRequest};
pub use error::{CompleteError, InitError, IssuerError, OpenError, SignError, StateError};
pub use init::{init, trust_domain_of};
pub use issuer::Issuer;
pub use token::{
    IssuedToken, MAX_AUDIENCE_BYTES, MAX_AUDIENCES, TokenContent, TokenKind, TokenRequest, check_audience,
};
pub use token_keys::complete;

/// Requests that wait to be signed: some full batches, beside those in flight. A caller beyond that waits for a place, which
/// is its back-pressure.
const QUEUE: usize = 8 * issuer::BATCH;

/// A leaf that was issued, and is on record.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The leaf, then the issuing CA if there is one; no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its serial number.
    pub serial: Serial,
    /// The first second in which it is valid.
    pub not_before: Timestamp,
    /// The last one.
    pub not_after: Timestamp,
    /// The store's revision of its audit record.
    pub revision: Revision,
}

/// How the authority is.
#[derive(Debug, Clone, Serialize)]
pub struct AuthorityStatus {
    /// Whose authority it is.
    pub trust_domain: String,
    /// The root's subject.
    pub root_subject: String,
    /// The root's serial number.
    pub root_serial: Serial,
    /// From when the root is valid.
    pub root_not_before: Timestamp,
    /// Until when.
    pub root_not_after: Timestamp,
    /// The root is in the last quarter of its life: rotate it.
    pub root_ends_soon: bool,
    /// Which CA signs leaves.
    pub hierarchy: Hierarchy,
    /// The type of its key.
    pub key_type: KeyType,
    /// Its serial number, if it is not the root.
    pub issuing_serial: Option<Serial>,
    /// The keys that sign tokens, by kind.
    pub token_keys: BTreeMap<&'static str, TokenKeyStatus>,
    /// Leaves and tokens issued since the start of the process.
    pub issued: u64,
    /// What went wrong last, until something goes well again.
    pub last_error: Option<String>,
    /// Where the CA keys are.
    pub key_home: KeyHome,
}

/// A key that signs tokens.
#[derive(Debug, Clone, Serialize)]
pub struct TokenKeyStatus {
    /// What tokens call it by.
    pub kid: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// How many keys of its kind are in the bundle.
    pub published: usize,
}

/// A handle on the authority. Cheap to clone; the [`Issuer`] ends when all are dropped.
#[derive(Clone)]
pub struct Authority {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    bundle: watch::Receiver<Arc<TrustBundle>>,
}

/// What is asked for.
enum Job {
    Leaf(LeafJob),
    Token(TokenJob),
}

/// A request for a leaf, and where its answer goes.
struct LeafJob {
    request: LeafRequest,
    answer: oneshot::Sender<Result<Issued, SignError>>,
}

/// A request for a token, and where its answer goes.
struct TokenJob {
    request: TokenRequest,
    answer: oneshot::Sender<Result<IssuedToken, SignError>>,
}

/// What the handles and the task read alike.
struct Shared {
    config: Config,
    clock: Clock,
    store: Store,
    log: audit::Log,
    keys: Arc<dyn KeyManager>,
    root: CaFacts,
    signer: Signer,
    template: Template,
    jwt: Option<TokenSigner>,
    wit: Option<TokenSigner>,
    /// Two permits for each processor: while one is handed on the other is used.
    processors: Semaphore,
    issued: AtomicU64,
    last_error: ArcSwapOption<String>,
}

impl Shared {
    fn token_signer(&self, kind: TokenKind) -> Option<&TokenSigner> {
        match kind {
            TokenKind::Jwt => self.jwt.as_ref(),
            TokenKind::Wit => self.wit.as_ref(),
        }
    }

    fn token_keys(&self) -> BTreeMap<&'static str, TokenKeyStatus> {
        let describe = |kind: TokenKind| {
            let signer = self.token_signer(kind)?;
            let TokenSigner { kid, algorithm, verifying, .. } = signer;
            let (kid, published) = (kid.to_string(), verifying.len());
            Some((kind.as_str(), TokenKeyStatus { kid, algorithm: *algorithm, published }))
        };
        TokenKind::ALL.into_iter().filter_map(describe).collect()
    }

    /// Whether the authority itself signs with it: nobody else may be given an identity under it. PK-19.
    fn is_own(&self, key: &PublicKey) -> bool {
        [&self.root, &self.signer.facts].into_iter().any(|ca| ca.public_key == *key)
            || self.jwt.iter().chain(&self.wit).any(|signer| signer.public == *key)
    }
}

/// The end of the last certificate that was ever reserved to be signed in `store`, as far as it has not been pruned: no
/// certificate of ours that anybody holds is valid for longer.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub fn issued_until(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    Ok(store.last(state::RESERVED)?.and_then(|(key, _)| state::reservation_ends(&key)))
}

/// Opens the authority that [`init`] made: the handle, and the task that the composition root runs.
///
/// `log` is the one log of this store: its sequence is counted in memory.
///
/// # Errors
/// [`OpenError`]; nothing is changed in any case.
pub fn open(
    config: Config,
    keys: Arc<dyn KeyManager>,
    store: Store,
    log: audit::Log,
    clock: Clock,
) -> Result<(Authority, Issuer), OpenError> {
    let (root, revision) = state::read_root(&store)?.ok_or(OpenError::NotInitialised)?;
    if root.trust_domain != config.trust_domain.as_str() {
        return Err(OpenError::OtherTrustDomain { stored: root.trust_domain });
    }
    let certificate = CertificateDer::from(root.certificate);
    let facts = x509::inspect::ca(&certificate)?;
    let signer = Signer::open(&facts, root.key, state::read_issuing(&store)?, keys.as_ref())?;
    let (kept, asked) =
        ((signer.hierarchy(), signer.facts.public_key.key_type()), (config.hierarchy, config.key_type));
    if kept != asked {
        let advice = "it keeps what init made; a new root is made only by init in another data directory";
        tracing::warn!(?kept, ?asked, advice, "the authority is not the one that the configuration asks for");
    }
    let specimen = SpiffeId::new(format!("spiffe://{}/lint", config.trust_domain.as_str()))?;
    let template = x509::lint(Draft::new(&signer.facts), &signer.facts, &specimen)?;
    let jwt = token_keys::open(TokenKind::Jwt, keys.as_ref(), &store)?;
    let wit = token_keys::open(TokenKind::Wit, keys.as_ref(), &store)?;
    let revision = jwt.iter().chain(&wit).map(|signer| signer.revision).fold(revision, Revision::max);
    let verifying = |signer: &Option<TokenSigner>| signer.iter().flat_map(|s| s.verifying.clone()).collect();
    let tokens = TokenKeys { jwt: verifying(&jwt), wit: verifying(&wit) };
    let bundle =
        TrustBundle::new(config.trust_domain.clone(), vec![certificate], revision).with_tokens(tokens);
    // The sender lives in the task, which alone may change the bundle, once roots rotate.
    let (publisher, bundle) = watch::channel(Arc::new(bundle));
    let shared = Arc::new(Shared {
        config,
        clock,
        store,
        log,
        keys,
        root: facts,
        signer,
        template,
        jwt,
        wit,
        processors: Semaphore::new(2 * std::thread::available_parallelism().map_or(1, usize::from)),
        issued: AtomicU64::new(0),
        last_error: ArcSwapOption::empty(),
    });
    let (jobs, queue) = mpsc::channel(QUEUE);
    let issuer = Issuer::new(shared.clone(), queue, publisher);
    Ok((Authority { shared, jobs, bundle }, issuer))
}

impl Authority {
    /// Issues a leaf. It is reserved and recorded when this returns. If the future is dropped, the
    /// leaf may still be issued, and its record says so.
    ///
    /// # Errors
    /// [`SignError`]: see [`SignError::is_request_fault`] for whose fault it is.
    pub async fn sign(&self, request: LeafRequest) -> Result<Issued, SignError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Leaf(LeafJob { request, answer })).await.map_err(|_| SignError::Stopped)?;
        answered.await.map_err(|_| SignError::Stopped)?
    }

    /// Issues a token. It is recorded when this returns. If the future is dropped, it may still be issued, and its
    /// record says so; nobody has it then.
    ///
    /// # Errors
    /// [`SignError`]: see [`SignError::is_request_fault`] for whose fault it is.
    pub async fn sign_token(&self, request: TokenRequest) -> Result<IssuedToken, SignError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Token(TokenJob { request, answer })).await.map_err(|_| SignError::Stopped)?;
        answered.await.map_err(|_| SignError::Stopped)?
    }

    /// The bundle of our trust domain, and its changes.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Arc<TrustBundle>> {
        self.bundle.clone()
    }

    /// The CAs of ours below the root that stand in the chains of leaves.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.shared.signer.chain
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> AuthorityStatus {
        let shared = &self.shared;
        let validity = shared.root.validity;
        let quarter = validity.not_after.since(validity.not_before) / 4;
        AuthorityStatus {
            trust_domain: shared.config.trust_domain.as_str().to_owned(),
            root_subject: shared.root.subject_text.clone(),
            root_serial: shared.root.serial.clone(),
            root_not_before: validity.not_before,
            root_not_after: validity.not_after,
            root_ends_soon: shared.clock.now() >= validity.not_after - quarter,
            hierarchy: shared.signer.hierarchy(),
            key_type: shared.signer.facts.public_key.key_type(),
            issuing_serial: (!shared.signer.chain.is_empty()).then(|| shared.signer.facts.serial.clone()),
            token_keys: shared.token_keys(),
            issued: shared.issued.load(Ordering::Relaxed),
            last_error: shared.last_error.load().as_deref().cloned(),
            key_home: shared.keys.home(),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.shared.config.trust_domain.as_str())
    }
}
