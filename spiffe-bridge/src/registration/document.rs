//! Entry documents: YAML text to checked entries, or what is wrong with it and where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use spiffe::TrustDomain;

use super::{Entry, EntryId, FederatedBundle, Profile, Terms};
use crate::identity::{SelectorSet, parse_workload_id};
use crate::jose::bundle::BundleDocument;
use crate::keys::KeyType;

mod print;
mod raw;
mod rules;

pub use print::{profile_to_yaml, to_yaml};
use raw::{Head, Kind, Raw};

/// The most bytes of one file.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most documents in one file.
pub const MAX_DOCUMENTS: usize = 10_000;
/// The most selectors of one entry.
pub const MAX_SELECTORS: usize = 64;
/// The most DNS names of one entry: each goes into the certificate.
pub const MAX_DNS_NAMES: usize = 64;
/// The most peers of one entry: each becomes a matcher in Envoy.
pub const MAX_PEERS: usize = 1024;
/// The longest name of a profile.
pub const MAX_PROFILE_NAME: usize = 63;
/// The shortest lifetime that a profile may give: a renewal has some seconds to be retried in.
pub const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// The longest: what the authority shortens every lifetime to.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The most bytes of a hint. Workload API §5.2.1.
pub const MAX_HINT_BYTES: usize = 1024;

/// What is wrong with a file, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{}: {message}", place(.file, *.line, *.column))]
pub struct Fault {
    /// The file's name.
    pub file: Arc<str>,
    /// Counted from 1; 0 if the fault is in the file as a whole.
    pub line: u64,
    /// In characters, counted from 1; 0 if the fault is in the file as a whole.
    pub column: u64,
    /// What to do about it.
    pub message: String,
}

/// `file:line:column` for people: a fault in the file as a whole has no line.
#[must_use]
pub fn place(file: &str, line: u64, column: u64) -> String {
    // A name may hold what would end the line.
    let file = file.escape_debug();
    if line == 0 { file.to_string() } else { format!("{file}:{line}:{column}") }
}

/// A document that was read, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it says.
    pub content: Content,
    /// The line of its SPIFFE ID, trust domain or name, counted from 1.
    pub line: u64,
    /// The column of the same, in characters, counted from 1.
    pub column: u64,
    /// Line and column of the profile that an entry names, if it names one.
    pub profile_at: Option<(u64, u64)>,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `kind: Workload`
    Workload(Arc<Entry>),
    /// `kind: TrustDomain`
    TrustDomain(Arc<FederatedBundle>),
    /// `kind: Profile`
    Profile(Arc<Profile>),
}

impl Document {
    /// The entry, if it is a `Workload`.
    #[must_use]
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.content {
            Content::Workload(entry) => Some(entry),
            Content::TrustDomain(_) | Content::Profile(_) => None,
        }
    }
}

