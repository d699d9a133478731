//! From what a caller holds to the secret of a name: checked, and encoded once for all streams.

use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, GenericSecret, Secret, TlsCertificate,
};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, string};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{
    ContentHash, Identity, Memo, Revision, SpiffeId, TokenSvid, Trust, TrustBundle, Version, WorkloadUpdate,
    X509Svid,
};
use spiffe_bridge::x509::Validity;
use zeroize::Zeroizing;

use super::check::roots::are_too_many_to_list;
use super::check::{Against, CheckError, Checked, judge};
use super::names::Name;
use super::{nobody, pem, trust};

/// The one type that this service serves. XD-02.
pub const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A secret as it goes over the wire, shared by every stream that sends it.
pub struct Resource {
    name: Box<str>,
    version: Version,
    version_text: Box<str>,
    validity: Validity,
    any: Bytes,
    early_reported: Once,
    expiry_reported: Once,
}

/// What came of the secret of a name, kept beside what it is made of.
#[derive(Default)]
pub(super) struct Derived {
    made: OnceLock<Arc<Resource>>,
    /// And the bundle it was refused against: with another it is looked at again.
    refused: Mutex<Option<(CheckError, Option<Version>)>>,
}

/// What a caller gets for a name at this moment.
#[derive(Debug)]
pub enum Lookup {
    /// This secret.
    Available(Arc<Resource>),
    /// No such name, not the caller's, or not yet: one answer for the three (invariant 7).
    NotAvailable,
    /// It is the caller's, but would do harm: it failed its check or has expired. Nothing is said of it, so
    /// that the last good one stays in use (invariant 3).
    Withheld(CheckError),
}

impl Resource {
    /// The name that it is served under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Revision of the ingredient, hash of the encoded secret: the same after a restart. XD-07.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version as it is sent.
    #[must_use]
    pub fn version_text(&self) -> &str {
        &self.version_text
    }

    /// The encoded `google.protobuf.Any`, private key included. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_any(&self) -> &Bytes {
        &self.any
    }

    /// When it may be sent.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    fn fit(self: Arc<Self>, now: Timestamp) -> Result<Arc<Self>, CheckError> {
        let (error, once) = match self.validity {
            Validity { not_after, .. } if now > not_after => (CheckError::Expired, &self.expiry_reported),
            Validity { not_before, .. } if now < not_before => {
                (CheckError::NotYetValid, &self.early_reported)
            }
            _ => return Ok(self),
        };
        // Once a secret, not once a stream.
        once.call_once(|| report(&self.name, error));
        Err(error)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({} {})", self.name, self.version)
    }
}

/// Finds what `name` means for a caller who holds `update`.
#[must_use]
pub fn look_up(update: &WorkloadUpdate, name: &str, now: Timestamp) -> Lookup {
    let against = Against { bundle: update.bundle.as_deref(), now };
    let svid = |identity: &Identity| of_svid(&identity.svid, name, against);
    let bundle = |bundle: &Arc<TrustBundle>| of_bundle(bundle, name, against);
    let trust = |trust: &Arc<Trust>| trust::secret(trust, name, against);
    let answer = match Name::parse(name) {
        Some(Name::Default) => update.identities.first().map(svid),
        Some(Name::Svid { trust_domain, path }) => identity(update, (trust_domain, path)).map(svid),
        Some(Name::Dns { name }) => {
            let id = update.reach.own_names.get(name);
            id.and_then(|id| identity(update, (id.trust_domain_name(), id.path()))).map(svid)
        }
        Some(Name::OwnRoots) => update.bundle.as_ref().map(bundle),
        Some(Name::Bundle { trust_domain }) => {
            let own = update.bundle.iter();
            let all = own.chain(update.reach.all.iter().flat_map(|all| &all.bundles));
            let found = all.into_iter().find(|b| b.trust_domain.as_str() == trust_domain);
            let is_own = found.map(Arc::as_ptr) == update.bundle.as_ref().map(Arc::as_ptr);
            // Our own without roots would shut the mesh: a fault, and withheld.
            found.map(|b| if b.roots.is_empty() && !is_own { of_nobody(b, name, against) } else { bundle(b) })
        }
        Some(Name::All) => update.reach.all.as_ref().map(trust),
        Some(Name::Peers { of: None }) => {
            let first = update.identities.first();
            first.and_then(|first| update.reach.callers.get(&first.svid.spiffe_id)).map(trust)
        }
        Some(Name::Peers { of: Some(id) }) => {
            let id = SpiffeId::new(id).ok();
            id.and_then(|id| update.reach.callers.get(&id)).map(trust)
        }
        Some(Name::Upstream { name }) => update.reach.upstreams.get(name).map(trust),
        // There for the audiences that some stream of the connection asks for: see `Interest`.
        Some(Name::Token { audience }) => {
            update.jwt_svids.get(audience).map(|svid| of_token(svid, name, now))
        }
        None => None,
    };
    match answer.map(|made| made.and_then(|resource| resource.fit(now))) {
        None => Lookup::NotAvailable,
        Some(Ok(resource)) => Lookup::Available(resource),
        Some(Err(error)) => Lookup::Withheld(error),
    }
}

/// A certificate of a caller, by its place among the caller's identities and by the hash of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    at: u32,
    version: Version,
}

impl Place {
    /// Of the certificate that `name` means for a caller who holds `update`, unless it may come to mean another one that
    /// the caller has, as a DNS name may.
    pub(super) fn of(update: &WorkloadUpdate, name: &str) -> Option<Self> {
        let at = match Name::parse(name)? {
            Name::Default => 0,
            Name::Svid { trust_domain, path } => place(update, (trust_domain, path))?,
            _ => return None,
        };
        let version = update.identities.get(at)?.svid.version;
        Some(Self { at: u32::try_from(at).ok()?, version })
    }

