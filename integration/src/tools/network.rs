//! The tools of the network, installed where they are not. Needs root for that.

use std::process::Command;

use anyhow::Result;

use super::apt;

/// A tool of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Ip,
    Iptables,
    Ip6tables,
    Curl,
}

impl Tool {
    /// The program, to be given arguments.
    ///
    /// # Errors
    /// It is not installed, and cannot be.
    pub fn command(self) -> Result<Command> {
        let (program, package) = match self {
            Self::Ip => ("ip", "iproute2"),
            Self::Iptables => ("iptables", "iptables"),
            Self::Ip6tables => ("ip6tables", "iptables"),
            Self::Curl => ("curl", "curl"),
        };
        apt::need(program, &[package])?;
        Ok(Command::new(program))
    }
}
