//! Random sequences of packets and changes: the programs and the model must agree after every step, and no
//! bytes whatsoever may upset the programs.
//!
//! A run has [`SEQUENCES`] sequences of up to [`LONGEST`] steps each, and at least [`STEPS`] steps in all.

mod bytes;
mod services;
mod steps;
mod traffic;

use std::cell::{Cell, RefCell, RefMut};

use lb_dataplane::{Hop, desired::Service};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use self::{
    services::turn,
    steps::{Step, step},
    traffic::Traffic,
};
use crate::{
    answers::Answer,
    clock::Clock,
    fragment::without_checksum,
    frame::Frame,
    model::{Expected, Model},
    net::{NETS, net_of},
    world::{Outcome, Place, World},
};

/// Every test of this file.
pub const TESTS: &[(&str, fn())] = &[
    ("random_sequences_agree_with_the_model", agree_with_model),
    ("random_bytes_are_refused_or_left_alone", bytes::survive),
];

const SEQUENCES: u32 = 1_000;
const LONGEST: usize = 220;
/// Fewer would be a test of less than it says.
const STEPS: usize = 100_000;

fn agree_with_model() {
    let world = RefCell::new(World::new("model"));
    let steps = Cell::new(0);
    let mut runner =
        TestRunner::new(Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() });
    let sequence = prop::collection::vec(step(), 1..=LONGEST);
    let result = runner.run(&sequence, |sequence| {
        steps.set(steps.get() + sequence.len());
        let mut pair = Pair::new(world.borrow_mut());
        sequence.into_iter().try_for_each(|step| pair.step(step))
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    assert!(steps.get() >= STEPS, "{} steps", steps.get());
}

/// The programs and the model, and what they have seen.
struct Pair<'a> {
    world: RefMut<'a, World>,
    model: Model,
    services: Vec<Service>,
    clock: Clock,
    traffic: Traffic,
}

impl<'a> Pair<'a> {
    /// Both as if nothing had ever been.
    fn new(mut world: RefMut<'a, World>) -> Self {
        world.forget_flows();
        world.set_services(&[]);
        let (port_a, port_b) = (world.devices.port_a, world.devices.port_b);
        for net in NETS {
            world.set_endpoint(net.pod_a, Some(port_a));
            world.set_endpoint(net.pod_b, Some(port_b));
        }
        Self {
            world,
            model: Model::new(),
            services: vec![],
            clock: Clock::new(),
            traffic: Traffic::default(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.clock.hold(&self.world);
        match step {
            Step::Services(services) => self.set_services(services),
            Step::Turn(which) => {
                let mut services = self.services.clone();
                turn(&mut services, which);
                self.set_services(services);
            }
            Step::Endpoint(pod, present) => {
                let (place, port) = if pod == net_of(pod).pod_a {
                    (Place::PortA, self.world.devices.port_a)
                } else {
                    (Place::PortB, self.world.devices.port_b)
                };
                self.world.set_endpoint(pod, present.then_some(port));
                if present {
                    self.model.endpoints.insert(pod, place);
                } else {
                    self.model.endpoints.remove(&pod);
                }
                self.model.change();
            }
            Step::Wait(seconds) => {
                if self.clock.pass(&self.world, seconds) {
                    self.model.wait(seconds);
                }
            }
            Step::Packet(place, frame) => self.run(place, &frame)?,
            Step::Fragments(place, frames) => frames.iter().try_for_each(|frame| self.run(place, frame))?,
            Step::Follow(which, what) => {
                if let Some((place, frame)) = self.traffic.follow(which, &what) {
                    self.run(place, &frame)?;
                }
            }
        }
        Ok(())
    }

    fn set_services(&mut self, services: Vec<Service>) {
        if !self.world.set_services(&services).is_empty() {
            self.model.change();
        }
        self.services.clone_from(&services);
        self.model.set_services(services);
    }

    fn run(&mut self, place: Place, frame: &Frame) -> Result<(), TestCaseError> {
        let expected = self.model.step(place, frame);
        let outcome = self.world.run(place, &frame.encode());
        compare(place, frame, &expected, &outcome)?;
        self.traffic.add(place, frame, &expected);
        Ok(())
    }
}

fn compare(place: Place, frame: &Frame, expected: &Expected, outcome: &Outcome) -> Result<(), TestCaseError> {
    let same = match (expected, outcome) {
        (Expected::Next, Outcome::Next) => true,
        (Expected::Dropped(expected), Outcome::Dropped(reason)) => expected == reason,
        (Expected::Told(expected), Outcome::Answered(reason, bytes)) => {
            let answer = Answer::decode(bytes).map_err(TestCaseError::fail)?;
            prop_assert_eq!(Answer::to(frame, *reason), answer, "{:?} sent {:?}", place, frame);
            expected == reason
        }
        (Expected::Sent(expected_hop, expected), Outcome::Sent(hop, bytes)) => {
            let mut sent = Frame::decode(bytes).map_err(TestCaseError::fail)?;
            if *hop == Hop::PortToOverlay {
                (sent.dst_mac, sent.src_mac) = ([0; 6], [0; 6]);
            }
            without_checksum(&mut sent);
            prop_assert_eq!(expected, &sent, "{:?} sent {:?}", place, frame);
            expected_hop == hop
        }
        _ => false,
    };
    prop_assert!(same, "{place:?} sent {frame:?}: expected {expected:?}, got {outcome:?}");
    Ok(())
}
