//! The entries of one moment, and which of them a set of selectors matches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::{DEFAULT_PROFILE, Entry, Profile, Terms};
use crate::identity::{Revision, Selector, SelectorSet, SpiffeId, TrustBundle};
use crate::keys::KeyType;

/// The entries, sorted, with an index by selector.
///
/// Each entry hangs on one of its selectors, its rarest: a caller's selectors lead to the few
/// entries that hang on them, and only those are compared in full.
#[derive(Debug, Default)]
pub struct EntryIndex {
    revision: Revision,
    /// By SPIFFE ID, then by entry id.
    entries: Vec<Arc<Entry>>,
    anchors: HashMap<Selector, Vec<usize>>,
    /// Entries that ask for what costs something, by the rarest of their other selectors.
    costly: HashMap<Selector, Vec<usize>>,
    /// What is asked for by entries that have no other selectors.
    always: Needs,
    /// Entries by those who may call them.
    peers: HashMap<SpiffeId, Vec<usize>>,
    /// Bundles of other trust domains, by domain.
    federated: Vec<Arc<TrustBundle>>,
    /// By name.
    profiles: BTreeMap<String, Arc<Profile>>,
    /// The profiles that entries name; `None` is for those that name none.
    named: BTreeSet<Option<String>>,
}

/// Which of the evidence that costs something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Needs {
    /// The path of the executable.
    pub path: bool,
    /// The hash of the executable.
    pub sha256: bool,
    /// The names of users and groups: the system's databases may ask a server on the network.
    pub names: bool,
    /// The hash of a remote caller's certificate: with it, callers that are alike in all else are told apart.
    pub certificate: bool,
    /// What the runtime says of its container.
    pub docker: bool,
    /// What systemd says of its unit.
    pub systemd: bool,
    /// What Kubernetes says of its pod.
    pub kubernetes: bool,
}

impl Needs {
    /// Nothing.
    pub const NONE: Self = Self {
        path: false,
        sha256: false,
        names: false,
        certificate: false,
        docker: false,
        systemd: false,
        kubernetes: false,
    };
    /// Everything.
    pub const ALL: Self = Self {
        path: true,
        sha256: true,
        names: true,
        certificate: true,
        docker: true,
        systemd: true,
        kubernetes: true,
    };

    /// What a selector asks for.
    pub(crate) fn of(selector: &Selector) -> Self {
        let unix = |key| selector.kind() == "unix" && selector.value().starts_with(key);
        let names = ["user:", "group:", "supplementary_group:"].into_iter().any(unix);
        let certificate = selector.kind() == "x509" && selector.value().starts_with("sha256:");
        let docker = selector.kind() == "docker";
        let systemd = selector.kind() == "systemd";
        let kubernetes = selector.kind() == "k8s";
        Self { path: unix("path:"), sha256: unix("sha256:"), names, certificate, docker, systemd, kubernetes }
    }

    /// Whether to find it out may take long: reading a whole file, or asking a server.
    #[must_use]
    pub fn may_block(self) -> bool {
        self.sha256 || self.names
    }

    /// Whether a service of the machine must be asked.
    #[must_use]
    pub fn services(self) -> bool {
        self.docker || self.systemd || self.kubernetes
    }

