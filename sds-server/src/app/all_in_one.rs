//! `countersign serve`: authority and agent in one process.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::{Arc, PoisonError};

use spiffe_bridge::attest::{Attestor, Process};
use spiffe_bridge::audit::Log;
use spiffe_bridge::authority;
use spiffe_bridge::clock::Clock;
use spiffe_bridge::node::{self, Caller, CallerTask, Node, Rounds, SealingKey, Session};
use spiffe_bridge::registration::{Directory, Indexer};
use spiffe_bridge::roster;

use super::broker::{self, Brokers};
use super::data::Data;
use super::handover::{self, Offer, Predecessor, Taken, TakenCell};
use super::remote::{Around, Remote};
use super::sources::{self, Parts};
use super::{reload, retention, standing};
use crate::admin::{AdminServer, MetricsServer};
use crate::broker_api::Workloads;
use crate::config::Settings;
use crate::endpoint::sockets::{Maker, Sockets};
use crate::endpoint::uds::{Listener, Others};
use crate::endpoint::{Limits, Peer, Server};
use crate::receipts::{Desk, Receipts};
use crate::runtime::{self, Crowd, Drain, Readiness, Signals, Supervisor};
use crate::sds::{Proxies, SdsService, Shared, StreamRegistry};
use crate::telemetry::metrics::Metrics;
use crate::workload_api::{self, Feeds, Neighbours, WorkloadApi};

/// The file of the key that seals the SVID cache. Not among the authority's keys: it signs nothing.
const SEALING_KEY: &str = "sealing.key";

/// How a run of the server begins.
pub(super) struct Start {
    pub(super) init: bool,
    /// Sockets that were made already.
    pub(super) handed: Sockets,
    /// The server whose place this one takes.
    pub(super) predecessor: Option<Predecessor>,
}

