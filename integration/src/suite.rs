//! Running tests side by side in the sandbox, each with clusters of its own; a failed one shows its agents' logs, and
//! one that wants a program of others that is not there is left out.

use std::{
    cell::RefCell,
    fmt::Write,
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{callers, sandbox};

/// A test: its name and what it does.
pub type Test = (&'static str, fn() -> Result<()>);

/// Lists functions as tests called after themselves.
#[macro_export]
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        [$((stringify!($test), $test as fn() -> anyhow::Result<()>)),*]
    };
}

/// Lines of an agent's log that a failed test shows.
const LOG_LINES: usize = 20;

thread_local! {
    static LOGS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `tests` as the command line asks; the `main` of a test program.
///
/// Call it before any thread is started.
#[must_use]
pub fn run(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    if !arguments.list
        && let Err(e) = sandbox::enter()
    {
        eprintln!("error: {e:#}");
        return ExitCode::FAILURE;
    }
    let trials = tests.into_iter().map(|(name, test)| {
        let name = name.replace("::", "/");
        Trial::ignorable_test(name, move || run_one(test))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run_one(test: fn() -> Result<()>) -> Result<Completion, Failed> {
    LOGS.with_borrow_mut(String::clear);
    let start = Instant::now();
    let result = test();
    let took = start.elapsed();
    if took > Duration::from_secs(30) {
        eprintln!("a test took {:.0} s", took.as_secs_f32());
    }
    let Err(error) = result else { return Ok(Completion::Completed) };
    if let Some(reason) = callers::excuse(&error) {
        return Ok(Completion::ignored_with(reason));
    }
    let logs = LOGS.with_borrow(String::clone);
    Err(Failed::from(format!("{error:#}\n{logs}")))
}

/// Keeps the ends of a cluster's logs for the message of the test that runs on this thread.
pub(crate) fn remember_logs(logs: &[(String, PathBuf)]) {
    LOGS.with_borrow_mut(|text| {
        for (node, path) in logs {
            let log = fs::read_to_string(path).unwrap_or_default();
            if log.is_empty() {
                continue;
            }
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "beelined of {node} logged:\n  {tail}");
        }
    });
}
