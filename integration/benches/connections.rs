//! One rotated secret to ten thousand connections, over the Unix socket and over TCP with mTLS, against bare sockets that
//! are sent the same octets.
//!
//! `cargo bench -p integration --bench connections`; `… -- unix` or `-- tcp` runs one of them. Server, floor and clients
//! are processes of their own; a process may open 20,000 files, which is enough for each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::time::{Duration, Instant};

use common::raw::{self, Raw};
use common::server::Server;
use common::stats::{median, us};
use common::table::{Goal, Table};
use common::wires::{self, Place, Shown, Wires};
use common::{cpu, disk, fleet, wire};
use integration::ca::{self, Ca};
use integration::ports;

const CONNECTIONS: usize = 10_000;
const PROCESSES: usize = 2;
const ROUNDS: usize = 9;
const PROXY: &str = "spiffe://ops.test/proxy";

fn main() {
    if raw::run_if_asked() || wires::run_if_asked() || !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table = Table::new(&format!("connections, {CONNECTIONS} with a stream each"));
        for (door, kilobytes) in [(Door::Unix, 25.0), (Door::Tcp, 38.0)] {
            if common::wanted(door.name()) {
                door.measure(&mut table, kilobytes).await;
            }
        }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Unix,
    Tcp,
}

impl Door {
    fn name(self) -> &'static str {
        if self == Self::Unix { "unix" } else { "tcp" }
    }

    /// Where the server is to be found, and what a client shows there.
    fn start(self) -> (Server, Place, Option<Shown>) {
        if self == Self::Unix {
            let server = Server::start();
            let place = Place::Unix(server.socket());
            return (server, place, None);
        }
        let (address, operator) = (ports::free().unwrap(), Ca::new("operator", None).unwrap());
        let mut shown = None;
        let server = Server::start_with(|directory| {
            let file = directory.join("client-ca.pem");
            std::fs::write(&file, operator.pem()).unwrap();
            let proxy = operator.issue(PROXY, Duration::from_secs(3600)).unwrap();
            shown = Some(ca::write(&proxy, directory, "proxy").unwrap());
            // One address is all of the fleet here.
            let most = CONNECTIONS + 100;
            let file = file.display();
            format!(
                "remote:\n  listen: {address}\n  client_ca: {file}\n  connections: {most}\n  \
                 connections_per_address: {most}\n  handshakes: 1024\n  handshake: 60s\n"
            )
        });
        (server, Place::Tcp(address), shown)
    }

    /// Where the floor is.
    fn floor(self, directory: &std::path::Path) -> Place {
        match self {
            Self::Unix => Place::Unix(directory.join("raw.sock")),
            Self::Tcp => Place::Tcp(ports::free().unwrap()),
        }
    }

    /// Gives the identity that the clients have a certificate of its own, by another DNS name.
    fn edit(self, server: &Server, round: usize) {
        let names = [format!("edit-{round}.bench.test")];
        match self {
            Self::Unix => server.entry("bench", rustix::process::getuid().as_raw(), &names),
            Self::Tcp => server.document(
                "remote",
                &format!(
                    "kind: Workload\nspiffe_id: spiffe://bench.test/remote\nremote: true\n\
                     selectors: ['x509:uri:{PROXY}']\ndns_names: [{}]\n",
                    names[0]
                ),
            ),
        }
    }

    async fn measure(self, table: &mut Table, kilobytes: f64) {
        let (server, place, shown) = self.start();
        let shown = shown.as_ref();
        server.entry("bench", rustix::process::getuid().as_raw(), &[]);
        let (message, _) = fleet::sample(&server.socket(), "default").await;
        self.edit(&server, 0);
        // The edit is not the push: a scan, two records, a key and a signature, once for all connections.
        let mut one = Wires::open(&place, shown, 1, 1);
        let mut alone = Spent::default();
        for round in 1..=ROUNDS {
            alone.add(server.pid(), &mut one, round + 1, || self.edit(&server, round)).await;
        }
        drop(one);
        let directory = disk::directory();
        let bare = self.floor(directory.path());
        let push = wire::data(1, &message);
        let first = [wire::answer(1), push.clone()].concat();
        let mut floor = Raw::start(&bare, directory.path(), &first, &push);
        let pids = [server.pid(), floor.pid()];
        cpu::settled(server.pid()).await;
        let empty = pids.map(cpu::resident);
        let started = Instant::now();
        let mut ours = Wires::open(&place, shown, CONNECTIONS, PROCESSES);
        let opened = started.elapsed();
        let mut raw = Wires::open(&bare, None, CONNECTIONS, PROCESSES);
        cpu::settled(server.pid()).await;
        let idle = pids.map(cpu::resident);
        let (mut figure, mut limit) = (Spent::default(), Spent::default());
        for round in 1..=ROUNDS {
            limit.add(floor.pid(), &mut raw, round + 1, || floor.push()).await;
            figure.add(server.pid(), &mut ours, round + 1, || self.edit(&server, 100 + round)).await;
        }
        let pushed = pids.map(cpu::resident);

        let of = |what: &str| format!("{}: {what}", self.name());
        let ms = |value: f64| format!("{value:.0} ms");
        let each = |value: f64| format!("{:.2} µs", value / CONNECTIONS as f64);
        let (wall, edit) = (median(&figure.wall), median(&alone.wall));
        let (bare_wall, bare_cpu) = (median(&limit.wall), median(&limit.cpu));
        table.line(
            &of("push, first to last ACK : bare sockets"),
            &ms(wall - edit),
            &ms(bare_wall),
            (wall - edit) / bare_wall,
            Goal::AtMost(1.5),
        );
        let with_edit = of("… with the edit itself : bare sockets");
        table.line(&with_edit, &ms(wall), &ms(bare_wall), wall / bare_wall, Goal::None);
        let net = median(&figure.cpu) - median(&alone.cpu);
        let what = of("push + ACK, CPU of a connection : bare sockets");
        table.line(&what, &each(net), &each(bare_cpu), net / bare_cpu, Goal::AtMost(1.5));
        let what = of("… of its client");
        table.line(
            &what,
            &each(median(&figure.clients)),
            &each(median(&limit.clients)),
            f64::NAN,
            Goal::None,
        );
        for (what, after) in [("idle", idle), ("after pushes", pushed)] {
            let a_connection =
                |n: usize| after[n].saturating_sub(empty[n]) as f64 / 1024.0 / CONNECTIONS as f64;
            let [figure, limit] = [a_connection(0), a_connection(1)].map(|kb| format!("{kb:.1} KB"));
            let what = of(&format!("RSS a connection, {what} : bare sockets"));
            table.line(&what, &figure, &limit, a_connection(0), Goal::AtMost(kilobytes));
        }
        let opened = format!("{:.1} s", opened.as_secs_f64());
        table.line(&of("all connected and served, from nothing"), &opened, "", f64::NAN, Goal::None);
    }
}

/// What pushes took: by the wall in ms, and of CPU in µs.
#[derive(Default)]
struct Spent {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    clients: Vec<f64>,
}

impl Spent {
    /// Measures one push: `push` makes the server `pid` send the message number `number` to all `clients`.
    async fn add(&mut self, pid: u32, clients: &mut Wires, number: usize, push: impl FnOnce()) {
        let (before, theirs, start) = (cpu::settled(pid).await, clients.cpu(), Instant::now());
        push();
        clients.all_answered(number);
        self.wall.push(start.elapsed().as_secs_f64() * 1e3);
        self.cpu.push(us(cpu::settled(pid).await - before));
        self.clients.push(us(clients.cpu() - theirs));
    }
}
