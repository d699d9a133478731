//! Who is who in the cluster: namespaces, service accounts, and what these may.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::node::Node;

/// Where the workloads are.
pub(super) const SHOP: &str = "shop";
/// Where the accounts are that Countersign asks by.
pub(super) const AGENTS: &str = "countersign";
/// The service accounts of the workloads.
pub(super) const WORKLOADS: [&str; 2] = ["web", "api"];

/// An account of [`AGENTS`], by the one right that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Powerless,
    ListsPods,
    GetsPods,
    ListsPodsOfShop,
    GetsNodesPods,
}

impl Account {
    const ALL: [Self; 5] =
        [Self::Powerless, Self::ListsPods, Self::GetsPods, Self::ListsPodsOfShop, Self::GetsNodesPods];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Powerless => "powerless",
            Self::ListsPods => "lists-pods",
            Self::GetsPods => "gets-pods",
            Self::ListsPodsOfShop => "lists-pods-of-shop",
            Self::GetsNodesPods => "gets-nodes-pods",
        }
    }

    /// The verb, the resource, and the one namespace that it is good in, if it is good in one only.
    const fn right(self) -> Option<(&'static str, &'static str, Option<&'static str>)> {
        match self {
            Self::Powerless => None,
            Self::ListsPods => Some(("list", "pods", None)),
            Self::GetsPods => Some(("get", "pods", None)),
            Self::ListsPodsOfShop => Some(("list", "pods", Some(SHOP))),
            Self::GetsNodesPods => Some(("get", "nodes/pods", None)),
        }
    }
}

/// Makes all of them, as an operator and the controllers would.
///
/// # Errors
/// The API server refuses something.
pub(super) fn make(cluster: &Cluster, node: &Node) -> Result<()> {
    let roots = fs::read_to_string(node.ca_file())?;
    for namespace in [SHOP, AGENTS] {
        cluster.create("/api/v1/namespaces", &named(namespace))?;
        // Each pod has it mounted. A controller's work, and there is none.
        let mut roots_of_cluster = named("kube-root-ca.crt");
        set(&mut roots_of_cluster, "data", json!({ "ca.crt": roots }));
        cluster.create(&format!("/api/v1/namespaces/{namespace}/configmaps"), &roots_of_cluster)?;
    }
    let accounts = WORKLOADS.map(|name| (SHOP, name)).into_iter();
    for (namespace, name) in accounts.chain(Account::ALL.map(|account| (AGENTS, account.name()))) {
        cluster.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &named(name))?;
    }
    Account::ALL.into_iter().try_for_each(|account| allow(cluster, account))
}

/// A role of its own with its one right, and the binding to it.
fn allow(cluster: &Cluster, account: Account) -> Result<()> {
    let Some((verb, resource, namespace)) = account.right() else { return Ok(()) };
    let (at, kind) = match namespace {
        Some(namespace) => (format!("namespaces/{namespace}/"), "Role"),
        None => (String::new(), "ClusterRole"),
    };
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let collection = |suffix| format!("{group}/{at}{}{suffix}", kind.to_lowercase());
    let mut role = named(account.name());
    set(&mut role, "rules", json!([{ "apiGroups": [""], "resources": [resource], "verbs": [verb] }]));
    cluster.create(&collection("s"), &role)?;
    let mut binding = named(account.name());
    let of = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account.name() });
    set(&mut binding, "roleRef", of);
    let subject = json!({ "kind": "ServiceAccount", "namespace": AGENTS, "name": account.name() });
    set(&mut binding, "subjects", json!([subject]));
    cluster.create(&collection("bindings"), &binding).map(drop)
}

/// An object with no more than a name.
pub(super) fn named(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}