/// Runs the server until it is told to end, or another takes its place, which it then gives. Logs and metrics are set
/// up, the process is hardened.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it, and the first failure of a task.
pub(super) async fn serve(
    settings: Settings,
    start: Start,
    metrics: Metrics,
) -> anyhow::Result<Option<Taken>> {
    let Start { init, mut handed, predecessor } = start;
    let maker = handed.maker();
    let taken = TakenCell::default();
    let (drainer, drain) = runtime::drain::channel();
    let (signals, reread) = Signals::install(drainer.clone())?;
    let clock = Clock::system();
    let data = Data::open(&settings, init)?;
    let served = {
        let config = settings.authority();
        if init {
            data.init(&config, &clock).await?;
        }
        let log = Log::open(data.store.clone(), clock.clone())?;
        authority::complete(&config, data.keys.clone(), &data.store, &log).await?;
        let keep = config.retention + config.longest_leaf_lifetime;
        let (authority, issuer) =
            authority::open(config, data.keys.clone(), data.store.clone(), log.clone(), clock.clone())?;
        ::metrics::gauge!("countersign_root_not_after_timestamp_seconds")
            .set(authority.status().root_not_after.unix_seconds() as f64);
        let (indexer, index) = Indexer::load(data.store.clone())?;
        let (directory, entries) = Directory::open(
            settings.entries.clone(),
            settings.trust_domain.clone(),
            &data.store,
            log.clone(),
            clock.clone(),
        )?;
        let remote = Remote::open(&settings.remote, &authority, &mut handed).await?;
        let (bundle, listed) = (authority.bundle(), index.clone());
        let key = SealingKey::load_or_create(&settings.data.join(SEALING_KEY))?;
        let (node, engine) = node::open(
            settings.renewal(),
            authority.clone(),
            index.clone(),
            data.store.clone(),
            key,
            clock.clone(),
        );

        let issued_until = authority::issued_until(&data.store)?;
        let (roster, keeper) =
            roster::open(settings.roster(), data.store.clone(), issued_until, clock.clone()).await?;

        let readiness = Readiness::new();
        let starting = readiness.guard("entries");
        let streams = StreamRegistry::of(Proxies::remembered_by(roster.clone()));
        let desk = Desk::new(streams.proxies().clone(), roster.clone(), clock.clone());
        let attestor = attestor(&settings);
        let listener = Listener::open(&settings.socket, 0o666, &mut handed)?;
        let parts = Parts {
            settings: settings.clone(),
            authority,
            node: node.clone(),
            index,
            entries,
            streams,
            roster: roster.clone(),
            desk: desk.clone(),
            log: log.clone(),
            attestor: attestor.clone(),
            socket: listener.standing(),
            remote: remote.as_ref().map(Remote::status),
            broker: None,
            feeds: Feeds::new(clock.clone()),
        };
        let brokers = Brokers::open(&settings.broker, &mut handed)?;
        let parts = Parts { broker: brokers.as_ref().map(Brokers::status), ..parts };
        let admin = {
            let sources = sources::of(&parts, &metrics, &readiness, &drain);
            AdminServer::bind(&settings.admin_socket(), &sources)?
        };
        handed.all_taken()?;
        let mut sockets = vec![listener.share()?];
        sockets.extend(remote.as_ref().map(Remote::share).transpose()?);
        sockets.extend(brokers.as_ref().map(Brokers::share).transpose()?);
        let files: Vec<Others> =
            std::iter::once(listener.others()).chain(brokers.as_ref().map(Brokers::others)).collect();
        // Sockets of our own that came back. Else systemd keeps its files, and a predecessor its own until we serve.
        if maker == Maker::Server && predecessor.is_none() {
            files.iter().for_each(Others::take);
        }
        let offer = Offer {
            door: Listener::bind(&settings.data.join(handover::SOCKET), 0o600)?,
            sockets,
            maker,
            files: files.clone(),
            drainer: drainer.clone(),
            taken: taken.clone(),
        };
        let limits = Limits::new(&settings.limits, runtime::open_files())
            .with_remote(settings.remote.connections, settings.remote.connections_per_address);
        let shared = Shared {
            clock: clock.clone(),
            streams: parts.streams.clone(),
            limits: settings.sds,
            tokens: Some(node.clone()),
        };
        let workloads = Workloads {
            attestor: attestor.clone(),
            node: node.clone(),
            limits: limits.clone(),
            rounds: Rounds::default(),
            drain: drain.token(),
        };
        let admit = admitter(node.clone(), attestor);
        let (neighbours, health) = Neighbours::new(workload_api::LOCAL).await?;
        let workload = workload_api::Shared {
            clock: clock.clone(),
            node: node.clone(),
            readiness: readiness.clone(),
            config: settings.workload_api,
            jwt_audiences: settings.authority.jwt_audiences,
            feeds: parts.feeds.clone(),
        };
        let sds = Receipts::beside(SdsService::new(shared), desk.clone());
        let service = WorkloadApi::beside(sds.clone(), workload.clone(), neighbours);
        let crowd = Crowd::start()?;
        let server = Server::new(listener, limits.clone(), settings.limits.clone(), service, admit);
        let server = server.with_crowd(&crowd);

        let mut tasks = Supervisor::new(drainer);
        tasks.spawn_background("signals", signals.run());
        tasks.spawn_background("watchdog", runtime::notify::watchdog());
        tasks.spawn("issuer", |drain| issuer.run(drain.token()));
        tasks.spawn("index", |drain| indexer.run(drain.token()));
        tasks.spawn("directory", |drain| directory.run(drain.token()));
        tasks.spawn("node", |drain| async move {
            engine.run(drain.token()).await;
            Ok::<_, Infallible>(())
        });
        if let Some(remote) = remote {
            let around = Around {
                trust_domain: &settings.trust_domain,
                config: (settings.limits.clone(), settings.remote.clone()),
                node,
                clock,
                limits,
                service: sds,
                readiness: &readiness,
                crowd: &crowd,
                reread: reread.clone(),
            };
            remote.spawn(around, &mut tasks).await?;
        }
        if let Some(brokers) = brokers {
            let around = broker::Around {
                trust_domain: &settings.trust_domain,
                limits: settings.limits.clone(),
                bundle,
                entries: listed,
                shared: workload,
                workloads,
                readiness: &readiness,
                crowd: &crowd,
            };
            brokers.spawn(around, &mut tasks).await?;
        }
        let socket = parts.socket.clone();
        tasks.spawn("socket", |drain| standing::run(socket, drain));
        let receipts = desk.clone();
        tasks.spawn("receipts", |drain| receipts.run(drain));
        tasks.spawn("roster", |drain| keeper.run(drain.token()));
        tasks.spawn("reload", |drain| reload::run(reread, parts.entries.clone(), drain));
        let records = log.clone();
        tasks.spawn("retention", |drain| retention::run(records, keep, drain));
        tasks.spawn("admin", |drain| admin.run(drain));
        let upkeep = metrics.clone();
        tasks.spawn("metrics", |drain| upkeep.upkeep(drain));
        if let Some(address) = settings.metrics.listen {
            let sources = sources::of(&parts, &metrics, &readiness, &drain);
            let server = MetricsServer::bind(address, &sources).await?;
            tasks.spawn("metrics listener", |drain| server.run(drain));
        }
        tasks.spawn_finite("first scan", |drain| first_scan(parts, starting, drain));
        let (waiting, told) = (readiness.clone(), health);
        tasks.spawn("health", |drain| told.run(waiting, drain));
        tasks.spawn("endpoint", |drain| server.run(drain));
        tasks.spawn("handover", |drain| offer.run(drain));
        let place = predecessor.map(|predecessor| (predecessor, files));
        tasks.spawn_finite("readiness", |drain| announce(readiness, place, drain));
        let served = tasks.run(settings.limits.drain).await;
        // Nothing is sent any more: what the last streams said is taken in, and the roster has it all.
        desk.look();
        if let Err(error) = roster.close().await {
            tracing::warn!(%error, "the roster could not be closed: the next start takes it for incomplete");
        }
        served
    };
    data.close();
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (served, taken) {
        (Ok(()), taken) => Ok(taken),
        // Its log has told of the failure; the successor waits.
        (Err(_), Some(taken)) => Ok(Some(taken)),
        (Err(failure), None) => Err(failure.into()),
    }
}

