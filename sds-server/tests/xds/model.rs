//! The engine against a model of Envoy: late and lost ACKs, NACKs, reconnects, names that come and go, updates.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use sds_server::sds::request::Names;
use sds_server::sds::{Heard, Lookup, Protocol, Request, Subscription, secret};
use spiffe_bridge::identity::{TrustBundle, WorkloadUpdate, X509Svid};

use super::fixture::{API, Answering, Said, WEB, all, bundle, change, now, say, svid};

const NAMES: [&str; 6] = ["default", "ROOTCA", WEB, API, "spiffe://example.org", "no-such-name"];

type Pool = (Vec<Arc<X509Svid>>, Vec<Arc<X509Svid>>, Vec<Arc<TrustBundle>>);

static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let svids = |id| (1..5).map(|revision| Arc::new(svid(id, revision))).collect();
    (svids(API), svids(WEB), (1..5).map(bundle).collect())
});

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// The caller holds these from now on.
    Update { api: Option<usize>, web: Option<usize>, bundle: Option<usize> },
    /// The client wants these names from now on.
    Want(BTreeSet<usize>),
    /// The server gets to send up to so many.
    Send(usize),
    /// The client answers the oldest response that it has not answered.
    Answer { refuse: bool },
    /// The client takes it in but does not answer it.
    Lose,
    /// The stream breaks, and the client opens another.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || proptest::option::of(0..4usize);
    prop_oneof![
        3 => (some(), some(), some()).prop_map(|(api, web, bundle)| Step::Update { api, web, bundle }),
        3 => proptest::collection::btree_set(0..NAMES.len(), 0..NAMES.len()).prop_map(Step::Want),
        6 => (1..4usize).prop_map(Step::Send),
        6 => proptest::bool::weighted(0.2).prop_map(|refuse| Step::Answer { refuse }),
        1 => Just(Step::Lose),
        1 => Just(Step::Reconnect),
    ]
}

struct Model {
    engine: Subscription,
    protocol: Protocol,
    streams: u64,
    update: Arc<WorkloadUpdate>,
    want: BTreeSet<usize>,
    /// What the client took for each name, and refused in this stream.
    has: BTreeMap<String, String>,
    refused: BTreeSet<(String, String)>,
    /// Since the name was subscribed or its content changed: sent.
    sent: BTreeSet<(String, String)>,
    inbox: VecDeque<Said>,
    newest_nonce: String,
    nonces: BTreeSet<String>,
}

