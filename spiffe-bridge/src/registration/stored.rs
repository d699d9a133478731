//! The accepted form of a file, as it is kept in the store.

use std::sync::Arc;

use data_encoding::BASE64;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Entry, EntryId, FederatedBundle, Profile, Terms};
use crate::clock::duration;
use crate::identity::{Selector, SelectorSet, SpiffeId, TokenKeys, parse_spiffe_id, parse_trust_domain};
use crate::jose::jwk;
use crate::keys::UnknownKeyType;

/// Under it, by file name, lies what was accepted.
pub(super) const PREFIX: &[u8] = b"registration/file/";

/// All of the registration in the store.
pub(super) const ALL: &[u8] = b"registration/";
/// Written with each change, so that the revision of a removal is remembered too.
pub(super) const CHANGED: &[u8] = b"registration/changed";

/// The form that is written; a newer one is not guessed at.
const FORM: u32 = 1;

/// What was accepted of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) federated: Vec<Arc<FederatedBundle>>,
    pub(super) profiles: Vec<Arc<Profile>>,
}

impl Form {
    /// In the order in which it comes back from the store: else it would seem to have changed.
    pub(super) fn arranged(mut self) -> Self {
        self.federated.sort_by_key(|bundle| bundle.roots.is_empty());
        self
    }

    /// What it grants, counted by the brake: a SPIFFE ID an entry, a trust domain's own a bundle.
    pub(super) fn grants(&self) -> impl Iterator<Item = SpiffeId> {
        let entries = self.entries.iter().map(|entry| entry.spiffe_id.clone());
        entries.chain(self.federated.iter().filter_map(|bundle| grant_of(bundle)))
    }
}

/// A bundle, as the brake counts it: the ID of its trust domain, which always is one.
pub(super) fn grant_of(bundle: &FederatedBundle) -> Option<SpiffeId> {
    SpiffeId::from_segments(bundle.trust_domain.clone(), &[]).ok()
}

/// A version that knows no bundles or no profiles reads the entries and leaves those out.
#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    entries: Vec<Line>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trust_domains: Vec<BundleLine>,
    /// Those that have no roots: a version that does not know of such leaves them out, and lets nobody of them in either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trust_domains_without_roots: Vec<BundleLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    profiles: Vec<ProfileLine>,
}

