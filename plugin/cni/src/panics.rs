//! A panic is our bug, but the runtime must still get an answer that it can read.

use std::{
    io::{self, Write},
    panic, process,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{Failure, Version};

/// Place in [`Version::ALL`] of the version to answer in.
static VERSION: AtomicUsize = AtomicUsize::new(Version::LATEST as usize);

/// From now on a panic, in any thread, prints a CNI error and ends the process.
///
/// A half-made attachment is left to DEL, which runtimes call after a failed ADD.
pub(crate) fn answer_as_errors() {
    panic::set_hook(Box::new(|panic| {
        let version = Version::ALL.get(VERSION.load(Ordering::Relaxed)).copied().unwrap_or(Version::LATEST);
        // Not `println!`, which would panic again if nobody reads.
        let _ = writeln!(io::stdout(), "{:#}", Failure::bug(panic).reply(version));
        process::exit(1);
    }));
}

/// From now on the error is in `version`.
pub(crate) fn answer_in(version: Version) {
    VERSION.store(version as usize, Ordering::Relaxed);
}
