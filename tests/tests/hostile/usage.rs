//! What a process takes, as the kernel counts it.

use std::fs;

/// Memory and files of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// KiB that are resident.
    pub(super) memory: u64,
    /// Open files, connections among them.
    pub(super) files: u64,
}

impl Usage {
    /// Of the process with this number, now.
    pub(super) fn of(pid: u32) -> Self {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self { memory: memory.expect("its memory is told"), files: files as u64 }
    }

    /// The greater of each.
    pub(super) fn or_more(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), files: self.files.max(other.files) }
    }
}
