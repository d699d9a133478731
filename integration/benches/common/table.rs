//! The table: figure, limit, ratio, goal, and whether it was reached.

/// What a ratio (or a figure, where there is no limit) should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told for its own sake.
    None,
}

/// The lines of one bench, printed as they come.
#[derive(Debug, Default)]
pub struct Table {
    goals: usize,
    reached: usize,
}

impl Table {
    /// Prints the head.
    pub fn new(bench: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        println!("\n{bench}: {cores} cores, load {load} before\n");
        println!(
            "| {:<52} | {:>22} | {:>22} | {:>6} | {:>7} | {:<7} |",
            "what", "figure", "limit", "ratio", "goal", "reached"
        );
        println!("|{0:-<54}|{0:->24}|{0:->24}|{0:->8}|{0:->9}|{0:-<9}|", "");
        Self::default()
    }

    /// Prints a line. `value` is what the goal is about, usually the ratio.
    pub fn line(&mut self, what: &str, figure: &str, limit: &str, value: f64, goal: Goal) {
        let (goal, reached) = match goal {
            Goal::AtLeast(least) => (format!("≥ {least}"), Some(value >= least)),
            Goal::AtMost(most) => (format!("≤ {most}"), Some(value <= most)),
            Goal::None => (String::new(), None),
        };
        self.goals += usize::from(reached.is_some());
        self.reached += usize::from(reached == Some(true));
        let reached = reached.map_or("", |yes| if yes { "yes" } else { "NO" });
        let value = if value.is_nan() { String::new() } else { format!("{value:.2}") };
        println!("| {what:<52} | {figure:>22} | {limit:>22} | {value:>6} | {goal:>7} | {reached:<7} |");
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!("\n{} of {} goals reached\n", self.reached, self.goals);
    }
}
