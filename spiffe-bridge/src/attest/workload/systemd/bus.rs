//! A connection to the system's D-Bus, for one question to systemd at a time.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::attest::dbus::{self, Answer, Arguments, Call};

/// Messages that are passed over while an answer is waited for: signals to us are few.
const MOST_SIGNALS: usize = 64;
/// The longest line of the handshake: `OK` and an id of 32 digits.
const MOST_LINE: usize = 256;

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Why systemd did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    #[error("the system's D-Bus cannot be reached")]
    Socket(#[from] io::Error),
    #[error("user {0} listens on the socket of D-Bus, and is not believed")]
    NotRoots(u32),
    #[error("the system's D-Bus does not let the server in")]
    Authentication,
    #[error("systemd refuses the question: {0}")]
    Refused(String),
    #[error("the answer is not in the form of D-Bus")]
    Form,
}

/// What systemd says of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) id: String,
    /// Empty for one without a file.
    pub(super) fragment_path: String,
}

/// A connection to the system's bus.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    pub(super) async fn connect(socket: &Path) -> Result<Self, BusError> {
        let mut stream = UnixStream::connect(socket).await?;
        // Of a socket that listens the kernel tells who made it listen: root, though the bus runs as another.
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if ![0, own].contains(&peer) {
            return Err(BusError::NotRoots(peer));
        }
        // "Authentication Protocol": the kernel says who we are, and the bus checks it.
        let id = data_encoding::HEXLOWER.encode(own.to_string().as_bytes());
        stream.write_all(format!("\0AUTH EXTERNAL {id}\r\n").as_bytes()).await?;
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(MOST_LINE as u64);
        while !line.ends_with(b"\r\n") {
            if limited.read_buf(&mut line).await? == 0 {
                return Err(BusError::Authentication);
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(BusError::Authentication);
        }
        stream.write_all(b"BEGIN\r\n").await?;
        let mut bus = Self { stream, serial: 0 };
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            arguments: Arguments::None,
        };
        bus.call(hello).await?;
        Ok(bus)
    }

    /// The unit that the process with `pid` is of.
    pub(super) async fn unit_of(&mut self, pid: u32) -> Result<Unit, BusError> {
        let question = Call {
            destination: SYSTEMD,
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "GetUnitByPID",
            arguments: Arguments::Number(pid),
        };
        let path = self.call(question).await?;
        Ok(Unit {
            id: self.property(&path, "Id").await?,
            fragment_path: self.property(&path, "FragmentPath").await?,
        })
    }

    async fn property(&mut self, path: &str, name: &str) -> Result<String, BusError> {
        let question = Call {
            destination: SYSTEMD,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: Arguments::Texts("org.freedesktop.systemd1.Unit", name),
        };
        self.call(question).await
    }

    /// The text that the answer to `call` begins with.
    async fn call(&mut self, call: Call<'_>) -> Result<String, BusError> {
        self.serial += 1;
        self.stream.write_all(&call.encode(self.serial)).await?;
        for _ in 0..MOST_SIGNALS {
            let mut fixed = [0; dbus::FIXED];
            self.stream.read_exact(&mut fixed).await?;
            let mut rest = vec![0; dbus::rest(fixed).ok_or(BusError::Form)?];
            self.stream.read_exact(&mut rest).await?;
            match dbus::answer(fixed, &rest, self.serial).ok_or(BusError::Form)? {
                Answer::Text(text) => return text.ok_or(BusError::Form),
                Answer::Refused(name) => return Err(BusError::Refused(name)),
                Answer::Other => {} // a signal, as that we have a name now
            }
        }
        Err(BusError::Form)
    }
}
