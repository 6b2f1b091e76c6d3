//! The measuring: every change is seen by both contenders at once, so that what else the machine does meets both alike.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use integration::{api_server::Admin, progress::Progress};

use crate::{
    contender::{Beeline, Change, Contender, KubeProxy, Memory},
    objects::{Endpoint, Service},
};

/// Between changes, so that none waits for the one before: kube-proxy writes once a second at most.
const PAUSE: Duration = Duration::from_millis(2_200);
/// After a start, until memory is looked at and anything is measured.
const SETTLE: Duration = Duration::from_secs(5);

/// How much is measured of each size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Changes of each kind.
    pub(crate) changes: u32,
    /// Restarts of each contender.
    pub(crate) restarts: u32,
}

/// What was measured at one size: of Beeline, and of kube-proxy.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) services: u32,
    pub(crate) new_service: [Vec<Duration>; 2],
    pub(crate) endpoint: [Vec<Duration>; 2],
    pub(crate) restart: [Vec<Duration>; 2],
    pub(crate) memory: [Memory; 2],
    /// What the API server alone takes for the change of an endpoint, until its answer.
    pub(crate) request: Vec<Duration>,
    /// What the agent says itself of all these changes, on average from when it heard of them.
    pub(crate) own_mean: Duration,
}

/// The cluster that grows from size to size.
pub(crate) struct Lab<'a> {
    pub(crate) admin: Admin,
    pub(crate) beeline: Beeline<'a>,
    pub(crate) kube_proxy: KubeProxy<'a>,
    services: Vec<Service>,
    /// The last number that a service or spare endpoint was given.
    fresh: u32,
}

impl<'a> Lab<'a> {
    /// Nothing runs, and there is no service.
    pub(crate) fn new(admin: Admin, beeline: Beeline<'a>, kube_proxy: KubeProxy<'a>) -> Self {
        Self { admin, beeline, kube_proxy, services: vec![], fresh: 0 }
    }

    fn contenders(&mut self) -> [&mut dyn Contender; 2] {
        [&mut self.beeline, &mut self.kube_proxy]
    }

    /// Measures everything with so many services.
    pub(crate) fn measure(&mut self, services: u32, effort: Effort, progress: &Progress) -> Result<Measured> {
        progress.step(&format!("{services} services: making them"));
        self.grow(services)?;
        let mut measured = Measured {
            services,
            new_service: Default::default(),
            endpoint: Default::default(),
            restart: Default::default(),
            memory: [Memory { rss: f64::NAN, anonymous: f64::NAN, peak: f64::NAN }; 2],
            request: vec![],
            own_mean: Duration::ZERO,
        };
        for round in 0..effort.restarts {
            progress.step(&format!("{services} services: restart {} of {}", round + 1, effort.restarts));
            for who in 0..2 {
                measured.restart[who].push(self.restart(who)?);
            }
        }
        thread::sleep(SETTLE);
        progress.step(&format!("{services} services: {} changes of each kind", effort.changes));
        let [count, sum] = self.beeline.histogram()?;
        for round in 0..effort.changes {
            progress.part(&format!("{services} services: change {} of {}", round + 1, effort.changes));
            let took = self.new_service()?;
            push(&mut measured.new_service, took);
            let (took, request) = self.endpoint(round)?;
            push(&mut measured.endpoint, took);
            measured.request.push(request);
        }
        let [count_now, sum_now] = self.beeline.histogram()?;
        measured.own_mean = Duration::from_secs_f64((sum_now - sum) / (count_now - count));
        for (memory, contender) in measured.memory.iter_mut().zip(self.contenders()) {
            *memory = contender.memory()?;
            let there = contender.count()?;
            ensure!(there == services as usize, "{} has {there} of {services} services", contender.name());
        }
        Ok(measured)
    }