#[derive(Serialize, Deserialize)]
struct ProfileLine {
    name: String,
    key_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct BundleLine {
    trust_domain: String,
    /// DER in base64.
    roots: Vec<String>,
    /// DER in base64. A version that does not know them serves the roots alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crls: Vec<String>,
    /// JWKs with their kid, nothing else of the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jwt_keys: Vec<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wit_keys: Vec<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    spiffe_id: String,
    selectors: Vec<String>,
    /// A version that does not know it reads the entry, and finds nobody who has its `x509:` selectors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    remote: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Why what is in the store cannot be read. Ours, or that of a newer version.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the accepted form of entry file {file} cannot be read ({why}): run the version that wrote it")]
pub struct StoredError {
    file: String,
    why: String,
}

pub(super) fn key_of(file: &str) -> Vec<u8> {
    [PREFIX, file.as_bytes()].concat()
}

pub(super) fn file_of(key: &[u8]) -> Option<Arc<str>> {
    str::from_utf8(key.strip_prefix(PREFIX)?).ok().map(Into::into)
}

pub(super) fn encode(form: &Form) -> Vec<u8> {
    let line = |entry: &Arc<Entry>| Line {
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        remote: entry.remote,
        dns_names: entry.dns_names.clone(),
        profile: entry.profile.clone(),
        peers: entry.peers.iter().map(ToString::to_string).collect(),
        hint: entry.hint.as_deref().map(Into::into),
    };
    let bundle = |bundle: &Arc<FederatedBundle>| BundleLine {
        trust_domain: bundle.trust_domain.to_string(),
        roots: bundle.roots.iter().map(|root| BASE64.encode(root)).collect(),
        crls: bundle.crls.iter().map(|crl| BASE64.encode(crl)).collect(),
        jwt_keys: bundle.tokens.jwt.iter().map(jwk::named).collect(),
        wit_keys: bundle.tokens.wit.iter().map(jwk::named).collect(),
        sequence: bundle.sequence,
    };
    let profile = |profile: &Arc<Profile>| ProfileLine {
        name: profile.name.clone(),
        key_type: profile.terms.key_type.to_string(),
        lifetime: profile.terms.lifetime.map(duration::format),
    };
    let (rootless, rooted): (Vec<_>, Vec<_>) = form.federated.iter().partition(|of| of.roots.is_empty());
    let file = File {
        form: FORM,
        entries: form.entries.iter().map(line).collect(),
        trust_domains: rooted.into_iter().map(bundle).collect(),
        trust_domains_without_roots: rootless.into_iter().map(bundle).collect(),
        profiles: form.profiles.iter().map(profile).collect(),
    };
    // Texts and lists of them always serialise; a form that could not be read is refused by `decode`.
    serde_json::to_vec(&file).unwrap_or_default()
}

pub(super) fn decode(bytes: &[u8], source: &Arc<str>) -> Result<Form, StoredError> {
    let fail = |why: String| StoredError { file: source.to_string(), why };
    let file: File = serde_json::from_slice(bytes).map_err(|e| fail(e.to_string()))?;
    if file.form != FORM {
        return Err(fail(format!("form {}", file.form)));
    }
    let bundles = file.trust_domains.into_iter().chain(file.trust_domains_without_roots);
    let entry = |line| entry(line, source).map(Arc::new).map_err(fail);
    let federated = |line| federated(line, source).map(Arc::new).map_err(fail);
    let profile = |line| profile(line, source).map(Arc::new).map_err(fail);
    Ok(Form {
        entries: file.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        federated: bundles.map(federated).collect::<Result<_, _>>()?,
        profiles: file.profiles.into_iter().map(profile).collect::<Result<_, _>>()?,
    })
}

fn profile(line: ProfileLine, source: &Arc<str>) -> Result<Profile, String> {
    let key_type =
        line.key_type.parse().map_err(|e: UnknownKeyType| format!("profile {}: {e}", line.name))?;
    let lifetime = line.lifetime.as_deref().map(duration::parse).transpose().map_err(|e| e.to_string())?;
    Ok(Profile { name: line.name, terms: Terms { key_type, lifetime }, source: source.clone() })
}

fn federated(line: BundleLine, source: &Arc<str>) -> Result<FederatedBundle, String> {
    let root = |text: &String| BASE64.decode(text.as_bytes()).map(CertificateDer::from);
    let roots: Vec<_> = line.roots.iter().map(root).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let crl = |text: &String| BASE64.decode(text.as_bytes()).map(CertificateRevocationListDer::from);
    let crls = line.crls.iter().map(crl).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let keys = |jwks: &[Map<String, Value>]| {
        jwks.iter().map(jwk::token_key).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())
    };
    let tokens = TokenKeys { jwt: keys(&line.jwt_keys)?, wit: keys(&line.wit_keys)? };
    Ok(FederatedBundle {
        tokens,
        trust_domain: parse_trust_domain(&line.trust_domain).map_err(|e| e.to_string())?,
        roots,
        crls,
        sequence: line.sequence,
        source: source.clone(),
    })
}

fn entry(line: Line, source: &Arc<str>) -> Result<Entry, String> {
    let id = |text: &String| parse_spiffe_id(text).map_err(|e| e.to_string());
    let spiffe_id = id(&line.spiffe_id)?;
    let selector = |text: &String| text.parse::<Selector>().map_err(|e| e.to_string());
    let selectors: SelectorSet = line.selectors.iter().map(selector).collect::<Result<_, _>>()?;
    if selectors.is_empty() {
        return Err(format!("{spiffe_id} without selectors")); // It would match every process.
    }
    if selectors.iter().any(|selector| (selector.kind() == "x509") != line.remote) {
        return Err(format!("{spiffe_id} with selectors of remote and local callers")); // It would be both's.
    }
    Ok(Entry {
        id: EntryId::of(&spiffe_id, &selectors),
        peers: line.peers.iter().map(id).collect::<Result<_, _>>()?,
        spiffe_id,
        selectors,
        remote: line.remote,
        dns_names: line.dns_names,
        profile: line.profile,
        hint: line.hint.map(Into::into),
        source: source.clone(),
    })
}
