//! What is to be sent once more, in other bytes. Pure.
//!
//! Two reasons. A refused certificate freezes its context: good roots are then refused too, and stay out when a good
//! certificate has come, unless they come again in other bytes (envoy-sds.md §9). And the first change of roots after
//! a restart of the server only tells how many contexts there are: sent once more, it is proved.

use spiffe_bridge::roster::Standing;

use crate::sds::names::Name;

/// How often one content is put into other bytes for one client: one that refuses these refuses the content.
const AT_MOST: u32 = 3;

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A certificate and its key: it comes anew by itself.
    Certificate,
    /// Roots: they can be put into other bytes.
    Trust,
    /// Anything else, which goes to no context.
    Other,
}

impl Kind {
    /// Of a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match Name::parse(name) {
            Some(Name::Default | Name::Svid { .. } | Name::Dns { .. }) => Self::Certificate,
            Some(
                Name::OwnRoots | Name::Bundle { .. } | Name::All | Name::Peers { .. } | Name::Upstream { .. },
            ) => Self::Trust,
            _ => Self::Other,
        }
    }
}

/// The client's word on the newest content of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// None yet.
    Awaited,
    /// ACK.
    Taken,
    /// NACK, now or earlier: it is not sent again.
    Refused,
}

/// One name of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course<'a> {
    /// The name.
    pub name: &'a str,
    /// What it is of.
    pub kind: Kind,
    /// The client's word.
    pub word: Word,
    /// Where it stands.
    pub standing: Standing,
    /// How often this content was put into other bytes.
    pub dress: u32,
    /// Of a certificate: its last word before this one was a refusal. Of roots: they were pushed while a certificate
    /// stood refused.
    pub was_frozen: bool,
    /// Counters have told how many contexts take it, and nothing more.
    pub could_be_proved: bool,
}

/// The names of a client whose content is to be sent in other bytes.
#[must_use]
pub fn remedies<'a>(courses: &[Course<'a>]) -> Vec<&'a str> {
    let certificates = || courses.iter().filter(|course| course.kind == Kind::Certificate);
    // While one stands refused, roots in other bytes would be refused as well.
    if certificates().any(|course| course.word == Word::Refused) {
        return Vec::new();
    }
    let is_unfrozen = certificates().any(|course| course.was_frozen && course.word == Word::Taken);
    let is_due = |course: &&Course<'a>| {
        let was_kept_out = course.word == Word::Refused
            || course.was_frozen && course.word == Word::Taken && course.standing != Standing::ProvedApplied;
        course.kind == Kind::Trust
            && course.dress < AT_MOST
            && (course.could_be_proved || is_unfrozen && was_kept_out)
    };
    courses.iter().filter(is_due).map(|course| course.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Course<'_> = Course {
        name: "default",
        kind: Kind::Certificate,
        word: Word::Taken,
        standing: Standing::Acknowledged,
        dress: 0,
        was_frozen: false,
        could_be_proved: false,
    };
    const ROOTS: Course<'_> = Course { name: "ROOTCA", kind: Kind::Trust, ..LEAF };

    fn check(courses: &[Course<'_>], expected: &[&str]) {
        assert_eq!(remedies(courses), expected, "{courses:?}");
    }

    #[test]
    fn a_certificate_that_is_taken_after_a_refusal_brings_the_roots_again() {
        let refused = Course { word: Word::Refused, standing: Standing::Refused, ..ROOTS };
        let unfrozen = Course { was_frozen: true, ..LEAF };
        check(&[refused, unfrozen], &["ROOTCA"]);
        check(&[refused, LEAF], &[]);
        check(&[refused, Course { word: Word::Awaited, ..unfrozen }], &[]);
        check(&[refused, Course { word: Word::Refused, ..unfrozen }], &[]);
        let beside = Course { was_frozen: true, ..ROOTS };
        check(&[beside, unfrozen], &["ROOTCA"]);
        check(&[Course { standing: Standing::ProvedApplied, ..beside }, unfrozen], &[]);
        check(&[ROOTS, unfrozen], &[]);
        // A second certificate that still stands refused would have them refused again.
        let other = Course { name: "spiffe://a/b", word: Word::Refused, ..LEAF };
        check(&[refused, unfrozen, other], &[]);
    }

    #[test]
    fn roots_that_could_be_proved_are_sent_once_more() {
        let possibly = Course { standing: Standing::PossiblyApplied, could_be_proved: true, ..ROOTS };
        check(&[possibly], &["ROOTCA"]);
        check(&[Course { kind: Kind::Certificate, ..possibly }], &[]);
    }

    #[test]
    fn who_refuses_other_bytes_too_refuses_the_content() {
        let unfrozen = Course { was_frozen: true, ..LEAF };
        let refused = Course { word: Word::Refused, standing: Standing::Refused, dress: AT_MOST, ..ROOTS };
        check(&[refused, unfrozen], &[]);
        check(&[Course { could_be_proved: true, ..refused }], &[]);
    }

    #[test]
    fn names_are_of_certificates_or_of_roots() {
        for name in ["default", "spiffe://example.org/web"] {
            assert_eq!(Kind::of(name), Kind::Certificate);
        }
        for name in ["ROOTCA", "ALL", "peers", "upstream:db", "spiffe://example.org"] {
            assert_eq!(Kind::of(name), Kind::Trust);
        }
        assert_eq!(Kind::of("no such thing"), Kind::Other);
    }
}
