//! Whatever is asked in whatever order, the store answers what a plain model does: which address is given, why none
//! is, and how much is in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::IpAddr,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{Bench, address, assert_consistent, owner};
use crate::{Error, RangeConfig, RangeSet, Request, Usage};

/// What can be given of each set, in order; the ranges are those of [`sets`].
const GIVEN: [&[&str]; 2] = [
    &["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6", "10.0.1.4", "10.0.1.5"],
    &["fd00::4", "fd00::5", "fd00::6"],
];
/// What may be wanted besides: a gateway, an excluded address, one between the ranges.
const NEVER: [&str; 3] = ["10.0.0.1", "10.0.0.4", "10.0.1.7"];

fn sets() -> Vec<RangeSet> {
    let ranges: Vec<Vec<RangeConfig>> = serde_json::from_value(serde_json::json!([
        [
            { "subnet": "10.0.0.0/29", "exclude": ["10.0.0.4"] },
            { "subnet": "10.0.1.0/24", "rangeStart": "10.0.1.4", "rangeEnd": "10.0.1.5" },
        ],
        [{ "subnet": "fd00::/64", "rangeStart": "fd00::4", "rangeEnd": "fd00::6" }],
    ]))
    .unwrap();
    RangeSet::several(&ranges).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        who: usize,
        wanted: Vec<&'static str>,
        cooldown: u64,
    },
    Release(usize),
    Wait(u64),
    /// Keeps the owners whose bit is set.
    Retain(u16),
    /// As a process that ends and another that starts.
    Reopen,
    Reboot,
}

const OWNERS: usize = 9;

fn step() -> impl Strategy<Value = Step> {
    let names: Vec<_> = GIVEN.concat().into_iter().chain(NEVER).collect();
    let wanted = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(prop::sample::select(names), 1..3),
    ];
    let cooldown = prop::sample::select(vec![0, 10, 30]);
    prop_oneof![
        10 => (0..OWNERS, wanted, cooldown)
            .prop_map(|(who, wanted, cooldown)| Step::Reserve { who, wanted, cooldown }),
        8 => (0..OWNERS).prop_map(Step::Release),
        4 => prop::sample::select(vec![0, 1, 9, 10, 29, 30]).prop_map(Step::Wait),
        1 => any::<u16>().prop_map(Step::Retain),
        1 => Just(Step::Reopen),
        1 => Just(Step::Reboot),
    ]
}

/// The plain model: maps, and walks through all addresses.
#[derive(Default)]
struct Model {
    leases: BTreeMap<usize, (Vec<IpAddr>, u64)>,
    /// Until when, and what.
    resting: BTreeSet<(u64, IpAddr)>,
    last: [Option<usize>; 2],
    early: u64,
    now: u64,
}

impl Model {
    fn held(&self, address: IpAddr) -> bool {
        self.leases.values().any(|(held, _)| held.contains(&address))
    }

    fn rests(&self, address: IpAddr) -> bool {
        self.resting.iter().any(|(_, resting)| *resting == address)
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.resting.retain(|(until, _)| *until > self.now);
    }

    fn release(&mut self, who: usize) -> Option<Vec<IpAddr>> {
        let (held, cooldown) = self.leases.remove(&who)?;
        if cooldown > 0 {
            self.resting.extend(held.iter().map(|address| (self.now + cooldown, *address)));
        }
        Some(held)
    }