    /// Makes services until there are so many, and waits until both contenders have them all.
    fn grow(&mut self, services: u32) -> Result<()> {
        let from = u32::try_from(self.services.len())?;
        self.fresh = self.fresh.max(services);
        let new: Vec<_> = (from..services).map(Service::new).collect();
        let Some((last, others)) = new.split_last() else { return Ok(()) };
        let objects: Vec<_> = others.iter().flat_map(|service| [service.object(), service.slice()]).collect();
        self.admin.create(&objects)?;
        // After all others, so that whoever has it has heard of them.
        self.admin.create(&[last.object()])?;
        self.admin.create(&[last.slice()])?;
        for contender in self.contenders() {
            if contender.running().is_none() {
                contender.start()?;
            }
            contender.until_serves(last)?;
        }
        self.services.extend(new);
        Ok(())
    }

    /// Kills contender `who`, makes a service while nobody sees it, and gives the time from the start until it is served.
    fn restart(&mut self, who: usize) -> Result<Duration> {
        let service = self.another();
        self.contenders()[who].kill()?;
        self.admin.create(&[service.object()])?;
        self.admin.create(&[service.slice()])?;
        let start = Instant::now();
        let contender = &mut *self.contenders()[who];
        contender.start()?;
        let took = contender.until_serves(&service)? - start;
        self.delete(&service)?;
        Ok(took)
    }

    /// A service comes with its endpoints, and goes again.
    fn new_service(&mut self) -> Result<[Duration; 2]> {
        let service = self.another();
        let endpoint = service.last().context("a service without endpoints")?;
        let watches = [
            self.beeline.watch(Change::NewService, &service, endpoint)?,
            self.kube_proxy.watch(Change::NewService, &service, endpoint)?,
        ];
        // From just before the request that makes it whole.
        let (took, _) = seen(watches, || {
            self.admin.create(&[service.object()])?;
            let start = Instant::now();
            self.admin.create(&[service.slice()])?;
            Ok(start)
        })?;
        self.delete(&service)?;
        Ok(took)
    }

    /// One endpoint of one service is replaced. Gives the time that the request took, too.
    fn endpoint(&mut self, round: u32) -> Result<([Duration; 2], Duration)> {
        self.fresh += 1;
        let endpoint = Endpoint::spare(self.fresh);
        let at = round as usize * 7_919 % self.services.len();
        let mut service = self.services[at].clone();
        service.replace(round, endpoint);
        let watches = [
            self.beeline.watch(Change::Endpoint, &service, endpoint)?,
            self.kube_proxy.watch(Change::Endpoint, &service, endpoint)?,
        ];
        let [_, slice] = service.paths();
        let seen = seen(watches, || {
            let start = Instant::now();
            self.admin.patch(&slice, &service.patch())?;
            Ok(start)
        })?;
        self.services[at] = service;
        thread::sleep(PAUSE);
        Ok(seen)
    }

    fn another(&mut self) -> Service {
        self.fresh += 1;
        Service::new(self.fresh)
    }

    fn delete(&self, service: &Service) -> Result<()> {
        service.paths().iter().try_for_each(|path| self.admin.delete(path))?;
        thread::sleep(PAUSE);
        Ok(())
    }
}

/// How long after the start that `request` gives each of `watches` has seen it, and how long the request took.
fn seen(
    watches: [crate::contender::Watch<'_>; 2],
    request: impl FnOnce() -> Result<Instant>,
) -> Result<([Duration; 2], Duration)> {
    thread::scope(|scope| {
        let [ours, other] = watches.map(|watch| scope.spawn(watch));
        let start = request()?;
        let answered = start.elapsed();
        let joined = [ours.join(), other.join()].map(|seen| seen.map_err(|_| anyhow!("a thread panicked")));
        let [ours, other] = joined;
        Ok(([ours?? - start, other?? - start], answered))
    })
}

fn push(all: &mut [Vec<Duration>; 2], each: [Duration; 2]) {
    for (all, one) in all.iter_mut().zip(each) {
        all.push(one);
    }
}
