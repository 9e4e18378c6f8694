//! One registry for each service, and GET /metrics over all that share a process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use actix_web::{HttpResponse, web};
use prometheus::proto::{LabelPair, MetricFamily};
use prometheus::{Encoder, Registry, TextEncoder};

/// Creates a registry with the metrics of the process: memory, open files, processor time, threads.
///
/// # Errors
/// A metric is registered twice.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    Ok(registry)
}

/// The registries behind /metrics: one, or those of the services that share a process.
#[derive(Clone, Default)]
pub struct Registries(Vec<(Option<&'static str>, Registry)>);

impl Registries {
    /// Adds a registry. The label `service` with the given name distinguishes metrics that several
    /// services count under one name.
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
                        // A family has one type; a second type under its name is a bug, which must
                        // not make the whole page unreadable.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_distinguishes_the_services_of_one_process() {
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
                prometheus::IntGauge::new("requests_total", "A gauge.").unwrap(),
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
}
