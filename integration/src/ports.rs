//! Free ports of 127.0.0.1, below the ephemeral range, so that no outgoing connection takes one first.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// An address that nobody listened on a moment ago; each call gives another.
///
/// # Errors
/// All are taken.
pub fn free() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at once start far from each other.
    let offset = u32::from(COUNT) / 64 * (std::process::id() % 64);
    (0..COUNT)
        .map(|_| {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = (offset + step) % u32::from(COUNT);
            SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + u16::try_from(port).unwrap_or_default()))
        })
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no free port on 127.0.0.1")
}
