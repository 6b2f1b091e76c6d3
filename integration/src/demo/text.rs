//! The report for people: one screen or two, aligned, coloured on a terminal only.

use std::fmt::Write;

use super::facts::{Facts, Load, Stack, Walk};

/// Renders `facts`; `kept` says that the cluster stays up, `colour` that escapes are welcome.
pub(super) fn render(facts: &Facts, kept: bool, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    // Writing to a string cannot fail.
    let _ = page.all(facts, kept);
    page.text
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn all(&mut self, facts: &Facts, kept: bool) -> std::fmt::Result {
        self.cluster(facts)?;
        for walk in &facts.walks {
            self.walk(walk)?;
        }
        self.loads(&facts.loads)?;
        self.ending(kept)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn cluster(&mut self, facts: &Facts) -> std::fmt::Result {
        let title = self.bold("Beeline: two nodes, three pods, two VIPs: one with DSR, one without");
        writeln!(self.text, "{title}\n")?;
        for node in &facts.nodes {
            write!(self.text, "  {} {:<14}", node.name, node.address)?;
            let on_node = facts.pods.iter().filter(|pod| pod.node.as_ref() == Some(&node.name));
            let pods: Vec<_> = on_node.map(|pod| format!("{} {}", pod.name, pod.address)).collect();
            writeln!(self.text, "  pods: {}", pods.join(", "))?;
        }
        for service in &facts.services {
            let dsr = if service.is_dsr { "IsDSR: TRUE " } else { "IsDSR: FALSE" };
            let backends = service.backends.join(", ");
            writeln!(self.text, "  VIP {:<16}  {dsr}  backends: {backends}", service.vip)?;
        }
        Ok(())
    }

    fn walk(&mut self, walk: &Walk) -> std::fmt::Result {
        let dsr = if walk.dsr { "DSR on" } else { "DSR off" };
        let title = self.bold(&format!("{dsr}: one request to {} on {}", walk.server, walk.server_node));
        let answer = self.dim(&walk.answer);
        writeln!(self.text, "\n{title}\n  client$ {}\n  {answer}", walk.command)?;
        let width = walk.steps.iter().map(|step| step.what.chars().count()).max().unwrap_or(0);
        let mut half = "";
        for step in &walk.steps {
            let word = if step.half == half { "" } else { step.half };
            half = step.half;
            let hop = self.dim(step.hop.unwrap_or("(IP stack)"));
            let at = format!("{:<14}", step.at);
            let at = if step.hop.is_none() { self.paint("33", &at) } else { at };
            let (node, what, packets) = (&step.node, &step.what, step.packets);
            writeln!(self.text, "  {word:<8} {node}  {at}  {what:<width$}  {packets:>3} packets  {hop}")?;
        }
        for (node, stack) in &walk.host_stacks {
            let said = self.stack(stack);
            writeln!(self.text, "  {:<8} {node}  {said}", "host")?;
        }
        Ok(())
    }

    fn stack(&self, stack: &Stack) -> String {
        let said = format!(
            "IP stack took in {}, forwarded {}; netfilter hooks saw {}; conntrack has {}",
            grouped(stack.received),
            grouped(stack.forwarded),
            grouped(stack.hooks),
            grouped(stack.conntrack),
        );
        self.paint(if stack.is_silent() { "32" } else { "33" }, &said)
    }

    fn loads(&mut self, loads: &[Load]) -> std::fmt::Result {
        let requests = loads.iter().map(|load| load.requests).max().unwrap_or(0);
        let title = self.bold(&format!("{} requests each, in turns", grouped(requests)));
        writeln!(self.text, "\n{title}\n{:<11}{:>22}{:>24}", "", "connection kept", "connection for each")?;
        writeln!(self.text, "{:<11}{:>11}{:>11}{:>13}{:>11}", "", "p50", "p99", "p50", "p99")?;
        for load in loads {
            let dsr = if load.dsr { "DSR on" } else { "DSR off" };
            let [a, b, c, d] = latencies(load).map(|micros| format!("{} µs", grouped(micros)));
            writeln!(self.text, "  {dsr:<9}{a:>11}{b:>11}{c:>13}{d:>11}")?;
        }
        self.ratios(loads)?;
        for load in loads {
            let dsr = if load.dsr { "DSR on" } else { "DSR off" };
            for (node, stack) in &load.host_stacks {
                let said = self.stack(stack);
                writeln!(self.text, "  {dsr:<8} {node}  {said}")?;
            }
        }
        Ok(())
    }

    fn ratios(&mut self, loads: &[Load]) -> std::fmt::Result {
        let [on, off] = loads else { return Ok(()) };
        let mut ratios = latencies(off).into_iter().zip(latencies(on)).map(|(off, on)| {
            #[allow(clippy::cast_precision_loss, reason = "microseconds are far from 2^52")]
            let ratio = off as f64 / on.max(1) as f64;
            format!("{ratio:.2}×")
        });
        let mut next = || ratios.next().unwrap_or_default();
        let line = format!("  {:<9}{:>11}{:>11}{:>13}{:>11}", "off / on", next(), next(), next(), next());
        let line = self.dim(&line);
        writeln!(self.text, "{line}\n")
    }

    fn ending(&mut self, kept: bool) -> std::fmt::Result {
        if !kept {
            let hint =
                self.dim("Look around in it: hack/demo --keep. For programs: hack/demo --output json.");
            return writeln!(self.text, "\n{hint}");
        }
        let title = self.bold("The cluster stays up. Look around:");
        writeln!(
            self.text,
            "\n{title}
  hack/demo --in node1 beelinectl policy      the rules, and what was measured
  hack/demo --in node2 beelinectl hops        which ways packets took
  hack/demo --in client curl 10.96.0.10:8000  one more request
  hack/demo --in node1 beelinectl flows --service echo --limit 8
                                              who talks, and where each flow goes
  hack/demo --in node1                        a shell there
  hack/demo --down                            and away with it"
        )
    }
}

/// p50 and p99 on kept connections, then on new ones, in microseconds.
fn latencies(load: &Load) -> [u64; 4] {
    [load.kept.p50_micros, load.kept.p99_micros, load.new.p50_micros, load.new.p99_micros]
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
