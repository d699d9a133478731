//! The command line, and what it asks a running server over the admin socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use sds_server::cli::output::Printer;
use sds_server::cli::{EntryCheck, Hooks, run_from};
use sds_server::config::Environment;

mod fixture;
mod lists;
mod socket;
mod usage;

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    fn take(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Debug)]
struct Ran {
    status: u8,
    out: String,
    err: String,
}

fn run_in(environment: &Environment, args: &[&str]) -> Ran {
    let hooks = Hooks {
        serve: |settings, init, listeners| {
            anyhow::bail!("served {} {init:?} {listeners:?}", settings.trust_domain.as_str())
        },
        init: |settings| Ok(format!("initialised {}", settings.data.display())),
        check_entries: |path, _| {
            let is_wrong = path.ends_with("wrong");
            let problems = if is_wrong { vec!["a.yaml:3: no such selector".to_owned()] } else { Vec::new() };
            let trust_domains = vec!["other.org".to_owned()];
            let profiles = vec!["legacy".to_owned()];
            EntryCheck { files: 1, entries: 2, trust_domains, profiles, problems, open_to_all: None }
        },
    };
    let (out, err) = (Text::default(), Text::default());
    let args = ["countersign"].iter().chain(args).map(OsString::from);
    let (mut to_out, mut to_err) = (Printer::to(out.clone()), Printer::to(err.clone()));
    let status = run_from(args, hooks, environment, &mut to_out, &mut to_err);
    Ran { status, out: out.take(), err: err.take() }
}

fn run(args: &[&str]) -> Ran {
    run_in(&Environment { is_root: true, ..Environment::default() }, args)
}
