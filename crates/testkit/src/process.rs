//! Memory, processor time and signals of a process.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

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

/// Linux counts processor time in hundredths of a second, whatever its timer.
const TICK: Duration = Duration::from_millis(10);

/// The processor time, user and system, that a process and all below it have used, those included
/// that ended and were waited for.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ended meanwhile has been counted by its parent.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        // Behind the name, which may hold anything: state, parent, …, utime, stime, cutime, cstime.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let parent = fields.get(1).copied().unwrap_or(0);
        let used: u64 = fields.get(11..15).unwrap_or_default().iter().sum();
        ticks.insert(id, used);
        children.entry(u32::try_from(parent)?).or_default().push(id);
    }
    let mut total = *ticks
        .get(&pid)
        .with_context(|| format!("no process {pid}"))?;
    let mut below = children.remove(&pid).unwrap_or_default();
    while let Some(id) = below.pop() {
        total += ticks.get(&id).copied().unwrap_or(0);
        below.extend(children.remove(&id).unwrap_or_default());
    }
    Ok(TICK * u32::try_from(total)?)
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

    #[test]
    fn counts_the_processor_time_of_a_process_and_its_children() {
        let count = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{count}'; read _")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let used = || super::cpu(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while used() < 5 * super::TICK && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let counted = used();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(counted >= 5 * super::TICK, "{counted:?}");
        assert!(super::cpu(u32::MAX).is_err());
    }
}
