//! The same work done by us and by the primitives alone, in turns, told as a part of the primitives' rate.

use std::time::Instant;

use super::cpu;
use super::stats::{Pairs, median, us};
use super::table::{Goal, Table};

/// Of calls on one thread.
const ROUNDS: usize = 60;
const BATCH: u32 = 200;
/// Of many calls at once.
const RUNS: usize = 5;

/// Calls on this thread, by their CPU time.
pub fn single(table: &mut Table, what: &str, figure: &dyn Fn(), limit: &dyn Fn(), goal: Goal) {
    batch(figure); // warm
    batch(limit);
    let pairs = Pairs::measure(ROUNDS, || batch(figure), || batch(limit));
    let [figure, limit] = [&pairs.figures, &pairs.limits].map(|v| format!("{:.1} µs", median(v)));
    // Rates: the goal is a part of what the primitives reach.
    table.line(what, &figure, &limit, 1.0 / pairs.ratio(), goal);
}

/// CPU time of one call, in µs.
fn batch(work: &dyn Fn()) -> f64 {
    let before = cpu::thread();
    (0..BATCH).for_each(|_| work());
    us(cpu::thread() - before) / f64::from(BATCH)
}

/// `count` calls at once, of what was prepared before the time is taken: the goal is about wall time, and CPU time is told
/// too.
pub async fn many<P>(
    table: &mut Table,
    what: &str,
    count: usize,
    prepare: impl Fn() -> P,
    (ours, limit): (impl AsyncFn(P), impl Fn()),
    goal: Goal,
) {
    ours(prepare()).await; // warm
    let (mut figures, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        limits.push(spent(async || limit()).await);
        let prepared = prepare();
        figures.push(spent(async || ours(prepared).await).await);
    }
    for (clock, part, goal) in [("wall", 0, goal), ("CPU", 1, Goal::None)] {
        let ratios: Vec<f64> =
            limits.iter().zip(&figures).map(|(raw, ours)| raw[part] / ours[part]).collect();
        let rate =
            |runs: &[[f64; 2]]| count as f64 / median(&runs.iter().map(|run| run[part]).collect::<Vec<_>>());
        let [figure, limit] = [&figures, &limits].map(|runs| format!("{:.0}/s", rate(runs)));
        table.line(&format!("{what}, by {clock} time"), &figure, &limit, median(&ratios), goal);
    }
}

/// Seconds by the wall and by the CPU.
async fn spent(work: impl AsyncFnOnce()) -> [f64; 2] {
    let (cpu, wall) = (cpu::process(), Instant::now());
    work().await;
    [wall.elapsed(), cpu::process() - cpu].map(|spent| spent.as_secs_f64())
}

/// `count` calls on all threads of the machine, each with a worker of its own.
pub fn on_all_threads<W: FnMut()>(count: usize, worker: impl Fn() -> W + Sync) {
    let threads = threads();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let worker = &worker;
            scope.spawn(move || {
                let mut work = worker();
                (thread..count).step_by(threads).for_each(|_| work());
            });
        }
    });
}

pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