/// Reads the documents of one file.
///
/// # Errors
/// Every [`Fault`] that was found: all of those in values, or the first one in the YAML itself.
pub fn parse(text: &str, file: &Arc<str>, trust_domain: &TrustDomain) -> Result<Vec<Document>, Vec<Fault>> {
    let mut faults = Faults { file: file.clone(), found: Vec::new() };
    if text.len() as u64 > MAX_FILE_BYTES {
        faults.add(
            Location::UNKNOWN,
            format!("{} bytes: at most {MAX_FILE_BYTES} are read, split the file", text.len()),
        );
        return Err(faults.found);
    }
    let heads: Vec<Head> = read(text).map_err(|e| vec![faults.yaml(&e)])?;
    for kind in heads.iter().map(|head| &head.kind).filter(|kind| Kind::of(&kind.value).is_none()) {
        let message =
            format!("kind {:?} is not known: write Workload, TrustDomain or Profile", short(&kind.value));
        faults.add(kind.referenced, message);
    }
    if !faults.found.is_empty() {
        return Err(faults.found);
    }
    let documents: Vec<Raw> = read(text).map_err(|e| vec![faults.yaml(&e)])?;
    let mut read = Vec::with_capacity(documents.len());
    let (mut lines, mut domains) = (BTreeMap::<EntryId, u64>::new(), BTreeMap::<TrustDomain, u64>::new());
    let mut profiles = BTreeMap::<String, u64>::new();
    for document in documents {
        let profile_at = document.profile.as_ref().map(|p| (p.referenced.line(), p.referenced.column()));
        let Some((content, at)) = check(document, trust_domain, &mut faults) else { continue };
        let (first, what) = match &content {
            Content::Workload(entry) => {
                let what = format!("{} has an entry with these selectors", entry.spiffe_id);
                (lines.insert(entry.id.clone(), at.line()), what)
            }
            Content::TrustDomain(bundle) => {
                let what = format!("{} has a bundle", bundle.trust_domain);
                (domains.insert(bundle.trust_domain.clone(), at.line()), what)
            }
            Content::Profile(profile) => {
                let what = format!("profile {} is declared", profile.name);
                (profiles.insert(profile.name.clone(), at.line()), what)
            }
        };
        if let Some(first) = first {
            faults.add(at, format!("{what} in line {first} already: remove one"));
        }
        read.push(Document { content, line: at.line(), column: at.column(), profile_at });
    }
    if faults.found.is_empty() { Ok(read) } else { Err(faults.found) }
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<Vec<T>, Box<serde_saphyr::Error>> {
    // A value is plain text or a list of it: no depth, no aliases, no merges, no tags are needed, so none are taken.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 8,
            max_aliases: 0,
            max_anchors: 0,
            max_documents: MAX_DOCUMENTS,
            max_nodes: 400_000,
            max_events: 800_000,
            flow_nesting_limit: 8,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        no_schema: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(Box::new)
}

/// One document and the place of its name; adds what is wrong with it to `faults`, and then may return `None`.
fn check(raw: Raw, own: &TrustDomain, faults: &mut Faults) -> Option<(Content, Location)> {
    let kind = Kind::of(&raw.kind.value)?;
    for (key, at) in raw.keys_not_of(kind) {
        faults.add(at, format!("unknown field `{key}`: a {} has none", raw.kind.value));
    }
    let mut lacks = |key: &str| faults.add(raw.kind.referenced, format!("missing field `{key}`"));
    match kind {
        Kind::Workload => {
            if raw.selectors.is_none() {
                lacks("selectors");
            }
            if raw.spiffe_id.is_none() {
                lacks("spiffe_id");
            }
            let at = raw.spiffe_id.as_ref()?.referenced;
            Some((Content::Workload(Arc::new(check_workload(raw, own, faults)?)), at))
        }
        Kind::Profile => {
            let Some(name) = &raw.name else {
                lacks("name");
                return None;
            };
            let at = name.referenced;
            Some((Content::Profile(Arc::new(check_profile(raw, faults)?)), at))
        }
        Kind::TrustDomain => {
            if raw.bundle.is_none() {
                lacks("bundle");
            }
            let Some(name) = &raw.trust_domain else {
                lacks("trust_domain");
                return None;
            };
            let trust_domain = faults.take(name, |text| rules::foreign_domain(text, own));
            let bundle = faults.take(raw.bundle.as_ref()?, rules::bundle);
            let BundleDocument { roots, tokens, sequence } = bundle?;
            // A value that is wrong is a fault, and not as if it were not there.
            let crls = raw
                .crls
                .as_ref()
                .map_or(Some(Vec::new()), |text| faults.take(text, |text| rules::crls(text, &roots)));
            let (trust_domain, mut crls, source) = (trust_domain?, crls?, faults.file.clone());
            if roots.is_empty() {
                crls.clear(); // nobody is left whom they could shut out
            }
            let bundle = FederatedBundle { trust_domain, roots, crls, tokens, sequence, source };
            Some((Content::TrustDomain(Arc::new(bundle)), name.referenced))
        }
    }
}

fn check_profile(raw: Raw, faults: &mut Faults) -> Option<Profile> {
    let Raw { kind, name, key_type, lifetime, .. } = raw;
    if key_type.is_none() && lifetime.is_none() {
        faults.add(kind.referenced, "it decides nothing: give key_type, lifetime or both".to_owned());
    }
    let name = faults.take(&name?, rules::profile);
    // A value that is wrong is a fault, and not as if it were not there.
    let key_type = key_type.map_or(Some(KeyType::default()), |text| faults.take(&text, rules::key_type));
    let lifetime = lifetime.map_or(Some(None), |text| faults.take(&text, rules::lifetime).map(Some));
    let terms = Terms { key_type: key_type?, lifetime: lifetime? };
    Some(Profile { name: name?, terms, source: faults.file.clone() })
}

fn check_workload(raw: Raw, trust_domain: &TrustDomain, faults: &mut Faults) -> Option<Entry> {
    let Raw { spiffe_id, selectors, remote, dns_names, profile, peers, hint, .. } = raw;
    let remote = remote.is_some_and(|remote| remote.value);
    let id = faults.take(&spiffe_id?, |text| rules::own_id(text, trust_domain));
    let selectors = check_selectors(&selectors?, remote, faults);
    let (dns_names, peers) = (dns_names.unwrap_or_default(), peers.unwrap_or_default());
    faults.at_most(&dns_names, MAX_DNS_NAMES, "dns_names");
    let dns_names = faults.take_all(&dns_names, |name| rules::dns_name(name).map(|()| name.to_owned()));
    faults.at_most(&peers, MAX_PEERS, "peers");
    let peers = faults.take_all(&peers, |text| parse_workload_id(text).map_err(|e| rules::explain(&e)));
    let profile = profile.and_then(|profile| faults.take(&profile, rules::profile));
    let hint = hint.and_then(|hint| faults.take(&hint, rules::hint));
    let (spiffe_id, selectors) = (id?, selectors?);
    let id = EntryId::of(&spiffe_id, &selectors);
    let source = faults.file.clone();
    Some(Entry { id, spiffe_id, selectors, remote, dns_names, profile, peers, hint, source })
}

fn check_selectors(
    listed: &Spanned<Vec<Spanned<String>>>,
    remote: bool,
    faults: &mut Faults,
) -> Option<SelectorSet> {
    if listed.value.is_empty() {
        let message = "no selectors: any caller would match, list at least one such as unix:uid:1001";
        faults.add(listed.referenced, message.to_owned());
        return None;
    }
    faults.at_most(&listed.value, MAX_SELECTORS, "selectors");
    let selectors = faults.take_all(&listed.value, |text| rules::selector(text, remote));
    let whole = selectors.len() == listed.value.len();
    let set: SelectorSet = selectors.into_iter().collect();
    (whole && !set.is_empty()).then_some(set)
}

/// Collects what is wrong with one file.
struct Faults {
    file: Arc<str>,
    found: Vec<Fault>,
}

impl Faults {
    /// More than this many help nobody.
    const MOST: usize = 100;

    fn add(&mut self, at: Location, message: String) {
        if self.found.len() < Self::MOST {
            self.found.push(Fault { file: self.file.clone(), line: at.line(), column: at.column(), message });
        }
    }

    fn take<T>(&mut self, text: &Spanned<String>, rule: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        rule(&text.value).map_err(|message| self.add(text.referenced, message)).ok()
    }

    /// The values that hold the rule; each one may be listed once only.
    fn take_all<T>(&mut self, texts: &[Spanned<String>], rule: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut seen = std::collections::HashSet::new();
        let mut good = Vec::with_capacity(texts.len());
        for text in texts {
            if seen.insert(text.value.as_str()) {
                good.extend(self.take(text, &rule));
            } else {
                self.add(text.referenced, format!("{:?} is listed twice: remove one", short(&text.value)));
            }
        }
        good
    }

    fn at_most<T>(&mut self, list: &[Spanned<T>], most: usize, what: &str) {
        if let Some(first) = list.get(most) {
            self.add(first.referenced, format!("{} {what}: at most {most} are allowed", list.len()));
        }
    }

    fn yaml(&self, error: &serde_saphyr::Error) -> Fault {
        let at = error.location().unwrap_or(Location::UNKNOWN);
        // The place is told by the fault itself, and one line is enough for a log.
        let message = error.to_string().lines().next().unwrap_or_default().to_owned();
        let message = message.replace(&format!(" at line {}, column {}", at.line(), at.column()), "");
        let message = match message.split_once(", set DuplicateKeyPolicy") {
            Some((message, _)) => format!("{message}: remove one"),
            None if message.starts_with("budget breached: Anchors")
                || message.starts_with("budget breached: Aliases") =>
            {
                "an entry file has no anchors or aliases: write the value out".to_owned()
            }
            None if message.starts_with("budget breached") => {
                format!("{message}: an entry file has at most {MAX_DOCUMENTS} documents, split it")
            }
            None => match message.as_str() {
                "expected sequence start" => "a list is expected: write it as [a, b]".to_owned(),
                "expected mapping start" => "a document is expected: begin with kind: Workload".to_owned(),
                "expected string scalar" => {
                    "a text is expected, without a space after a colon: write unix:uid:1001".to_owned()
                }
                _ => message,
            },
        };
        let message = short(&message).to_owned();
        Fault { file: self.file.clone(), line: at.line(), column: at.column(), message }
    }
}

/// Cut for a message.
fn short(text: &str) -> &str {
    text.char_indices().nth(200).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}
