//! An API server, on an etcd of its own, and nothing of what controllers do: who needs it writes it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::accounts::{AGENTS, Account};
use super::node::{ADDRESS, API, Node, run};
use crate::ca;
use crate::poll;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::tools::kubernetes::{Part, etcd};
use crate::tools::network::Tool;

const ETCD: &str = "http://127.0.0.1:2379";
/// It makes its own roles and namespaces before it is ready.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) struct Cluster {
    dir: PathBuf,
    ca: PathBuf,
    admin: [PathBuf; 2],
    _etcd: Process,
    server: Option<Process>,
}

impl Cluster {
    /// Starts both, where `node` is, with its CA.
    ///
    /// # Errors
    /// Something does not start; the error has its last words.
    pub(super) async fn start(scratch: &Scratch, node: &Node) -> Result<Self> {
        let dir = scratch.dir("cluster", None)?;
        let mut command = etcd()?;
        command.arg("--data-dir").arg(dir.join("etcd"));
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([flag, ETCD]);
        }
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        let etcd = Process::spawn("etcd", command, None, &dir.join("etcd.log"))?;
        ca::write(&node.ca.issue_named(API)?, &dir, "serving")?;
        let accounts = KeyPair::generate()?;
        fs::write(dir.join("accounts.key"), accounts.serialize_pem())?;
        fs::write(dir.join("accounts.pub"), accounts.public_key_pem())?;
        let (ca, admin) = (node.ca_file(), node.admin.clone());
        let mut cluster = Self { dir, ca, admin, _etcd: etcd, server: None };
        cluster.serve().await?;
        Ok(cluster)
    }

    /// Starts the API server, or starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up; the error has its last words.
    pub(super) async fn serve(&mut self) -> Result<()> {
        self.stop();
        let at = |leaf: &str| self.dir.join(leaf).display().to_string();
        let mut command = Command::new(Part::ApiServer.built()?);
        for (flag, value) in [
            ("etcd-servers", ETCD.to_owned()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("secure-port", "443".to_owned()),
            // Where others would find it: nobody looks.
            ("advertise-address", ADDRESS.to_owned()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("service-cluster-ip-range", "198.51.100.0/24".to_owned()),
            ("tls-cert-file", at("serving.pem")),
            ("tls-private-key-file", at("serving.key")),
            ("client-ca-file", self.ca.display().to_string()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("service-account-issuer", format!("https://{API}.cluster.local")),
            ("service-account-key-file", at("accounts.pub")),
            ("service-account-signing-key-file", at("accounts.key")),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        let mut server = Process::spawn("kube-apiserver", command, None, &self.dir.join("server.log"))?;
        let ready = async || match server.alive() {
            Err(ended) => Some(Err(ended)),
            Ok(()) => self.ask("GET", "/readyz", None).is_ok().then_some(Ok(())),
        };
        poll::until("the API server is ready", PATIENCE, ready).await.with_context(|| server.tail())??;
        self.server = Some(server);
        Ok(())
    }

    /// The API server is gone at once.
    pub(super) fn stop(&mut self) {
        self.server = None;
    }

    /// Its own words, the last of them.
    pub(super) fn says(&self) -> String {
        self.server.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// Makes `object` in the collection at `path`.
    ///
    /// # Errors
    /// It is refused; the error has the API server's reason.
    pub(super) fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let said = self.ask("POST", path, Some(("application/json", object)))?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// Sets the fields of `change` in the object at `path`.
    ///
    /// # Errors
    /// As [`Cluster::create`].
    pub(super) fn change(&self, path: &str, change: &Value) -> Result<()> {
        self.ask("PATCH", path, Some(("application/merge-patch+json", change))).map(drop)
    }

    /// # Errors
    /// As [`Cluster::create`].
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        self.ask("DELETE", path, None).map(drop)
    }

    /// # Errors
    /// As [`Cluster::create`].
    pub(super) fn list(&self, path: &str) -> Result<Value> {
        let said = self.ask("GET", path, None)?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// A token of `account`, good for an hour, and no longer than the Secret `held_by` is there.
    ///
    /// # Errors
    /// As [`Cluster::create`].
    pub(super) fn token(&self, account: Account, held_by: Option<&str>) -> Result<String> {
        let path = format!("/api/v1/namespaces/{AGENTS}/serviceaccounts/{}/token", account.name());
        let bound = held_by.map(|secret| json!({ "kind": "Secret", "apiVersion": "v1", "name": secret }));
        let made =
            self.create(&path, &json!({ "spec": { "expirationSeconds": 3600, "boundObjectRef": bound } }))?;
        let token = made.pointer("/status/token").and_then(Value::as_str);
        Ok(token.with_context(|| format!("no token: {made}"))?.to_owned())
    }

    /// The answer to a GET of `path` with `token`, as somebody who has nothing else.
    ///
    /// # Errors
    /// It is refused; the error has the API server's reason.
    pub(super) fn asked_with(&self, token: &str, path: &str) -> Result<String> {
        let mut command = self.curl()?;
        command.args(["--header", &format!("authorization: Bearer {token}")]);
        run(command.arg(format!("https://{API}{path}")))
    }

    fn ask(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<String> {
        let [cert, key] = &self.admin;
        let mut command = self.curl()?;
        command.args(["--request", method]).arg("--cert").arg(cert).arg("--key").arg(key);
        if let Some((kind, object)) = body {
            command.args(["--header", &format!("content-type: {kind}"), "--data", &object.to_string()]);
        }
        run(command.arg(format!("https://{API}{path}")))
    }

    fn curl(&self) -> Result<Command> {
        let mut command = Tool::Curl.command()?;
        command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "10"]);
        command.arg("--cacert").arg(&self.ca);
        Ok(command)
    }
}

/// Where the API server has the pods of `namespace`, or of all.
pub(super) fn pods(namespace: Option<&str>) -> String {
    namespace.map_or("/api/v1/pods".to_owned(), |name| format!("/api/v1/namespaces/{name}/pods"))
}