fn attestor(settings: &Settings) -> Arc<Attestor> {
    let (attestor, limitations) = Attestor::new(settings.attestors());
    for limitation in limitations {
        tracing::warn!(%limitation, "the server cannot see everything");
    }
    Arc::new(attestor)
}

/// What turns a peer into a session and the work that keeps it true.
fn admitter(
    node: Node,
    attestor: Arc<Attestor>,
) -> impl Fn(Peer, u64) -> (Session, futures::future::BoxFuture<'static, ()>) + Send + use<> {
    move |peer, connection| {
        let Peer { pid, uid, gid, pidfd } = peer;
        let (sessions, session) = Session::channel(Caller::local(connection, pid, uid, gid));
        let work: futures::future::BoxFuture<'static, ()> = match Process::from_peer(pid, uid, gid, pidfd) {
            Ok(process) => {
                let task = CallerTask::new(process, attestor.clone(), node.clone(), sessions);
                Box::pin(task.run())
            }
            Err(error) => {
                let (node, caller) = (node.clone(), session.caller().clone());
                Box::pin(async move { sessions.refuse(&caller, &error, node.refusals()) })
            }
        };
        (session, work)
    }
}

/// Holds readiness back until the entries directory was looked at once.
async fn first_scan(parts: Parts, starting: runtime::Guard, drain: Drain) -> Result<(), Infallible> {
    let mut status = parts.entries.status();
    tokio::select! {
        () = drain.begun() => {}
        _ = status.wait_for(|status| status.last_scan.is_some()) => {}
    }
    drop(starting);
    Ok(())
}

async fn announce(
    readiness: Readiness,
    place: Option<(Predecessor, Vec<Others>)>,
    drain: Drain,
) -> Result<(), Infallible> {
    tokio::select! {
        biased; // a drain ends the waiting of the others too: that is not readiness
        () = drain.begun() => return Ok(()),
        () = readiness.ready() => {}
    }
    if let Some((predecessor, files)) = place {
        files.iter().for_each(Others::take);
        predecessor.serving().await;
    }
    // For scripts and tests: the line stands when both sockets are served.
    if let Err(error) = writeln!(std::io::stdout(), "ready") {
        tracing::warn!(%error, "cannot print that the server is ready; it is");
    }
    runtime::notify::ready();
    drain.begun().await;
    runtime::notify::stopping();
    Ok(())
}
