//! What the demo or a benchmark is doing, on standard error: one line that changes on a terminal, a line a step elsewhere.

use std::{
    cell::Cell,
    io::{self, IsTerminal},
};

/// Says what goes on.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    /// Whether a line is there that the next one replaces.
    pending: Cell<bool>,
}

impl Progress {
    /// Nothing is said yet.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), pending: Cell::new(false) }
    }

    /// A new step begins.
    pub fn step(&self, what: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{what} …");
            self.pending.set(true);
        } else {
            eprintln!("{what} …");
        }
    }

    /// The step goes on: shown only where it replaces what was there.
    pub fn part(&self, what: &str) {
        if self.terminal {
            self.step(what);
        }
    }

    /// Nothing more to say: clears the line.
    pub fn done(&self) {
        if self.pending.take() {
            eprint!("\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