    /// What either asks for.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            path: self.path || other.path,
            sha256: self.sha256 || other.sha256,
            names: self.names || other.names,
            certificate: self.certificate || other.certificate,
            docker: self.docker || other.docker,
            systemd: self.systemd || other.systemd,
            kubernetes: self.kubernetes || other.kubernetes,
        }
    }

    /// What of it can be found out of callers that have `selectors`: processes here, or remote ones.
    pub(crate) fn of_callers_with(self, selectors: &SelectorSet) -> Self {
        match selectors.first().is_some_and(|selector| selector.kind() == "x509") {
            true => Self { certificate: self.certificate, ..Self::default() },
            false => Self { certificate: false, ..self },
        }
    }

    /// Whether all that `other` asks for is among what `self` asks for.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.or(other) == self
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl EntryIndex {
    /// The index of `entries` as of `revision`. An entry that stands in two files is taken once.
    #[must_use]
    pub fn new(revision: Revision, entries: impl IntoIterator<Item = Arc<Entry>>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        sort(&mut entries);
        entries.dedup_by(|later, first| later.id == first.id);
        let mut uses: HashMap<&Selector, usize> = HashMap::new();
        for selector in entries.iter().flat_map(|entry| &entry.selectors) {
            *uses.entry(selector).or_default() += 1;
        }
        let rarest = |a: &&Selector, b: &&Selector| uses.get(a).cmp(&uses.get(b)).then(a.cmp(b));
        let (mut anchors, mut costly): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) = Default::default();
        let mut always = Needs::default();
        let mut peers: HashMap<_, Vec<_>> = HashMap::new();
        for (n, entry) in entries.iter().enumerate() {
            if let Some(anchor) = entry.selectors.iter().min_by(rarest) {
                push(&mut anchors, anchor, n);
            }
            entry.peers.iter().for_each(|peer| push(&mut peers, peer, n));
            let needs = asked_by(entry);
            let plain = entry.selectors.iter().filter(|s| Needs::of(s).is_none());
            match plain.min_by(rarest) {
                _ if needs.is_none() => {}
                Some(anchor) => push(&mut costly, anchor, n),
                None => always = always.or(needs),
            }
        }
        let named: BTreeSet<&Option<String>> = entries.iter().map(|entry| &entry.profile).collect();
        let named = named.into_iter().cloned().collect();
        let (federated, profiles) = Default::default();
        Self { revision, entries, anchors, costly, always, peers, federated, profiles, named }
    }

    /// The same with the bundles of other trust domains.
    #[must_use]
    pub fn with_bundles(mut self, bundles: impl IntoIterator<Item = Arc<TrustBundle>>) -> Self {
        self.federated = bundles.into_iter().collect();
        self.federated.sort_by(|a, b| a.trust_domain.cmp(&b.trust_domain));
        self
    }

    /// The same with the profiles that are declared.
    #[must_use]
    pub fn with_profiles(mut self, profiles: impl IntoIterator<Item = Arc<Profile>>) -> Self {
        self.profiles = profiles.into_iter().map(|profile| (profile.name.clone(), profile)).collect();
        self
    }

    /// The profiles that are declared, by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }

    /// How the SVIDs of `entry` are made.
    #[must_use]
    pub fn terms(&self, entry: &Entry) -> Terms {
        self.terms_of(entry.profile.as_deref())
    }

    /// The types of keys that entries ask for.
    #[must_use]
    pub fn key_types(&self) -> BTreeSet<KeyType> {
        self.named.iter().map(|name| self.terms_of(name.as_deref()).key_type).collect()
    }

    fn terms_of(&self, profile: Option<&str>) -> Terms {
        // No entry is accepted whose profile is not declared.
        self.profiles.get(profile.unwrap_or(DEFAULT_PROFILE)).map(|profile| profile.terms).unwrap_or_default()
    }

    /// The bundles of other trust domains, by domain.
    #[must_use]
    pub fn federated(&self) -> &[Arc<TrustBundle>] {
        &self.federated
    }

    /// The entries that `id` may call: those that have it among their peers.
    pub fn callable_by(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Entry>> {
        self.peers.get(id).into_iter().flatten().filter_map(|n| self.entries.get(*n))
    }

    /// When an entry last changed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// All entries, by SPIFFE ID, then by entry id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The entries that give `id`, by entry id.
    pub fn giving<'i>(&'i self, id: &'i SpiffeId) -> impl Iterator<Item = &'i Arc<Entry>> {
        let first = self.entries.partition_point(|entry| entry.spiffe_id < *id);
        self.entries.iter().skip(first).take_while(move |entry| entry.spiffe_id == *id)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries all of whose selectors are in `selectors`, by SPIFFE ID, then by entry id.
    #[must_use]
    pub fn matching(&self, selectors: &SelectorSet) -> Vec<Arc<Entry>> {
        let mut found: Vec<_> = candidates(&self.anchors, selectors).collect();
        found.sort_unstable(); // The order of `entries` is the order that is promised.
        let found = found.into_iter().filter_map(|n| self.entries.get(n));
        found.filter(|entry| entry.selectors.is_subset(selectors)).cloned().collect()
    }

    /// What must still be found out of a caller of whom `selectors`, without those that cost something, are known:
    /// what the entries ask for that match but for these.
    #[must_use]
    pub fn needs(&self, selectors: &SelectorSet) -> Needs {
        let found = candidates(&self.costly, selectors).filter_map(|n| self.entries.get(n));
        let has = |s: &Selector| selectors.contains(s) || !Needs::of(s).is_none();
        let matching = found.filter(|entry| entry.selectors.iter().all(has));
        matching.map(|entry| asked_by(entry)).fold(self.always, Needs::or)
    }
}

/// Brings entries into the order of the index. What is mostly in order, as lists are that were sorted before, costs one
/// look: a stable sort merges its runs.
pub(super) fn sort(entries: &mut [Arc<Entry>]) {
    entries.sort_by(|a, b| (&a.spiffe_id, &a.id, &a.source).cmp(&(&b.spiffe_id, &b.id, &b.source)));
}

/// Most keys are there already: they are not copied for each entry.
fn push<K: Clone + Eq + Hash>(map: &mut HashMap<K, Vec<usize>>, key: &K, n: usize) {
    match map.get_mut(key) {
        Some(list) => list.push(n),
        None => drop(map.insert(key.clone(), vec![n])),
    }
}

fn asked_by(entry: &Entry) -> Needs {
    entry.selectors.iter().map(Needs::of).fold(Needs::default(), Needs::or)
}

fn candidates<'i>(
    index: &'i HashMap<Selector, Vec<usize>>,
    selectors: &'i SelectorSet,
) -> impl Iterator<Item = usize> + 'i {
    selectors.iter().filter_map(|selector| index.get(selector)).flatten().copied()
}