impl Model {
    fn new(protocol: Protocol) -> Self {
        let engine = Subscription::new(protocol, &Default::default(), 1);
        Self {
            engine,
            protocol,
            streams: 1,
            update: Arc::default(),
            want: BTreeSet::new(),
            has: BTreeMap::new(),
            refused: BTreeSet::new(),
            sent: BTreeSet::new(),
            inbox: VecDeque::new(),
            newest_nonce: String::new(),
            nonces: BTreeSet::new(),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.want.iter().map(|at| NAMES[*at]).collect()
    }

    fn current(&self, name: &str) -> Option<String> {
        match secret::look_up(&self.update, name, now()) {
            Lookup::Available(resource) => Some(resource.version().to_string()),
            _ => None,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Update { api, web, bundle } => {
                let (apis, webs, bundles) = &*POOL;
                let svids = api.map(|at| apis[at].clone()).into_iter().chain(web.map(|at| webs[at].clone()));
                let identities = svids.map(|svid| spiffe_bridge::identity::Identity { svid, hint: None });
                let bundle = bundle.map(|at| bundles[at].clone());
                self.update = Arc::new(WorkloadUpdate {
                    identities: identities.collect(),
                    bundle,
                    ..WorkloadUpdate::default()
                });
                self.sent.clear(); // anything may be new
            }
            Step::Want(want) => {
                let (old, new): (BTreeSet<_>, BTreeSet<_>) = (self.want.clone(), want);
                self.want = new.clone();
                let pick = |set: Vec<usize>| set.into_iter().map(|at| NAMES[at]).collect::<Vec<_>>();
                let added = pick(new.difference(&old).copied().collect());
                let dropped = pick(old.difference(&new).copied().collect());
                for name in &dropped {
                    self.has.remove(*name);
                    self.refused.retain(|(n, _)| n != name);
                    self.sent.retain(|(n, _)| n != name);
                    // Envoy would not apply it any more.
                }
                let request = match self.protocol {
                    Protocol::Sotw => all(&self.names()).to(&self.newest_nonce),
                    Protocol::Delta => change(&added, &dropped),
                };
                self.tell(request);
            }
            Step::Send(count) => {
                for _ in 0..count {
                    let Some(response) = self.engine.next(&self.update, now()) else { break };
                    self.receive(as_said(response));
                }
            }
            Step::Answer { refuse } => self.answer(refuse),
            Step::Lose => {
                // What it shows next is still the newest nonce that it was given.
                if let Some(said) = self.inbox.pop_front() {
                    self.newest_nonce = said.nonce().to_owned();
                }
            }
            Step::Reconnect => {
                self.streams += 1;
                self.engine = Subscription::new(self.protocol, &Default::default(), self.streams);
                self.inbox.clear();
                self.newest_nonce.clear();
                self.sent.clear();
                self.refused.clear();
                let mut request = match self.protocol {
                    Protocol::Sotw => all(&self.names()),
                    Protocol::Delta => change(&self.names(), &[]),
                };
                if let Names::Change { held, .. } = &mut request.names {
                    *held = self.has.clone().into_iter().collect();
                }
                self.tell(request);
            }
        }
        assert!(self.engine.names().len() <= NAMES.len(), "bounded");
    }

    fn receive(&mut self, said: Said) {
        assert!(self.nonces.insert(said.nonce().to_owned()), "a nonce came twice: {said:?}");
        match &said {
            Said::Secret { name, version, .. } => {
                assert_eq!(self.current(name).as_ref(), Some(version), "not the newest: {said:?}");
                let pair = (name.clone(), version.clone());
                assert!(!self.refused.contains(&pair), "refused before: {said:?}");
                assert!(self.sent.insert(pair), "sent before without cause: {said:?}");
            }
            Said::Gone { names, .. } => {
                assert_eq!(self.protocol, Protocol::Delta);
                for name in names {
                    assert_eq!(self.current(name), None, "it is available: {name}");
                }
            }
        }
        self.inbox.push_back(said);
    }

    fn tell(&mut self, request: Request) -> Heard {
        let heard = self.engine.request(request, now()).unwrap();
        // A name that is dropped and added again is sent again. XD-12.
        let held: Vec<_> = self.engine.names().into_iter().map(|slot| slot.name).collect();
        self.sent.retain(|(name, _)| held.contains(name));
        heard
    }

    /// Envoy answers in the order of arrival.
    fn answer(&mut self, refuse: bool) {
        let Some(said) = self.inbox.pop_front() else { return };
        self.newest_nonce = said.nonce().to_owned();
        let request = match self.protocol {
            Protocol::Sotw => all(&self.names()),
            Protocol::Delta => change(&[], &[]),
        };
        let mut request = request.to(said.nonce());
        match said {
            Said::Secret { name, version, .. } => {
                let wanted = self.names().contains(&name.as_str());
                // A response that crossed a change of the name's subscription, or a newer one of it, is stale.
                let newer =
                    self.inbox.iter().any(|s| matches!(s, Said::Secret { name: n, .. } if *n == name));
                let current =
                    self.engine.names().iter().any(|slot| {
                        slot.name == name && slot.version.is_some_and(|v| v.to_string() == version)
                    });
                if refuse {
                    request = request.refusing();
                    if wanted && !newer && current {
                        let heard = self.tell(request);
                        if matches!(heard, Heard::Nacked(_)) {
                            // Only the last: other content came in between, so Envoy looks at it afresh.
                            self.refused.retain(|(n, _)| *n != name);
                            self.refused.insert((name, version));
                        }
                        return;
                    }
                } else if wanted {
                    self.has.insert(name, version);
                }
            }
            Said::Gone { names, .. } => {
                for name in names {
                    self.has.remove(&name);
                }
            }
        }
        self.tell(request);
    }

    /// The network is good again, nothing more changes: the client ends with all that is newest.
    fn settle(&mut self) {
        if self.protocol == Protocol::Sotw {
            // What was not answered in time is answered now, by the newest nonce; the rest of the inbox follows.
            let late = all(&self.names()).to(&self.newest_nonce);
            self.tell(late);
        }
        for round in 0.. {
            let said = say(&mut self.engine, &self.update);
            let quiet = said.is_empty() && self.inbox.is_empty();
            for said in said {
                self.receive(said);
            }
            while !self.inbox.is_empty() {
                self.answer(false);
            }
            if quiet {
                break;
            }
            assert!(round < 20, "it never comes to rest");
        }
    }
}

fn as_said(response: sds_server::sds::Response) -> Said {
    use sds_server::sds::Response;
    match response {
        Response::Secret { nonce, resource } => Said::Secret {
            nonce: nonce.to_string(),
            name: resource.name().to_owned(),
            version: resource.version().to_string(),
        },
        Response::Removed { nonce, names } => {
            Said::Gone { nonce: nonce.to_string(), names: names.iter().map(|n| n.to_string()).collect() }
        }
    }
}

fn check(protocol: Protocol, steps: Vec<Step>) {
    let mut model = Model::new(protocol);
    let mut lossy = false;
    for step in steps {
        lossy |= matches!(step, Step::Lose);
        if matches!(step, Step::Reconnect) {
            lossy = false;
        }
        model.apply(step);
    }
    // A stream is reliable: what was lost is the client's answer, so what it has is known from what was sent.
    model.settle();
    for name in model.names() {
        let Some(version) = model.current(name) else { continue };
        let refused = model.refused.contains(&(name.to_owned(), version.clone()));
        let slot = model.engine.names().into_iter().find(|slot| slot.name == name).expect("subscribed");
        if !refused {
            assert_eq!(slot.version.map(|v| v.to_string()), Some(version.clone()), "{name} was not sent");
            if !lossy {
                assert_eq!(model.has.get(name), Some(&version), "{name} does not have the newest");
            }
        }
    }
    assert!(say(&mut model.engine, &model.update).is_empty(), "at rest, nothing is sent");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn sotw_ends_with_the_newest(steps in proptest::collection::vec(step(), 1..60)) {
        check(Protocol::Sotw, steps);
    }

    #[test]
    fn delta_ends_with_the_newest(steps in proptest::collection::vec(step(), 1..60)) {
        check(Protocol::Delta, steps);
    }
}
