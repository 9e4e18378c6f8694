//! Memory and signals of a process.

use std::process::Command;

use anyhow::Context;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident memory now.
    pub rss: u64,
    /// The largest resident memory so far.
    pub peak_rss: u64,
}

/// Reads the memory of a process from `/proc`.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> anyhow::Result<ProcessMemory> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.with_context(|| format!("no {name} in {path}"))?;
        let number = kib
            .split_whitespace()
            .next()
            .with_context(|| format!("empty {name}"))?;
        Ok(number.parse::<u64>()? * 1024)
    };
    Ok(ProcessMemory {
        rss: field("VmRSS:")?,
        peak_rss: field("VmHWM:")?,
    })
}

/// Sends a signal by name, such as `TERM`, `STOP`, `CONT`.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .output();
    match sent {
        Ok(output) if output.status.success() => {}
        other => eprintln!("testkit: kill -s {name} {pid}: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_our_own_memory() {
        let memory = super::memory(std::process::id()).unwrap();
        assert!(
            memory.rss > 0 && memory.peak_rss >= memory.rss,
            "{memory:?}"
        );
        assert!(super::memory(u32::MAX).is_err());
    }
}
