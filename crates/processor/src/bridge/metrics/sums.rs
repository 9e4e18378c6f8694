//! What counters with labels add up to.

use std::collections::BTreeMap;

use prometheus::IntCounterVec;
use prometheus::core::Collector as _;

/// Sums of a counter by one label, among those that have another.
pub(super) fn by_label(
    counters: &IntCounterVec,
    label: &str,
    with: (&str, &str),
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for family in counters.collect() {
        for metric in family.get_metric() {
            let value = |name: &str| {
                let mut pairs = metric.get_label().iter();
                pairs.find(|pair| pair.name() == name).map(|p| p.value())
            };
            if !with.0.is_empty() && value(with.0) != Some(with.1) {
                continue;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole count"
            )]
            let count = metric.get_counter().get_value() as u64;
            if count > 0 {
                *sums
                    .entry(value(label).unwrap_or_default().to_owned())
                    .or_insert(0) += count;
            }
        }
    }
    sums
}
