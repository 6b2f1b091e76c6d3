//! The programs' counters, read from the maps whenever somebody asks: what was dropped, and which way packets went.

use std::fmt;

use lb_dataplane::{Pins, View};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

/// A reader of the maps.
#[derive(Debug)]
pub(super) struct Counters {
    pins: Pins,
}

impl Counters {
    pub(super) fn new(pins: Pins) -> Self {
        Self { pins }
    }
}

impl Collector for Counters {
    /// Maps that are not there (yet) count nothing.
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Ok(view) = View::open(&self.pins) else {
            return Ok(());
        };
        let drops =
            view.drops().unwrap_or_default().into_iter().map(|(drop, packets)| (drop.name(), packets));
        write(&mut encoder, "drops", "Packets dropped, by reason", "reason", drops)?;
        let hops = view.hops().unwrap_or_default().into_iter().map(|(hop, packets)| (hop.name(), packets));
        write(&mut encoder, "hops", "Packets forwarded, by the way they went", "way", hops)
    }
}

fn write(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, packets) in counts {
        ConstCounter::new(packets).encode(metric.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
