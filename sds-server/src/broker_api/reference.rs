//! What a call is about, as the broker says it. Broker API §3.1.

use prost::{Message as _, Name};
use prost_types::Any;

use crate::proto::broker::{WorkloadPidReference, WorkloadReference};

/// A workload, of a kind that is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// The process that has this id now.
    Pid(u32),
}

/// Why a reference is none. The broker's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadReference {
    #[error("the request refers to no workload: set reference.reference")]
    Missing,
    #[error(
        "a reference of this type is not understood: refer to a process, by a {}",
        WorkloadPidReference::NAME
    )]
    UnknownType,
    #[error("the reference cannot be read as what its type_url says")]
    Unreadable,
    #[error("{0} is no process id: it must be above 0")]
    NotAPid(i32),
}

impl Name for WorkloadPidReference {
    const NAME: &'static str = "WorkloadPIDReference";
    const PACKAGE: &'static str = "spiffe.broker";
}

/// The one reference of a request.
pub(super) fn reference(given: Option<WorkloadReference>) -> Result<Reference, BadReference> {
    let Any { type_url, value } = given.and_then(|given| given.reference).ok_or(BadReference::Missing)?;
    // What stands before the name is where its definition might be found, and says nothing. google.protobuf.Any
    let name = type_url.rsplit_once('/').map(|(_, name)| name);
    if name != Some(WorkloadPidReference::full_name().as_str()) {
        return Err(BadReference::UnknownType); // BA-15
    }
    let WorkloadPidReference { pid } =
        WorkloadPidReference::decode(&*value).map_err(|_| BadReference::Unreadable)?;
    match u32::try_from(pid) {
        Ok(positive) if positive > 0 => Ok(Reference::Pid(positive)), // BA-09
        _ => Err(BadReference::NotAPid(pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(type_url: &str, value: Vec<u8>) -> Option<WorkloadReference> {
        Some(WorkloadReference { reference: Some(Any { type_url: type_url.to_owned(), value }) })
    }

    fn pid(pid: i32) -> Vec<u8> {
        WorkloadPidReference { pid }.encode_to_vec()
    }

    #[test]
    fn a_process_is_named_by_a_positive_id_of_the_right_type() {
        let url = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";
        assert_eq!(reference(given(url, pid(7))), Ok(Reference::Pid(7)));
        let elsewhere = given("example.org/a/spiffe.broker.WorkloadPIDReference", pid(7));
        assert_eq!(reference(elsewhere), Ok(Reference::Pid(7)));
        for (bad, error) in [
            (None, BadReference::Missing),
            (Some(WorkloadReference { reference: None }), BadReference::Missing),
            (given("", pid(7)), BadReference::UnknownType),
            (given("spiffe.broker.WorkloadPIDReference", pid(7)), BadReference::UnknownType),
            (given("x/spiffe.broker.KubernetesObjectReference", pid(7)), BadReference::UnknownType),
            (given(url, vec![0x08]), BadReference::Unreadable),
            (given(url, pid(0)), BadReference::NotAPid(0)),
            (given(url, Vec::new()), BadReference::NotAPid(0)),
            (given(url, pid(-7)), BadReference::NotAPid(-7)),
        ] {
            assert_eq!(reference(bad), Err(error));
        }
    }
}
