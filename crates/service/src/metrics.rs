//! One registry a process, and GET /metrics.

use actix_web::{HttpResponse, web};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Gauge, IntGauge, Registry, TextEncoder};

/// A registry that already has the process's own metrics.
///
/// # Errors
/// A metric is registered twice.
pub fn registry() -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    registry.register(Box::new(Process::new()?))?;
    Ok(registry)
}

/// GET /metrics in the text format of Prometheus.
pub async fn metrics(registry: web::Data<Registry>) -> HttpResponse {
    let mut body = Vec::with_capacity(16 * 1024);
    match TextEncoder::new().encode(&registry.gather(), &mut body) {
        Ok(()) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4")
            .body(body),
        Err(error) => crate::Problem::internal(&error).respond(),
    }
}

/// Memory, open files and processor time, under the names of the Prometheus conventions.
struct Process {
    resident: IntGauge,
    open_files: IntGauge,
    cpu: Gauge,
}

impl Process {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory in bytes.")?,
            open_files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            cpu: Gauge::new(
                "process_cpu_seconds_total",
                "User and system time in seconds.",
            )?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.resident.desc(),
            self.open_files.desc(),
            self.cpu.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let proc_file = |name| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        if let Some(kib) = proc_file("status").as_deref().and_then(resident_kib) {
            self.resident.set(kib * 1024);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files
                .set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = proc_file("stat").as_deref().and_then(cpu_seconds) {
            self.cpu.set(seconds);
        }
        [
            self.resident.collect(),
            self.open_files.collect(),
            self.cpu.collect(),
        ]
        .concat()
    }
}

fn resident_kib(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// Fields 14 and 15 of proc(5) `stat`, in ticks of 1/100 s, counted after the command's name.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            resident_kib("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n"),
            Some(1234)
        );
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }
}