    /// Whether the same certificate stands there in `update`, and may still be used.
    pub(super) fn is_in(self, update: &WorkloadUpdate, now: Timestamp) -> bool {
        let identity = update.identities.get(self.at as usize);
        identity
            .is_some_and(|identity| identity.svid.version == self.version && now <= identity.svid.not_after)
    }
}

type Made = Result<Arc<Resource>, CheckError>;

/// The caller's identity of that trust domain and path.
fn identity<'u>(update: &'u WorkloadUpdate, wanted: (&str, &str)) -> Option<&'u Identity> {
    update.identities.get(place(update, wanted)?)
}

fn place(update: &WorkloadUpdate, wanted: (&str, &str)) -> Option<usize> {
    let key = |i: &Identity| {
        let id = &i.svid.spiffe_id;
        (id.trust_domain_name(), id.path()).cmp(&wanted)
    };
    // Sorted by SPIFFE ID, says WorkloadUpdate.
    update.identities.binary_search_by(key).ok()
}

fn of_svid(svid: &X509Svid, name: &str, against: Against<'_>) -> Made {
    Derived::of(&svid.memo, name, against, svid.version.revision, || {
        let chain = pem::write(svid.chain.iter().map(AsRef::as_ref), "CERTIFICATE");
        let key = pem::write([svid.key.expose_pkcs8()].into_iter(), "PRIVATE KEY");
        Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..TlsCertificate::default()
        })
    })
}

fn of_bundle(bundle: &TrustBundle, name: &str, against: Against<'_>) -> Made {
    Derived::of(&bundle.memo, name, against, bundle.version.revision, || {
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(trust::roots(bundle))),
            suppress_client_ca_list: are_too_many_to_list(bundle.roots.iter()),
            ..CertificateValidationContext::default()
        })
    })
}

/// The same of a trust domain that trusts nobody any more.
fn of_nobody(bundle: &TrustBundle, name: &str, against: Against<'_>) -> Made {
    Derived::of(&bundle.memo, name, against, bundle.version.revision, || {
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(pem::write(std::iter::once(nobody::ROOT), "CERTIFICATE"))),
            ..CertificateValidationContext::default()
        })
    })
}

/// The generic secret of `name`, which is `jwt:<audience>`: a JWT-SVID in compact form, for Envoy's credential injector.
fn of_token(svid: &TokenSvid, name: &str, now: Timestamp) -> Made {
    let against = Against { bundle: None, now };
    Derived::of(&svid.memo, name, against, svid.version.revision, || {
        let secret = Some(inline(svid.token.expose_text().to_owned()));
        Type::GenericSecret(GenericSecret { secret, ..GenericSecret::default() })
    })
}

/// What a secret that is not of an SVID becomes under `name`, if it may be sent.
pub(super) fn made_of(secret: Secret, name: &str, revision: Revision, now: Timestamp) -> Made {
    let checked = judge(secret, name, Against { bundle: None, now });
    let checked = checked.inspect_err(|error| report(name, *error))?;
    encode(&checked, revision).fit(now)
}

impl Derived {
    /// The secret of `name` out of `memo`, made by `content` if it is not there and judged by `against`.
    pub(super) fn of(
        memo: &Memo,
        name: &str,
        against: Against<'_>,
        revision: Revision,
        content: impl FnOnce() -> Type,
    ) -> Made {
        let derived = memo.get_or_derive(name, Self::default);
        if let Some(resource) = derived.made.get() {
            return Ok(resource.clone());
        }
        // One makes it, the others wait for that: it is to be reported once.
        let mut refused = derived.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resource) = derived.made.get() {
            return Ok(resource.clone());
        }
        let bundle = against.bundle.map(|bundle| bundle.version);
        if let Some((error, by)) = *refused
            && by == bundle
        {
            return Err(error);
        }
        let secret = Secret { name: name.to_owned(), r#type: Some(content()) };
        match judge(secret, name, against) {
            Ok(checked) => Ok(derived.made.get_or_init(|| encode(&checked, revision)).clone()),
            Err(error) => {
                report(name, error);
                *refused = Some((error, bundle));
                Err(error)
            }
        }
    }
}

/// Loud, once for each secret, but for what mends itself.
fn report(name: &str, error: CheckError) {
    if error == CheckError::NotYetNamed {
        // If the certificate cannot be had, whoever issues it says so.
        tracing::info!(name, %error, "secret waits for it, the last good one stays");
        return;
    }
    metrics::counter!("countersign_sds_withheld_total", "reason" => error.reason()).increment(1);
    tracing::error!(name, %error, "secret not sent, the last good one stays: it would do harm");
}

pub(super) fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())), ..DataSource::default() }
}

/// The `Any` around what passed the check, in one buffer that is wiped with its last reader.
fn encode(checked: &Checked, revision: Revision) -> Arc<Resource> {
    let secret = checked.expose_secret();
    let len = secret.encoded_len();
    let mut any = Zeroizing::new(Vec::with_capacity(len + TYPE_URL.len() + 32));
    string::encode(1, &TYPE_URL.to_owned(), &mut *any);
    encode_key(2, WireType::LengthDelimited, &mut *any);
    encode_varint(len as u64, &mut *any);
    secret.encode_raw(&mut *any);
    let version = Version { revision, hash: ContentHash::of(&[&any]) };
    let any = Bytes::from_owner(any);
    Arc::new(Resource {
        name: secret.name.as_str().into(),
        version,
        version_text: version.to_string().into(),
        validity: checked.validity(),
        any,
        early_reported: Once::new(),
        expiry_reported: Once::new(),
    })
}
