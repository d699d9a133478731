//! Many streams in this process, each of which acknowledges what it gets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::sds::{self, Ask, Connection};

/// What none of the measured servers needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Streams that ask for the same.
pub struct Fleet {
    size: usize,
    shared: Arc<Shared>,
    streams: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    answered: AtomicUsize,
    news: Notify,
}

impl Fleet {
    /// Opens `size` streams, `share` of them on each connection, and waits until all have what comes at first.
    pub async fn open(socket: &Path, ask: impl Into<Ask>, size: usize, share: usize) -> Self {
        let ask = Arc::new(ask.into());
        let shared = Arc::new(Shared::default());
        let mut streams = JoinSet::new();
        let mut connection = Connection::open(socket).await;
        for number in 0..size {
            if number > 0 && number % share == 0 {
                connection = Connection::open(socket).await;
            }
            let mut stream = connection.ask(&ask).await;
            let (shared, ask) = (shared.clone(), ask.clone());
            streams.spawn(async move {
                loop {
                    let message = stream.read().await;
                    if let Some(ack) = ask.ack(&message) {
                        stream.send(ack);
                    }
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                    shared.news.notify_one();
                }
            });
            // Opened in steps, so that no server is measured by how it takes a flood.
            if number % 250 == 249 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let mut fleet = Self { size, shared, streams };
        fleet.all_answered(ask.at_first()).await;
        fleet
    }

    /// Waits until each stream has got, and acknowledged, `times` messages since it was opened.
    pub async fn all_answered(&mut self, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            if answered >= times * self.size {
                return;
            }
            assert!(Instant::now() < deadline, "{answered} of {} answers came", times * self.size);
            if let Some(ended) = self.streams.try_join_next() {
                ended.unwrap();
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), self.shared.news.notified()).await;
        }
    }

    pub fn answers(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub async fn close(mut self) {
        self.streams.shutdown().await;
    }
}

/// The one message that a stream of `name` gets now, and its acknowledgement.
pub async fn sample(socket: &Path, name: &str) -> (Bytes, Bytes) {
    let message = Connection::open(socket).await.subscribe(name).await.next().await;
    let ack = sds::ack(name, &sds::decode(&message));
    (message, ack)
}
