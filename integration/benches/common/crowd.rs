//! Many clients at once, each on a connection of its own, in processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::sds::Connection;

const TASK: &str = "BENCH_CROWD";
const PATIENCE: Duration = Duration::from_secs(120);

/// The clients of one process.
pub struct Crowd {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Crowd {
    /// Makes ready `clients` clients of `socket`.
    pub fn start(socket: &Path, clients: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(TASK, format!("{clients} {}", socket.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut crowd = Self { child, output };
        assert_eq!(crowd.line(), "ready\n");
        crowd
    }

    /// All at once.
    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// After how many milliseconds each client had its secret; a client that failed is not in the list.
    pub fn answers(&mut self) -> Vec<f64> {
        self.line().split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the clients, if this process was started to.
pub fn run_if_asked() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let (clients, socket) = task.split_once(' ').unwrap();
    let (clients, socket) = (clients.parse().unwrap(), PathBuf::from(socket));
    println!("ready");
    std::io::stdin().lines().next();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(run(socket, clients));
    let answers: Vec<String> = answers.iter().map(|millis| format!("{millis:.2}")).collect();
    println!("{}", answers.join(" "));
    // Stay until we are killed: the others are not to be served by our leaving.
    std::thread::sleep(PATIENCE);
    true
}

async fn run(socket: PathBuf, clients: usize) -> Vec<f64> {
    let start = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..clients {
        let socket = socket.clone();
        open.spawn(async move {
            let connection = Connection::open(&socket).await;
            let mut stream = connection.subscribe("default").await;
            stream.read().await;
            (start.elapsed().as_secs_f64() * 1e3, stream, connection)
        });
    }
    // They stay connected until all are answered, or the time is up.
    let mut answered = Vec::with_capacity(clients);
    let all = async {
        while let Some(done) = open.join_next().await {
            answered.extend(done); // a client that failed is left out
        }
    };
    let _ = tokio::time::timeout(PATIENCE, all).await;
    answered.iter().map(|(millis, ..)| *millis).collect()
}
