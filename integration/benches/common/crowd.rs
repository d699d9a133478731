//! Many clients at once, in processes of their own: a process may open 20,000 files, and a user may hold
//! half of the server's connections.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::sds::Connection;

const TASK: &str = "BENCH_CROWD";
const PATIENCE: Duration = Duration::from_secs(120);

/// The clients of one user.
pub struct Crowd {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Crowd {
    /// Makes ready `streams` clients on `connections` connections to `socket`, as `uid` if we may.
    pub fn start(socket: &Path, uid: Option<u32>, connections: usize, streams: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(TASK, format!("{connections} {streams} {}", socket.display()));
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
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
    let mut words = task.splitn(3, ' ');
    let mut number = || words.next().unwrap().parse::<usize>().unwrap();
    let (connections, streams) = (number(), number());
    let socket = PathBuf::from(words.next().unwrap());
    println!("ready");
    std::io::stdin().lines().next();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(run(socket, connections, streams));
    let answers: Vec<String> = answers.iter().map(|millis| format!("{millis:.2}")).collect();
    println!("{}", answers.join(" "));
    // Stay until we are killed: the others are not to be served by our leaving.
    std::thread::sleep(PATIENCE);
    true
}

async fn run(socket: PathBuf, connections: usize, streams: usize) -> Vec<f64> {
    let start = Instant::now();
    let answers = Arc::new(Mutex::new(Vec::with_capacity(streams)));
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let share = (streams + number) / connections; // they add up to all of them
        let (socket, answers) = (socket.clone(), answers.clone());
        clients.spawn(async move {
            let connection = Connection::open(&socket).await;
            let mut open = JoinSet::new();
            for _ in 0..share {
                let mut stream = connection.subscribe("default").await;
                let answers = answers.clone();
                open.spawn(async move {
                    stream.read().await;
                    answers.lock().unwrap().push(start.elapsed().as_secs_f64() * 1e3);
                    stream
                });
            }
            // Streams stay open until all of this connection are answered, and the connection after that.
            (open.join_all().await, connection)
        });
    }
    let mut kept = Vec::with_capacity(connections);
    let _ = tokio::time::timeout(PATIENCE, async {
        while let Some(done) = clients.join_next().await {
            kept.extend(done);
        }
    })
    .await;
    let answers = answers.lock().unwrap();
    answers.clone()
}
