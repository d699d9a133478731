//! Matchers: the SPIFFE IDs of those who may come, each spelled out.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use spiffe_bridge::identity::SpiffeId;

use super::super::names::Name;
use super::CheckError;

/// Names that say who may come have matchers, all others have none (envoy-sds.md §9).
pub(super) fn check(matchers: &[SubjectAltNameMatcher], name: Name<'_>) -> Result<(), CheckError> {
    match (name, matchers) {
        (Name::Peers { .. } | Name::Upstream { .. }, []) => Err(CheckError::NoMatcher),
        (Name::Peers { .. } | Name::Upstream { .. }, some) if some.iter().all(is_one_id) => Ok(()),
        (_, []) => Ok(()),
        (Name::Peers { .. } | Name::Upstream { .. }, _) => Err(CheckError::Matcher),
        _ => Err(CheckError::MatcherUnwanted),
    }
}

/// Of a URI, exact, letter for letter. Others than URIs are not looked at by the SPIFFE validator, and a type that is
/// not said, or an expression that cannot be read, is refused with the whole secret in clear (envoy-sds.md §1.2).
fn is_one_id(matcher: &SubjectAltNameMatcher) -> bool {
    let SubjectAltNameMatcher { san_type, matcher: Some(text), oid } = matcher else { return false };
    let StringMatcher { ignore_case: false, match_pattern: Some(MatchPattern::Exact(id)) } = text else {
        return false;
    };
    let is_id = SpiffeId::new(id).is_ok_and(|parsed| !parsed.path().is_empty() && parsed.to_string() == *id);
    *san_type == i32::from(SanType::Uri) && oid.is_empty() && is_id
}
