//! The measuring: contenders in turns, so that what else the machine does meets all alike.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use integration::progress::Progress;

use crate::contender::{Call, Contender, PODS};

/// Calls of a burst that run at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// What was measured of one contender.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// Calls for one pod while nothing else is asked of the node.
    pub(crate) single: Calls,
    /// The same calls in bursts.
    pub(crate) burst: Calls,
    /// Time from a burst's first call to its last answer, ADDs and DELs together, divided by its pods.
    pub(crate) per_pod: Vec<Duration>,
}

/// Durations of calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) add: Vec<Duration>,
    pub(crate) del: Vec<Duration>,
}

impl Calls {
    /// ADD and DEL of each pod together.
    pub(crate) fn both(&self) -> Vec<Duration> {
        self.add.iter().zip(&self.del).map(|(add, del)| *add + *del).collect()
    }
}

/// Measures all contenders.
pub(crate) fn all(
    contenders: &[Contender; 2],
    rounds: usize,
    bursts: usize,
    progress: &Progress,
) -> Result<[Measured; 2]> {
    let named = |contender: &Contender| Measured { name: contender.name, ..Measured::default() };
    let mut measured = contenders.each_ref().map(named);
    // The first calls make what later ones find: a bridge, the file of leases; and read programs from the disk.
    for contender in contenders {
        single(contender, 0)?;
    }
    progress.step(&format!("one pod at a time, {rounds} rounds"));
    for round in 0..rounds {
        progress.part(&format!("one pod, round {} of {rounds}", round + 1));
        for (contender, measured) in contenders.iter().zip(&mut measured) {
            let (add, del) = single(contender, round % PODS)?;
            measured.single.add.push(add);
            measured.single.del.push(del);
        }
    }
    progress.step(&format!("{PODS} pods, {AT_ONCE} at a time, {bursts} rounds"));
    for round in 0..bursts {
        progress.part(&format!("{PODS} pods, {AT_ONCE} at a time, round {} of {bursts}", round + 1));
        for (contender, measured) in contenders.iter().zip(&mut measured) {
            let start = Instant::now();
            measured.burst.add.extend(burst(contender, Call::Add)?);
            measured.burst.del.extend(burst(contender, Call::Del)?);
            measured.per_pod.push(start.elapsed() / u32::try_from(PODS)?);
        }
    }
    Ok(measured)
}

fn single(contender: &Contender, pod: usize) -> Result<(Duration, Duration)> {
    let work = || {
        contender.enter()?;
        Ok((contender.call(Call::Add, pod)?, contender.call(Call::Del, pod)?))
    };
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a thread panicked"))?
}

/// One call for each pod; durations in the pods' order.
fn burst(contender: &Contender, call: Call) -> Result<Vec<Duration>> {
    let todo = Mutex::new((0..PODS).collect::<VecDeque<_>>());
    let worker = || {
        contender.enter()?;
        let mut done = Vec::new();
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(pod) = next else { return Ok(done) };
            done.push((pod, contender.call(call, pod)?));
        }
    };
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let done =
            workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?);
        done.collect::<Result<Vec<_>>>()
    })?
    .concat();
    done.sort_unstable();
    Ok(done.into_iter().map(|(_, took)| took).collect())
}
