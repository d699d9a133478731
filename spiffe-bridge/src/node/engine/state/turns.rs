//! Who is issued next.

use std::collections::{BTreeMap, VecDeque};

use super::Spec;
use crate::keys::KeyType;

/// Turns of one in so many go to newcomers while others wait too.
const NEWCOMERS_TURN: u32 = 4;

/// Identities that wait for a place among the signatures in flight. At most one place an identity.
///
/// Who has an SVID goes before who never had one: a crowd of new identities, or of new audiences, must not let
/// what is served run out. Newcomers have one turn in four all the same, so that a renewal of everything at once does not
/// keep them out.
///
/// Those whose key is made ahead stand in a line of their own, a line a type: until a key is ready they hold up
/// nobody, and take no place.
#[derive(Debug, Default)]
pub(super) struct Turns {
    cheap: Line,
    dear: BTreeMap<KeyType, Line>,
}

/// What is held meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// One that has run out: its holders stand still. These go first.
    Lapsed,
    /// A valid one.
    Renewal,
    /// None, ever.
    Newcomer,
}

/// Who may have the next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Whoever waits.
    Everybody,
    /// Those who hold something: newcomers have all places that they may have.
    Holders,
}

#[derive(Debug, Default)]
struct Line {
    lapsed: VecDeque<Spec>,
    renewals: VecDeque<Spec>,
    newcomers: VecDeque<Spec>,
    /// Turns of the others since a newcomer had one.
    passed_over: u32,
}

impl Line {
    fn pop(&mut self, admission: Admission) -> Option<(Spec, Urgency)> {
        if admission == Admission::Everybody
            && (self.passed_over + 1 >= NEWCOMERS_TURN
                || (self.lapsed.is_empty() && self.renewals.is_empty()))
            && let Some(spec) = self.newcomers.pop_front()
        {
            self.passed_over = 0;
            return Some((spec, Urgency::Newcomer));
        }
        let lapsed = self.lapsed.pop_front().map(|spec| (spec, Urgency::Lapsed));
        let held = lapsed.or_else(|| self.renewals.pop_front().map(|spec| (spec, Urgency::Renewal)))?;
        self.passed_over = if self.newcomers.is_empty() { 0 } else { self.passed_over.saturating_add(1) };
        Some(held)
    }
}

impl Turns {
    pub(super) fn push(&mut self, spec: Spec, urgency: Urgency) {
        let key_type = spec.terms.key_type;
        let line = if key_type.is_dear() { self.dear.entry(key_type).or_default() } else { &mut self.cheap };
        match urgency {
            Urgency::Lapsed => line.lapsed.push_back(spec),
            Urgency::Renewal => line.renewals.push_back(spec),
            Urgency::Newcomer => line.newcomers.push_back(spec),
        }
    }

    /// The next identity, of those that need a dear key only one for which a key `is_ready`.
    pub(super) fn next(
        &mut self,
        admission: Admission,
        is_ready: impl Fn(KeyType) -> bool,
    ) -> Option<(Spec, Urgency)> {
        let ready = self.dear.iter_mut().filter(|(key_type, _)| is_ready(**key_type));
        let dear = ready.into_iter().find_map(|(_, line)| line.pop(admission));
        dear.or_else(|| self.cheap.pop(admission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Terms;

    fn spec(name: &str, key_type: KeyType) -> Spec {
        Spec {
            spiffe_id: name.to_owned(),
            dns_names: Vec::new(),
            terms: Terms { key_type, lifetime: None },
            token: None,
        }
    }

    #[test]
    fn who_waits_for_a_dear_key_holds_up_nobody() {
        let mut turns = Turns::default();
        turns.push(spec("new", KeyType::Ed25519), Urgency::Newcomer);
        turns.push(spec("rsa", KeyType::Rsa4096), Urgency::Lapsed);
        turns.push(spec("renewed", KeyType::EcP256), Urgency::Renewal);
        let mut next = |ready: &[KeyType]| {
            turns.next(Admission::Everybody, |kind| ready.contains(&kind)).map(|(spec, _)| spec.spiffe_id)
        };
        assert_eq!(next(&[]).as_deref(), Some("renewed"));
        assert_eq!(next(&[KeyType::Rsa2048]).as_deref(), Some("new"));
        assert_eq!(next(&[KeyType::Rsa2048]), None);
        assert_eq!(next(&[KeyType::Rsa4096]).as_deref(), Some("rsa"));
        assert_eq!(next(&[KeyType::Rsa4096]), None);
    }

    /// 5,000 newcomers of `key_type` stand in line before ten renewals and one that has run out come: the order of service.
    fn served(key_type: KeyType, admission: Admission) -> (Vec<(String, Urgency)>, Turns) {
        let mut turns = Turns::default();
        (0..5000).for_each(|n| turns.push(spec(&format!("new-{n}"), key_type), Urgency::Newcomer));
        (0..10).for_each(|n| turns.push(spec(&format!("held-{n}"), key_type), Urgency::Renewal));
        turns.push(spec("lapsed", key_type), Urgency::Lapsed);
        let order = (0..16).map_while(|_| turns.next(admission, |_| true));
        (order.map(|(spec, urgency)| (spec.spiffe_id, urgency)).collect(), turns)
    }

    #[test]
    fn renewals_go_before_a_crowd_of_newcomers_who_have_one_turn_in_four() {
        for key_type in [KeyType::EcP256, KeyType::Rsa2048] {
            let (order, mut turns) = served(key_type, Admission::Everybody);
            let order: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
            let expected = [
                "lapsed", "held-0", "held-1", "new-0", "held-2", "held-3", "held-4", "new-1", "held-5",
                "held-6", "held-7", "new-2", "held-8", "held-9", "new-3", "new-4",
            ];
            assert_eq!(order, expected);
            let rest = std::iter::from_fn(|| turns.next(Admission::Everybody, |_| true)).count();
            assert_eq!(rest, 4995, "nobody is forgotten");
        }
    }

    #[test]
    fn when_newcomers_have_all_their_places_only_holders_have_a_turn() {
        let (order, mut turns) = served(KeyType::EcP256, Admission::Holders);
        assert_eq!(order.len(), 11);
        assert!(order.iter().all(|(_, urgency)| *urgency != Urgency::Newcomer), "{order:?}");
        let next = turns.next(Admission::Everybody, |_| true);
        assert_eq!(next.map(|(spec, _)| spec.spiffe_id).as_deref(), Some("new-0"));
    }
}
