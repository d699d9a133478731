//! Kubernetes' own programs, built from their Go module; and what they stand on, unpacked from Debian's packages:
//! containerd with runc, and etcd.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian::{self, Package, Root};
use super::{go, tools_dir};

/// A program of Kubernetes, by the name of its directory in `clients/kubernetes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Kubelet,
    ApiServer,
}

impl Part {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::ApiServer => "kube-apiserver",
        }
    }

    /// The program, built if it is not: some ten minutes on two cores for the first of them, which the others share
    /// most with, and 3 GB in Go's caches.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn built(self) -> Result<PathBuf> {
        let tools = tools_dir()?;
        let name = self.name();
        if !tools.join("go-programs").join(name).exists() {
            eprintln!("tools: building {name} {} (some ten minutes, once)", version()?);
        }
        go::build(&tools, name, &source(), &format!("./{name}"))
    }
}

/// The release that is built: `v1.35.4`.
///
/// # Errors
/// The module does not name it.
pub fn version() -> Result<String> {
    let text = std::fs::read_to_string(source().join("go.mod"))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    Ok(version.context("go.mod names no k8s.io/kubernetes")?.to_owned())
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/kubernetes")
}

/// A container runtime that speaks CRI: Debian's containerd and runc.
#[derive(Debug)]
pub struct Runtime(Root);

impl Runtime {
    /// # Errors
    /// The packages cannot be had.
    pub fn unpacked() -> Result<Self> {
        let packages = [Package { name: "containerd", with: &["containerd", "runc", "libseccomp"] }];
        Ok(Self(debian::unpacked(&tools_dir()?.join("containerd"), &packages)?))
    }

    /// `program` of it, which finds the others.
    ///
    /// # Errors
    /// The path of it cannot stand in a search path.
    pub fn command(&self, program: &str) -> Result<Command> {
        let root = self.0.path();
        let own = [root.join("usr/bin"), root.join("usr/sbin")];
        let others = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(own.into_iter().chain(env::split_paths(&others)))?;
        let mut command = self.0.command(&format!("usr/bin/{program}"))?;
        command.env("PATH", path);
        Ok(command)
    }
}

/// Where the API server keeps what it knows: Debian's etcd, to be given arguments.
///
/// # Errors
/// The package cannot be had.
pub fn etcd() -> Result<Command> {
    let packages = [Package { name: "etcd-server", with: &["etcd-server"] }];
    debian::unpacked(&tools_dir()?.join("etcd"), &packages)?.command("usr/bin/etcd")
}
