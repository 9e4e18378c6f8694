//! The macro that declares metrics once: the doc comment of a field is its help text.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// A kind of metric that [`crate::metrics!`] can declare.
pub trait Metric: Collector + Clone + 'static {
    /// Creates the metric. `buckets` are the upper bounds of a histogram, in the metric's own unit;
    /// empty takes the defaults of Prometheus. Other kinds ignore them.
    ///
    /// # Errors
    /// The name or a label is not valid.
    fn create(opts: Opts, labels: &[&str], buckets: Vec<f64>) -> prometheus::Result<Self>;
}

macro_rules! implement {
    ($($single:ident $vec:ident)+) => {$(
        impl Metric for $single {
            fn create(opts: Opts, _: &[&str], _: Vec<f64>) -> prometheus::Result<Self> {
                Self::with_opts(opts)
            }
        }

        impl Metric for $vec {
            fn create(opts: Opts, labels: &[&str], _: Vec<f64>) -> prometheus::Result<Self> {
                Self::new(opts, labels)
            }
        }
    )+};
}

implement!(IntCounter IntCounterVec IntGauge IntGaugeVec Gauge GaugeVec);

fn histogram_opts(opts: Opts, buckets: Vec<f64>) -> HistogramOpts {
    let opts = HistogramOpts::from(opts);
    if buckets.is_empty() {
        opts
    } else {
        opts.buckets(buckets)
    }
}

impl Metric for Histogram {
    fn create(opts: Opts, _: &[&str], buckets: Vec<f64>) -> prometheus::Result<Self> {
        Self::with_opts(histogram_opts(opts, buckets))
    }
}

impl Metric for HistogramVec {
    fn create(opts: Opts, labels: &[&str], buckets: Vec<f64>) -> prometheus::Result<Self> {
        Self::new(histogram_opts(opts, buckets), labels)
    }
}

/// Creates one metric and registers it.
///
/// # Errors
/// The name is not valid, or registered already.
pub fn register<M: Metric>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Vec<f64>,
) -> prometheus::Result<M> {
    let metric = M::create(Opts::new(name, help.trim()), labels, buckets)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// `count` upper bounds of a histogram, each `factor` times the one before.
#[must_use]
pub fn exponential(first: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(first), |bound| Some(bound * factor))
        .take(count)
        .collect()
}

#[doc(hidden)]
#[must_use]
pub fn first<const N: usize>(mut buckets: [Vec<f64>; N]) -> Vec<f64> {
    buckets.first_mut().map(std::mem::take).unwrap_or_default()
}

/// Declares a struct of Prometheus metrics with its constructor `register(&Registry)`. Each field is
/// stated once: its doc comment is also its help text.
///
/// ```ignore
/// service::metrics! {
///     /// The metrics of a mill.
///     pub struct Metrics {
///         /// Sacks by result: ground, refused.
///         pub sacks: IntCounterVec("mill_sacks_total", ["result"]),
///         /// Seconds that one sack took.
///         pub seconds: Histogram("mill_sack_seconds", buckets = exponential(0.001, 2.0, 16)),
///     }
/// }
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Metrics:ident {
            $(
                $(#[doc = $help:literal])+
                $field_visibility:vis $field:ident: $Kind:ident(
                    $name:literal $(, [$($label:literal),+ $(,)?])? $(, buckets = $buckets:expr)? $(,)?
                )
            ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $visibility struct $Metrics {
            $(
                $(#[doc = $help])+
                $field_visibility $field: ::prometheus::$Kind,
            )+
        }

        impl $Metrics {
            /// Creates the metrics and registers them.
            ///
            /// # Errors
            /// A metric of one of these names is registered already.
            $visibility fn register(registry: &::prometheus::Registry) -> ::prometheus::Result<Self> {
                Ok(Self {
                    $(
                        $field: $crate::declare::register(
                            registry,
                            $name,
                            concat!($($help),+),
                            &[$($($label),+)?],
                            $crate::declare::first([$($buckets,)? Vec::new()]),
                        )?,
                    )+
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, Registry, TextEncoder};

    use super::exponential;

    crate::metrics! {
        /// What a mill counts.
        struct Mill {
            /// Sacks by result:
            /// ground, refused.
            sacks: IntCounterVec("mill_sacks_total", ["result"]),
            /// Seconds that one sack took.
            seconds: Histogram("mill_sack_seconds", buckets = exponential(0.5, 2.0, 2)),
        }
    }

    #[test]
    fn a_declared_metric_has_its_name_help_labels_and_buckets() {
        let registry = Registry::new();
        let mill = Mill::register(&registry).unwrap();
        mill.sacks.with_label_values(&["ground"]).inc();
        mill.seconds.observe(0.7);
        let mut text = Vec::new();
        let families = registry.gather();
        TextEncoder::new().encode(&families, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "# HELP mill_sacks_total Sacks by result: ground, refused.",
            "mill_sacks_total{result=\"ground\"} 1",
            "# HELP mill_sack_seconds Seconds that one sack took.",
            "mill_sack_seconds_bucket{le=\"0.5\"} 0",
            "mill_sack_seconds_bucket{le=\"1\"} 1",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(Mill::register(&registry).is_err(), "registered twice");
    }
}
