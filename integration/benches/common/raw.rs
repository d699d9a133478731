//! The raw floor: a process that writes ready octets to sockets, one write(2) each, and reads what comes without looking
//! at it. No HTTP/2, no runtime, no memory beyond the kernel's: what a server spends beyond this is its own.
//!
//! It runs as this program again, told by its environment. A line on its standard input makes it send once more.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::event::epoll;

use super::wire;
use super::wires::Place;

const PLACE: &str = "BENCH_RAW_PLACE";
const FIRST: &str = "BENCH_RAW_FIRST";
const PUSH: &str = "BENCH_RAW_PUSH";

/// The process, killed on drop.
pub struct Raw {
    child: Child,
    input: ChildStdin,
}

impl Raw {
    /// Starts it at `place`, to send `first` to whoever comes, and `push` to all when it is told to.
    pub fn start(place: &Place, directory: &Path, first: &[u8], push: &[u8]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(PLACE, place.to_string());
        for (name, octets) in [(FIRST, first), (PUSH, push)] {
            let file = directory.join(name);
            std::fs::write(&file, octets).unwrap();
            command.env(name, file);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn push(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Sockets = Arc<Mutex<Vec<Arc<OwnedFd>>>>;

/// Runs the floor, if this process was started as one.
pub fn run_if_asked() -> bool {
    let Ok(place) = std::env::var(PLACE) else { return false };
    let [first, push] =
        [FIRST, PUSH].map(|name| std::fs::read(PathBuf::from(std::env::var_os(name).unwrap())).unwrap());
    let first = [wire::settings(), first].concat();
    let sockets = Sockets::default();
    let pushed = sockets.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            for socket in pushed.lock().unwrap().iter() {
                // A client that has gone is nobody's concern here.
                let _ = rustix::io::write(socket, &push);
            }
        }
    });
    let place: Place = place.parse().unwrap();
    let accept: Box<dyn Fn() -> OwnedFd> = match &place {
        Place::Unix(path) => {
            let listener = UnixListener::bind(path).unwrap();
            rustix::net::listen(&listener, i32::MAX).unwrap();
            Box::new(move || listener.accept().unwrap().0.into())
        }
        Place::Tcp(address) => {
            let listener = TcpListener::bind(address).unwrap();
            rustix::net::listen(&listener, i32::MAX).unwrap();
            Box::new(move || {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                stream.into()
            })
        }
    };
    let all = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).unwrap());
    let read = (all.clone(), sockets.clone());
    std::thread::spawn(move || hear(&read.0, &read.1, &first));
    println!("ready");
    loop {
        let socket = Arc::new(accept());
        let mut sockets = sockets.lock().unwrap();
        let number = epoll::EventData::new_u64(sockets.len() as u64);
        epoll::add(&*all, socket.as_fd(), number, epoll::EventFlags::IN).unwrap();
        sockets.push(socket);
    }
}

/// Reads from whoever sends; who sends for the first time gets the answer.
fn hear(all: &OwnedFd, sockets: &Sockets, first: &[u8]) {
    let mut answered = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut octets = [0; 16_384];
    loop {
        events.clear();
        epoll::wait(all, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap();
            let socket = sockets.lock().unwrap()[number].clone();
            match rustix::io::read(&*socket, &mut octets[..]) {
                Ok(0) | Err(_) => epoll::delete(all, socket.as_fd()).unwrap(),
                Ok(read) => {
                    if answered.len() <= number {
                        answered.resize(number + 1, false);
                    }
                    if !std::mem::replace(&mut answered[number], true) {
                        rustix::io::write(&*socket, first).unwrap();
                        continue;
                    }
                    let calls = wire::answer_calls(&octets[..read]);
                    if !calls.is_empty() {
                        rustix::io::write(&*socket, &calls).unwrap();
                    }
                }
            }
        }
    }
}
