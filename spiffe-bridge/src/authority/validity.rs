//! When a leaf is valid: within its issuer's validity, in whole seconds.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::x509::Validity;

/// A leaf's validity: from `backdate` before `now`, for `lifetime` after it, both clipped to the
/// root's (PK-06). `None` if the root is not valid now, or ends within this second.
pub(super) fn clip(
    now: Timestamp,
    lifetime: Duration,
    backdate: Duration,
    root: Validity,
) -> Option<Validity> {
    if now < root.not_before {
        return None;
    }
    let not_before = whole(now - backdate).max(root.not_before);
    let not_after = whole(now + lifetime).min(root.not_after);
    (not_after > now).then_some(Validity { not_before, not_after })
}

/// Rounded down: a certificate's times have no fraction. RFC 5280 §4.1.2.5.
pub(super) const fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(at.unix_seconds())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_leaf_lies_within_its_root(
            now in 0u64..5_000_000_000_000,
            lifetime in 1_000u64..1_000_000_000,
            backdate in 0u64..1_000_000_000,
            from in 0u64..5_000_000_000,
            life in 1u64..100_000_000,
        ) {
            let root = Validity {
                not_before: Timestamp::from_unix_seconds(from),
                not_after: Timestamp::from_unix_seconds(from + life),
            };
            let now = Timestamp::from_unix_millis(now);
            let lifetime = Duration::from_millis(lifetime);
            match clip(now, lifetime, Duration::from_millis(backdate), root) {
                Some(v) => {
                    prop_assert!(root.not_before <= v.not_before && v.not_after <= root.not_after);
                    prop_assert!(v.not_before <= now && now < v.not_after);
                    prop_assert!(v.not_after <= now + lifetime);
                    prop_assert_eq!((v.not_before.unix_millis() % 1000, v.not_after.unix_millis() % 1000), (0, 0));
                }
                // Refused only by a root that is not valid, or a lifetime lost in rounding.
                None => prop_assert!(
                    now < root.not_before || root.not_after <= now || whole(now + lifetime) <= now
                ),
            }
        }
    }
}
