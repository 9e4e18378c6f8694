//! One registry a service, and GET /metrics over all that share a process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use actix_web::{HttpResponse, web};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily};
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

/// What /metrics shows: one registry, or those of the services that share a process.
#[derive(Clone, Default)]
pub struct Registries(Vec<(Option<&'static str>, Registry)>);

impl Registries {
    /// Adds a registry; its metrics get a label `service` when it has a name. Services count under
    /// the same names, which is how they are told apart.
    #[must_use]
    pub fn with(mut self, service: Option<&'static str>, registry: &Registry) -> Self {
        self.0.push((service, registry.clone()));
        self
    }

    /// All metrics, families of one name merged.
    fn gather(&self) -> Vec<MetricFamily> {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for (service, registry) in &self.0 {
            for mut family in registry.gather() {
                if let Some(service) = service {
                    for metric in family.mut_metric() {
                        let mut labels = metric.take_label();
                        labels.push(label("service", service));
                        metric.set_label(labels);
                    }
                }
                match families.entry(family.name().to_owned()) {
                    Entry::Vacant(place) => {
                        place.insert(family);
                    }
                    Entry::Occupied(mut place) => {
                        let known = place.get_mut();
                        // A family has one type. Another one under its name is a mistake that
                        // must not make the whole page unreadable.
                        if known.get_field_type() == family.get_field_type() {
                            let mut all = known.take_metric();
                            all.extend(family.take_metric());
                            known.set_metric(all);
                        }
                    }
                }
            }
        }
        families.into_values().collect()
    }
}

impl From<&Registry> for Registries {
    fn from(registry: &Registry) -> Self {
        Self::default().with(None, registry)
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

/// GET /metrics in the text format of Prometheus.
pub async fn metrics(registries: web::Data<Registries>) -> HttpResponse {
    let mut body = Vec::with_capacity(16 * 1024);
    match TextEncoder::new().encode(&registries.gather(), &mut body) {
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
    fn services_of_one_process_are_told_apart() {
        let count = |value: u64| {
            let registry = Registry::new();
            let counter = prometheus::IntCounter::new("requests_total", "Requests.").unwrap();
            counter.inc_by(value);
            registry.register(Box::new(counter)).unwrap();
            registry
        };
        let other = Registry::new();
        other
            .register(Box::new(
                IntGauge::new("requests_total", "A gauge.").unwrap(),
            ))
            .unwrap();
        let registries = Registries::default()
            .with(Some("ingest"), &count(1))
            .with(Some("query"), &count(2))
            .with(None, &count(3))
            .with(Some("mistaken"), &other);
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registries.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
             requests_total{service=\"ingest\"} 1\nrequests_total{service=\"query\"} 2\n\
             requests_total 3\n"
        );
    }

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
