//! Who is issued next.

use std::collections::{BTreeMap, VecDeque};

use super::Spec;
use crate::keys::KeyType;

/// Identities that wait for a place among the signatures in flight. At most one place an identity.
///
/// Those whose key is made ahead stand in a line of their own, a line a type: until a key is ready they hold up
/// nobody, and take no place.
#[derive(Debug, Default)]
pub(super) struct Turns {
    cheap: Line,
    dear: BTreeMap<KeyType, Line>,
}

/// Whether there is a valid SVID meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// None: these go first.
    NothingValid,
    /// There is one.
    Renewal,
}

#[derive(Debug, Default)]
struct Line {
    urgent: VecDeque<Spec>,
    others: VecDeque<Spec>,
}

impl Line {
    fn pop(&mut self) -> Option<Spec> {
        self.urgent.pop_front().or_else(|| self.others.pop_front())
    }
}

impl Turns {
    pub(super) fn push(&mut self, spec: Spec, urgency: Urgency) {
        let key_type = spec.terms.key_type;
        let line = if key_type.is_dear() { self.dear.entry(key_type).or_default() } else { &mut self.cheap };
        match urgency {
            Urgency::NothingValid => line.urgent.push_back(spec),
            Urgency::Renewal => line.others.push_back(spec),
        }
    }

    /// The next identity, of those that need a dear key only one for which a key `is_ready`.
    pub(super) fn next(&mut self, is_ready: impl Fn(KeyType) -> bool) -> Option<Spec> {
        let ready = self.dear.iter_mut().filter(|(key_type, _)| is_ready(**key_type));
        let dear = ready.into_iter().find_map(|(_, line)| line.pop());
        dear.or_else(|| self.cheap.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Terms;

    #[test]
    fn who_waits_for_a_dear_key_holds_up_nobody() {
        let spec = |name: &str, key_type| Spec {
            spiffe_id: name.to_owned(),
            dns_names: Vec::new(),
            terms: Terms { key_type, lifetime: None },
            token: None,
        };
        let mut turns = Turns::default();
        turns.push(spec("renewed", KeyType::EcP256), Urgency::Renewal);
        turns.push(spec("rsa", KeyType::Rsa4096), Urgency::NothingValid);
        turns.push(spec("new", KeyType::Ed25519), Urgency::NothingValid);
        let mut next = |ready: &[KeyType]| turns.next(|kind| ready.contains(&kind)).map(|s| s.spiffe_id);
        assert_eq!(next(&[]).as_deref(), Some("new"));
        assert_eq!(next(&[KeyType::Rsa2048]).as_deref(), Some("renewed"));
        assert_eq!(next(&[KeyType::Rsa2048]), None);
        assert_eq!(next(&[KeyType::Rsa4096]).as_deref(), Some("rsa"));
        assert_eq!(next(&[KeyType::Rsa4096]), None);
    }
}
