//! What each attestor says of a process, and what is unknown for that reason.

use spiffe_bridge::attest::workload::Unseen;
use spiffe_bridge::attest::{Attestation, Missing, Service};
use spiffe_bridge::identity::{Selector, SelectorSet};

use crate::admin::{Attested, AttestorState};

/// How the selectors begin that are not known, and why.
#[derive(Debug, Default)]
pub(super) struct Unknown(Vec<(String, String)>);

impl Unknown {
    /// Why `selector` is not known, if it is not.
    pub(super) fn why(&self, selector: &Selector) -> Option<&str> {
        let is_it = |(begin, _): &&(String, String)| selector.as_str().starts_with(begin.as_str());
        self.0.iter().find(is_it).map(|(_, why)| why.as_str())
    }
}

/// Each attestor that was asked, in the order of their questions. `text` tells a selector.
pub(super) fn by_attestor(
    attestation: &Attestation,
    text: impl Fn(&Selector) -> String,
) -> (Vec<Attested>, Unknown) {
    let evidence = attestation.evidence();
    let texts =
        |selectors: &mut dyn Iterator<Item = &Selector>| selectors.map(&text).collect::<Vec<String>>();
    let unix = Attested {
        attestor: "unix".to_owned(),
        state: kernel(&attestation.missing),
        selectors: texts(&mut attestation.selectors.iter().filter(|selector| selector.kind() == "unix")),
        why: attestation.missing.iter().map(ToString::to_string).collect(),
    };
    let mut unknown: Vec<_> =
        attestation.missing.iter().map(|why| (begin(*why).to_owned(), why.to_string())).collect();
    let mut all = vec![unix];
    for (service, selectors, unseen) in evidence.by_service() {
        let attested = Attested {
            attestor: service.as_str().to_owned(),
            state: state(selectors, unseen),
            selectors: texts(&mut selectors.iter()),
            why: match unseen {
                Some(unseen) => vec![unseen.to_string()],
                None if selectors.is_empty() => vec![nothing(service).to_owned()],
                None => Vec::new(),
            },
        };
        unknown.extend(attested.why.first().map(|why| (format!("{}:", service.as_str()), why.clone())));
        all.push(attested);
    }
    (all, Unknown(unknown))
}

fn kernel(missing: &[Missing]) -> AttestorState {
    match missing {
        [] => AttestorState::Answered,
        all if all.contains(&Missing::OtherNamespace) => AttestorState::Nothing,
        _ => AttestorState::Partly,
    }
}

/// How the selectors begin that a reason takes away.
fn begin(missing: Missing) -> &'static str {
    match missing {
        Missing::NoPath => "unix:path:",
        Missing::TooLarge | Missing::TooSlow => "unix:sha256:",
        _ => "unix:",
    }
}

fn state(selectors: &SelectorSet, unseen: Option<&Unseen>) -> AttestorState {
    match unseen {
        None if selectors.is_empty() => AttestorState::Nothing,
        None => AttestorState::Answered,
        // What the kernel says of a unit, though systemd does not.
        Some(_) if !selectors.is_empty() => AttestorState::Partly,
        Some(Unseen::Failed(_)) => AttestorState::Failed,
        Some(Unseen::Late(_)) => AttestorState::Late,
        Some(Unseen::NotYet(_)) => AttestorState::Unknown,
        Some(Unseen::Refused(_)) => AttestorState::Refused,
    }
}

fn nothing(service: Service) -> &'static str {
    match service {
        Service::Docker => "it is in no container of Docker or Podman",
        Service::Systemd => "it is of no unit of systemd",
        Service::Kubernetes => "it is in no pod",
        _ => "it has nothing of this kind",
    }
}
