//! How the demo speaks: compact lines, colour only where a person looks.

use std::io::{IsTerminal, stdout};

pub(super) struct Terminal {
    colour: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self { colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn row(&self, name: &str, text: &str) {
        println!("  {}{text}", self.paint(1, &format!("{name:<5}")));
    }

    /// One claim, whether it holds, and what was seen.
    pub(super) fn step(&self, holds: bool, claim: &str, seen: &[String]) {
        let mark = if holds { self.paint(32, "holds") } else { self.paint(31, "FAILS") };
        println!("{mark}  {claim}");
        for line in seen {
            println!("       {}", self.paint(2, line));
        }
    }

    pub(super) fn result(&self, holds: bool, text: &str) {
        println!("\n{}", self.paint(if holds { 32 } else { 31 }, text));
    }
}
