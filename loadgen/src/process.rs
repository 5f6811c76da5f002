//! What a process has used so far, as Linux tells it.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Linux counts CPU time in hundredths of a second.
const TICKS_PER_S: f64 = 100.0;

/// What a process used.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Used {
    /// Seconds of CPU, for one measurement.
    pub(crate) cpu_s: f64,
    /// The most memory that it has had since it was started.
    pub(crate) rss_mb: f64,
}

impl Used {
    /// What was used since what was used `before`; of memory, the most since the start.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { cpu_s: self.cpu_s - before.cpu_s, ..self }
    }
}

/// A process that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: u32,
}

impl Process {
    /// What it has used so far.
    pub(crate) fn used(self) -> Result<Used> {
        Ok(Used { cpu_s: self.cpu_s()?, rss_mb: self.peak_mb()? })
    }

    /// Seconds of CPU so far, of all its threads.
    fn cpu_s(self) -> Result<f64> {
        cpu_s(&self.read("stat")?).context("/proc says nothing of the service's CPU time")
    }

    /// The most memory that it has had since its start, in MB.
    fn peak_mb(self) -> Result<f64> {
        peak_mb(&self.read("status")?).context("/proc says nothing of the service's memory")
    }

    /// Bytes of memory that it may write into and has for itself, whether it has done so yet or not.
    pub(crate) fn writable_bytes(self) -> Result<u64> {
        let kib = kib(&self.read("status")?, "VmData:");
        Ok(kib.context("/proc says nothing of the service's memory")? * 1024)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| {
            format!("{path} can't be read: has the service ended, or is this not Linux?")
        })
    }
}

fn cpu_s(stat: &str) -> Option<f64> {
    // The name before it may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) / TICKS_PER_S)
}

fn peak_mb(status: &str) -> Option<f64> {
    Some(kib(status, "VmHWM:")? as f64 / 1024.0)
}

/// What a line of the status says.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_understood() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 900 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(peak_mb("Name:\ta\nVmHWM:\t   51200 kB\nVmRSS:\t 4 kB\n"), Some(50.0));
        assert_eq!((cpu_s(""), peak_mb("")), (None, None));
    }

    #[test]
    fn this_process_has_used_something() {
        let own = Process { pid: std::process::id() };
        assert!(own.cpu_s().is_ok_and(|seconds| seconds >= 0.0));
        assert!(own.peak_mb().is_ok_and(|mb| mb > 1.0));
        assert!(own.writable_bytes().is_ok_and(|bytes| bytes > 1_000_000));
    }
}
