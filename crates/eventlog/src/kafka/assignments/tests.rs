//! How partitions are dealt, and what is known of each.

use super::*;

fn workers_of(assignments: &Assignments, topic: &str, partitions: &[i32]) -> Vec<usize> {
    partitions
        .iter()
        .map(|p| assignments.find(topic, *p).expect("assigned").worker)
        .collect()
}

fn per_worker(workers: &[usize], count: usize) -> Vec<usize> {
    (0..count)
        .map(|worker| workers.iter().filter(|w| **w == worker).count())
        .collect()
}

#[test]
fn partitions_of_each_topic_spread_evenly_whatever_their_numbers() {
    let assignments = Assignments::new(2);
    // What a cooperative rebalance leaves one of two consumers: every other partition.
    for topic in ["a", "b", "c"] {
        [0, 2, 4, 6]
            .iter()
            .for_each(|p| assignments.assign(topic, *p, true));
        assert_eq!(
            per_worker(&workers_of(&assignments, topic, &[0, 2, 4, 6]), 2),
            [2, 2],
            "{topic}"
        );
    }
}

#[test]
fn single_partitions_of_many_topics_spread_too() {
    let assignments = Assignments::new(3);
    let topics = ["a", "b", "c", "d", "e", "f"];
    topics
        .iter()
        .for_each(|topic| assignments.assign(topic, 0, true));
    let workers: Vec<_> = topics
        .iter()
        .flat_map(|t| workers_of(&assignments, t, &[0]))
        .collect();
    assert_eq!(per_worker(&workers, 3), [2, 2, 2]);
}

#[test]
fn a_partition_returns_to_its_worker() {
    let assignments = Assignments::new(2);
    (0..4).for_each(|p| assignments.assign("a", p, true));
    let before = workers_of(&assignments, "a", &[0, 1, 2, 3]);
    let held = assignments.find("a", 1).expect("assigned");
    assignments.revoke("a", 1);
    assert!(held.revoked());
    assert!(assignments.find("a", 1).is_none());
    assignments.assign("a", 1, true);
    assert!(!assignments.find("a", 1).expect("assigned").revoked());
    assert_eq!(workers_of(&assignments, "a", &[0, 1, 2, 3]), before);
}

#[test]
fn done_only_rises_and_is_committed_once() {
    let assignments = Assignments::new(1);
    assignments.assign("a", 0, true);
    assert!(assignments.uncommitted(&assignments.all()).is_none());
    assignments.mark_done("a", 0, 7);
    assignments.mark_done("a", 0, 5);
    assignments.mark_done("a", 9, 5);
    let list = assignments
        .uncommitted(&assignments.all())
        .expect("one partition");
    assert_eq!(list.elements()[0].offset(), Offset::Offset(7));
    assert!(assignments.uncommitted(&assignments.all()).is_none());
    assignments.forget(&assignments.all());
    assert!(
        assignments.uncommitted(&assignments.all()).is_some(),
        "a failed commit is repeated"
    );
}

#[test]
fn lag_counts_from_what_is_done() {
    let assignments = Assignments::new(1);
    assignments.assign("a", 0, true);
    assert_eq!(assignments.lag()[0].lag, None);
    let assignment = assignments.find("a", 0).expect("assigned");
    assignment.high.store(100, Ordering::Relaxed);
    assignment.position.store(40, Ordering::Relaxed);
    assert_eq!(assignments.lag()[0].lag, Some(60));
    assignments.mark_done("a", 0, 90);
    assert_eq!(assignments.lag()[0].lag, Some(10));
}

#[test]
fn what_is_done_is_counted_from_the_first_record_on() {
    let assignments = Assignments::new(1);
    ["a", "b"]
        .iter()
        .for_each(|t| assignments.assign(t, 0, true));
    for (topic, first) in [("a", 1_000), ("b", 7)] {
        let assignment = assignments.find(topic, 0).expect("assigned");
        assert_eq!(assignment.sends(first, first + 9), first);
        assert_eq!(assignment.sends(first + 50, first + 59), first + 10);
    }
    assignments.mark_done("a", 0, 1_060);
    assignments.mark_done("a", 0, 1_060);
    assert_eq!(assignments.done(), 60);
    assignments.mark_done("b", 0, 47);
    assert_eq!(assignments.done(), 100);
}

#[test]
fn a_placed_partition_is_not_done_with_what_was_read_before() {
    let assignments = Assignments::new(1);
    assignments.assign("a", 0, false);
    assert_eq!(assignments.unplaced(), [("a".into(), 0)]);
    assignments.mark_done("a", 0, 7);
    assert_eq!(assignments.lag()[0].done, None);
    let before = assignments.begin("a", 0, Some(50)).expect("assigned");
    assert_eq!(assignments.unplaced(), []);
    assert_eq!(before.sends(52, 99), 50);
    assignments.mark_done("a", 0, 100);
    // The stored position went back.
    let placed = assignments.begin("a", 0, Some(20)).expect("assigned");
    assert!(before.revoked());
    assert_eq!(placed.sends(20, 29), 20);
    assignments.mark_done("a", 0, 100);
    assert_eq!(assignments.lag()[0].done, None);
    assignments.mark_done("a", 0, 30);
    assert_eq!(assignments.lag()[0].done, Some(30));
    assert!(assignments.begin("a", 1, Some(20)).is_none());
}
