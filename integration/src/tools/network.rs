//! The tools of the network: the machine's where they are installed, else Debian's, unpacked.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::debian::{self, Package};

/// What each loads beyond the C library.
const PACKAGES: [Package<'static>; 3] = [
    Package {
        name: "iptables",
        with: &["iptables", "libip", "libxtables", "libnftnl", "libmnl", "libnetfilter", "libnfnetlink"],
    },
    Package {
        name: "iproute2",
        with: &["iproute2", "libbpf", "libelf", "libmnl", "libbsd", "libcap2", "libmd0", "zlib1g"],
    },
    Package {
        name: "curl",
        with: &[
            "curl",
            "libcurl4",
            "zlib1g",
            "libnghttp2",
            "libidn2",
            "librtmp",
            "libssh2",
            "libpsl",
            "libssl",
            "libgssapi",
            "libldap",
            "libzstd",
            "libbrotli",
            "libunistring",
            "libgnutls",
            "libhogweed",
            "libnettle",
            "libgmp",
            "libkrb5",
            "libk5crypto",
            "libcom-err",
            "libsasl2",
            "libp11-kit",
            "libtasn1",
            "libkeyutils",
            "libffi",
        ],
    },
];

/// A tool of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Ip,
    Iptables,
    Ip6tables,
    Curl,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
            Self::Curl => "curl",
        }
    }

    /// The program, to be given arguments.
    ///
    /// # Errors
    /// It is not installed, and cannot be unpacked.
    pub fn command(self) -> Result<Command> {
        let mut installed = Command::new(self.name());
        let asked = if self == Self::Ip { "-Version" } else { "--version" };
        installed.arg(asked).stdout(Stdio::null()).stderr(Stdio::null());
        if installed.status().is_ok_and(|status| status.success()) {
            return Ok(Command::new(self.name()));
        }
        let home = super::tools_dir()?.join("network");
        let advice =
            || format!("install {} (on Debian: apt-get install iptables iproute2 curl)", self.name());
        let root = debian::unpacked(&home, &PACKAGES).with_context(advice)?;
        let program = match self {
            Self::Ip => "sbin/ip",
            Self::Iptables | Self::Ip6tables => "usr/sbin/xtables-nft-multi",
            Self::Curl => "usr/bin/curl",
        };
        let mut command = root.command(program)?;
        if matches!(self, Self::Iptables | Self::Ip6tables) {
            // Its matches and targets are libraries of their own.
            command.env("XTABLES_LIBDIR", root.path().join("usr/lib/x86_64-linux-gnu/xtables"));
            command.arg(self.name());
        }
        Ok(command)
    }
}