    /// The addresses given, or a word for why there are none.
    fn reserve(&mut self, who: usize, wanted: &[&str], cooldown: u64) -> Result<Vec<IpAddr>, &'static str> {
        if self.leases.contains_key(&who) {
            return Err("held");
        }
        let mut wishes = [None; 2];
        for text in wanted {
            match *text {
                "10.0.0.1" => return Err("gateway"),
                "10.0.0.4" => return Err("excluded"),
                "10.0.1.7" => return Err("out of range"),
                _ => {}
            }
            let set = usize::from(text.contains(':'));
            if wishes[set].replace(address(text)).is_some_and(|first| first != address(text)) {
                return Err("two of one set");
            }
        }
        let mut chosen = Vec::new();
        let (mut last, mut early) = (self.last, 0);
        for (set, wish) in wishes.into_iter().enumerate() {
            let all: Vec<_> = GIVEN[set].iter().map(|text| address(text)).collect();
            let next = match wish {
                Some(wish) if self.held(wish) => return Err("taken"),
                Some(wish) => wish,
                None => {
                    let from = last[set].map_or(0, |last| last + 1);
                    let mut order = (from..from + all.len()).map(|i| all[i % all.len()]);
                    let free = order.find(|address| !self.held(*address) && !self.rests(*address));
                    let rested = self.resting.iter().map(|(_, address)| *address).find(|a| all.contains(a));
                    let next = free.or(rested).ok_or("exhausted")?;
                    last[set] = all.iter().position(|address| *address == next);
                    next
                }
            };
            early += u64::from(self.rests(next));
            chosen.push(next);
        }
        self.resting.retain(|(_, address)| !chosen.contains(address));
        (self.last, self.early) = (last, self.early + early);
        self.leases.insert(who, (chosen.clone(), cooldown));
        Ok(chosen)
    }

    fn usage(&self, set: usize) -> Usage {
        let count = |used: &dyn Fn(IpAddr) -> bool| {
            GIVEN[set].iter().filter(|text| used(address(text))).count() as u128
        };
        Usage {
            size: GIVEN[set].len() as u128,
            held: count(&|address| self.held(address)),
            resting: count(&|address| self.rests(address)),
        }
    }
}

fn word(error: &Error) -> &'static str {
    match error {
        Error::Held { .. } => "held",
        Error::Exhausted { .. } => "exhausted",
        Error::OutOfRange { .. } => "out of range",
        Error::IsGateway { .. } => "gateway",
        Error::IsExcluded { .. } => "excluded",
        Error::Taken { .. } => "taken",
        Error::TwoOfOneSet { .. } => "two of one set",
        _ => "failed",
    }
}

fn agree(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (sets, mut bench) = (sets(), Bench::new());
    let mut model = Model { now: 1000, ..Model::default() };
    for step in steps {
        match &step {
            Step::Reserve { who, wanted, cooldown } => {
                let wishes: Vec<_> = wanted.iter().map(|text| address(text)).collect();
                let cooldown_time = Duration::from_secs(*cooldown);
                let who_ = owner(*who);
                let request =
                    Request { wanted: &wishes, cooldown: cooldown_time, ..Request::new(&who_, &sets) };
                let given = bench.store.reserve(&request).map(|lease| lease.addresses);
                let expected = model.reserve(*who, wanted, *cooldown);
                prop_assert_eq!(given.map_err(|e| word(&e)), expected, "{:?}", step);
            }
            Step::Release(who) => {
                let released = bench.store.release(&owner(*who)).unwrap();
                prop_assert_eq!(released.map(|lease| lease.addresses), model.release(*who));
            }
            Step::Wait(seconds) => {
                bench.wait(*seconds);
                model.wait(*seconds);
            }
            Step::Retain(mask) => {
                let kept = |n: usize| mask & (1 << n) != 0;
                let released = bench.store.retain(|who, _| (0..OWNERS).any(|n| kept(n) && owner(n) == *who));
                let gone: Vec<_> = model.leases.keys().copied().filter(|n| !kept(*n)).collect();
                prop_assert_eq!(released.unwrap().len(), gone.len());
                for who in gone {
                    model.release(who);
                }
            }
            Step::Reopen => bench = bench.reopened(),
            Step::Reboot => {
                bench = bench.rebooted();
                model = Model { now: model.now, ..Model::default() };
            }
        }
        for (i, set) in sets.iter().enumerate() {
            prop_assert_eq!(bench.store.usage(set).unwrap(), model.usage(i), "{:?}", step);
        }
        prop_assert_eq!(bench.store.early_reuses().unwrap(), model.early);
        prop_assert_eq!(assert_consistent(&bench.store, &sets), model.leases.len());
    }
    Ok(())
}

/// How long random sequences are tried: a few seconds, or as many as the environment says.
fn until() -> Instant {
    let seconds = env::var("BEELINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    Instant::now() + Duration::from_secs(seconds)
}

#[test]
fn the_store_agrees_with_a_plain_model() {
    let until = until();
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        runner.run(&prop::collection::vec(step(), 1..80), agree).unwrap_or_else(|e| panic!("{e}"));
        rounds += 1;
    }
}
