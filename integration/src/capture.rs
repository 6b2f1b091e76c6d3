//! Packets as `tcpdump` sees and decodes them: a standard tool's word, not ours.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{netns::Netns, process::Running, sandbox, wait};

/// A capture that is under way.
#[derive(Debug)]
pub struct Capture {
    netns: Netns,
    file: PathBuf,
    tcpdump: Running,
}

impl Netns {
    /// Starts to capture what matches `filter` (as tcpdump knows it) on `device`; packets from now on are in it.
    ///
    /// # Errors
    /// If tcpdump does not start.
    pub fn capture(&self, device: &str, filter: &str) -> Result<Capture> {
        let (_, dir) = sandbox::new_state_dir()?;
        let file = dir.join("packets.pcap");
        let mut command = self.command("tcpdump");
        // Packets as large as GSO makes them, written at once, by the user we are: the folder is root's. In immediate mode
        // each packet takes a slot of the largest size: libpcap's 2 MiB would hold 32, and a busy machine would lose some.
        command.args(["-i", device, "-s", "65535", "-B", "65536"]);
        command.args(["-U", "--immediate-mode", "-Z", "root", "-w"]);
        command.arg(&file).args(filter.split_whitespace());
        let mut tcpdump = Running::start(command, &dir.join("tcpdump.log"))?;
        wait::until("tcpdump to listen", Duration::from_secs(10), || {
            tcpdump.ensure_alive()?;
            Ok(tcpdump.log().contains("listening on"))
        })?;
        Ok(Capture { netns: self.clone(), file, tcpdump })
    }
}

impl Capture {
    /// Ends it and gives the packets, decoded with all detail: an item for each, checksums verified.
    ///
    /// # Errors
    /// If tcpdump does not end or cannot read what it wrote.
    pub fn stop(self) -> Result<Vec<String>> {
        // The last packets may still be on their way to tcpdump.
        std::thread::sleep(Duration::from_millis(100));
        self.tcpdump.stop(Signal::SIGINT)?;
        let text = self.netns.exec(&format!("tcpdump -nn -vv -e -r {}", self.file.display()))?;
        Ok(packets(&text))
    }
}

impl Netns {
    /// Captures on `device` while `work` is done; gives the packets and what `work` gave.
    ///
    /// # Errors
    /// If the capture or the work fails.
    pub fn capture_during<T>(
        &self,
        device: &str,
        filter: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(Vec<String>, T)> {
        let capture = self.capture(device, filter)?;
        let done = work()?;
        Ok((capture.stop().context("ending the capture")?, done))
    }
}

fn begins_with_time(line: &str) -> bool {
    let shape = line.bytes().take(9).map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    shape.eq(*b"00:00:00.")
}

/// Splits tcpdump's text: a packet begins with its time, `12:08:03.561172`. Its further lines may begin with anything,
/// an inner frame's with a MAC.
fn packets(text: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in text.lines() {
        match packets.last_mut() {
            Some(packet) if !begins_with_time(line) => {
                packet.push('\n');
                packet.push_str(line);
            }
            _ => packets.push(line.to_owned()),
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_frame_belongs_to_its_packet() {
        let text = "12:08:03.561172 outer\n    more\n0a:58:0a:f4:01:02 > inner\n12:08:04.000001 next\n";
        assert_eq!(
            packets(text),
            ["12:08:03.561172 outer\n    more\n0a:58:0a:f4:01:02 > inner", "12:08:04.000001 next"]
        );
    }
}
