//! What is counted, and that it stays bounded.

use prometheus::core::Collector as _;

use super::*;

#[test]
fn types_are_bounded_and_only_those_that_passed_get_a_label() {
    let metrics = Metrics::new(None).unwrap();
    for n in 0..150 {
        metrics.count(&format!("garbage.{n}"), false, Status::Filtered);
        metrics.count(&format!("type.{n}"), true, Status::Published);
    }
    let types = metrics.published_types();
    assert_eq!(types.len(), NAMES + 1);
    assert_eq!(types["other"], 50);
    assert!(types.keys().all(|name| !name.starts_with("garbage")));
    assert_eq!(metrics.totals().filtered, 150);
}

#[test]
fn a_partition_that_is_gone_has_no_lag() {
    let metrics = Metrics::new(None).unwrap();
    let lag = |partition| PartitionLag {
        topic: "t".into(),
        partition,
        lag: (partition < 9).then_some(5),
        done: None,
        high: None,
    };
    let shown = metrics.show_lag(&[lag(0), lag(1), lag(9)], &HashSet::new());
    assert_eq!(metrics.collectors.lag.collect()[0].get_metric().len(), 2);
    let shown = metrics.show_lag(&[lag(1), lag(2)], &shown);
    assert_eq!(shown.len(), 2);
    let families = metrics.collectors.lag.collect();
    let partitions = families[0].get_metric().iter().map(|m| &m.get_label()[0]);
    let partitions: HashSet<_> = partitions.map(|label| label.value()).collect();
    assert_eq!(partitions, HashSet::from(["1", "2"]));
}

#[test]
fn custom_names_are_bounded() {
    let metrics = Metrics::new(None).unwrap();
    (0..150).for_each(|n| metrics.record_custom_metric(&format!("n{n}"), 1.0));
    metrics.record_custom_metric("n0", 7.0);
    assert_eq!(
        metrics.collectors.custom.collect()[0].get_metric().len(),
        NAMES
    );
    assert!((metrics.collectors.custom.with_label_values(&["n0"]).get() - 7.0).abs() < 1e-9);
}

#[test]
fn rates_are_shares_of_what_was_counted() {
    let metrics = Metrics::new(None).unwrap();
    let count = |times, status| (0..times).for_each(|_| metrics.count("a", true, status));
    count(2, Status::Filtered);
    count(2, Status::Published);
    count(1, Status::Duplicate);
    count(3, Status::Dropped);
    let totals = metrics.totals();
    assert_eq!((totals.consumed, totals.published), (8, 2));
    assert!((totals.filter_rate() - 0.25).abs() < 1e-9);
    assert!((totals.push_success_rate() - 0.5).abs() < 1e-9);
}

#[test]
fn sessions_count_once() {
    let metrics = Metrics::new(None).unwrap();
    ["a", "b", "a"].into_iter().for_each(|s| metrics.session(s));
    assert_eq!(metrics.sessions(), 2);
}
