//! A generated month with planted anomalies, and what the rules say of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::*;

const DAY: i64 = 24 * 60;

/// A small generator with a seed: the month is the same each time.
struct Chance(u64);

impl Chance {
    /// From 0 to before 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// As many as come, where so many come on average.
    fn poisson(&mut self, mean: f64) -> i64 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.next(), 0);
        while product > limit {
            product *= self.next();
            count += 1;
        }
        count
    }
}

/// What is planted: minutes from the beginning of the month, and by what the events are multiplied.
struct Planted {
    kind: Kind,
    subject: &'static str,
    first: i64,
    minutes: i64,
    times: f64,
}

const fn planted(
    kind: Kind,
    subject: &'static str,
    at: (i64, i64, i64),
    minutes: i64,
    times: f64,
) -> Planted {
    let first = at.0 * DAY + at.1 * 60 + at.2;
    Planted {
        kind,
        subject,
        first,
        minutes,
        times,
    }
}

const PLANTED: [Planted; 10] = [
    planted(Kind::Surge, "page.viewed", (15, 10, 7), 25, 8.0),
    planted(Kind::Surge, "order.placed", (17, 14, 31), 40, 10.0),
    planted(Kind::Surge, "user.logged_in", (20, 3, 58), 30, 12.0),
    planted(Kind::Surge, "order.placed", (23, 21, 12), 20, 6.0),
    planted(Kind::Surge, "page.viewed", (27, 0, 3), 60, 7.0),
    planted(Kind::Silence, "page.viewed", (19, 12, 20), 30, 0.0),
    planted(Kind::Silence, "order.placed", (25, 15, 2), 45, 0.02),
    planted(Kind::ErrorRate, "backend", (16, 9, 44), 20, 20.0),
    planted(Kind::ErrorRate, "frontend", (22, 18, 5), 15, 25.0),
    planted(Kind::ErrorRate, "backend", (28, 11, 29), 30, 15.0),
];

/// Type, source, events a minute at noon of a weekday, and the source whose errors they are.
const TYPES: [(&str, &str, f64, Option<&str>); 5] = [
    ("page.viewed", "frontend", 60.0, None),
    ("js_error", "frontend", 0.4, Some("frontend")),
    ("order.placed", "backend", 40.0, None),
    ("user.logged_in", "backend", 25.0, None),
    ("api_error", "backend", 0.6, Some("backend")),
];

/// The month that begins with a Monday, as the store would count it.
fn month(start: i64) -> History {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut history = History::default();
    let mut hours: BTreeMap<(i64, &str, &str), i64> = BTreeMap::new();
    for minute in 0..30 * DAY {
        let of_day = (minute % DAY) as f64 / DAY as f64;
        let daily = 1.0 - 0.7 * (of_day * std::f64::consts::TAU).cos();
        let weekly = if minute / DAY % 7 >= 5 { 0.45 } else { 1.0 };
        for (event_type, event_source, noon, errors_of) in TYPES {
            let mut mean = noon * daily * weekly / 1.7;
            for one in &PLANTED {
                let at = (one.first..one.first + one.minutes).contains(&minute);
                if at && (one.subject == event_type || errors_of == Some(one.subject)) {
                    mean *= one.times;
                }
            }
            let count = chance.poisson(mean);
            if count == 0 {
                continue;
            }
            history.minutes.push(MinuteCount {
                minute: start + minute,
                event_type: event_type.to_owned(),
                event_source: event_source.to_owned(),
                api: String::new(),
                count,
            });
            let hour = (start + minute) / 60;
            *hours.entry((hour, event_type, event_source)).or_default() += count;
        }
    }
    for ((hour, event_type, event_source), count) in hours {
        history.hours.push(HourCount {
            hour,
            event_type: event_type.to_owned(),
            event_source: event_source.to_owned(),
            count,
        });
    }
    let since = TYPES.map(|(event_type, ..)| (event_type.to_owned(), start / 60 + 24));
    history.since = HashMap::from(since);
    history
}

/// 2026-10-05T00:00:00Z.
const START: i64 = 1_791_158_400 / 60;

#[test]
fn all_that_is_planted_in_a_month_is_found_within_five_minutes_and_hardly_anything_else() {
    let history = month(START);
    let rules = Rule::defaults();
    let all = START + 1..=START + 30 * DAY;
    let (changes, open) = watch(&rules, &history, vec![], all);
    let opened: Vec<&Change> = changes
        .iter()
        .filter(|change| change.kind == ChangeKind::Opened)
        .collect();
    let is_of = |change: &Change, one: &Planted| {
        let at = change.at - START;
        change.alert.kind == one.kind
            && change.alert.subject == one.subject
            && (one.first + 1..=one.first + 5).contains(&at)
    };
    for one in &PLANTED {
        let found = opened.iter().filter(|change| is_of(change, one)).count();
        assert_eq!(
            found, 1,
            "{:?} of {} at {}",
            one.kind, one.subject, one.first
        );
    }
    // More errors are a surge of errors as well.
    let about = |change: &Change| {
        let at = change.at - START;
        PLANTED.iter().any(|one| {
            let errors = TYPES.iter().find(|of| of.0 == change.alert.subject);
            let subject = errors.is_some_and(|of| of.3 == Some(one.subject));
            (subject || change.alert.subject == one.subject)
                && (one.first + 1..=one.first + one.minutes + 5).contains(&at)
        })
    };
    let wrong: Vec<_> = opened.iter().filter(|change| !about(change)).collect();
    assert!(wrong.len() <= 1, "{wrong:#?}");
    let ended = changes
        .iter()
        .filter(|change| change.kind == ChangeKind::Resolved);
    assert_eq!(
        (ended.count(), open.len()),
        (opened.len(), 0),
        "each ends, once"
    );
}

#[test]
fn minute_after_minute_finds_what_a_trial_finds() {
    let history = month(START);
    let rules = Rule::defaults();
    let all = START + 15 * DAY..=START + 18 * DAY;
    let (at_once, left) = watch(&rules, &history, vec![], all.clone());
    assert!(at_once.len() >= 6, "{at_once:#?}");
    let (mut changes, mut open) = (vec![], vec![]);
    let mut at = *all.start();
    for step in [1, 59, 7, 60, 1].into_iter().cycle() {
        if at > *all.end() {
            break;
        }
        let end = (at + step - 1).min(*all.end());
        let part = History {
            minutes: {
                let seen = at - reach(&rules)..end;
                let counts = history
                    .minutes
                    .iter()
                    .filter(|one| seen.contains(&one.minute));
                counts.cloned().collect()
            },
            hours: {
                let hours = past_hours(at..=end);
                let counts = history.hours.iter().filter(|one| hours.contains(&one.hour));
                counts.cloned().collect()
            },
            since: history.since.clone(),
        };
        let (more, now) = watch(&rules, &part, open, at..=end);
        changes.extend(more);
        (open, at) = (now, end + 1);
    }
    assert_eq!(changes, at_once);
    assert_eq!(open, left);
}

/// Counts of a minute, as error rates see them.
fn count(minute: i64, event_type: &str, count: i64) -> MinuteCount {
    MinuteCount {
        minute,
        event_type: event_type.to_owned(),
        event_source: "backend".to_owned(),
        api: "/orders".to_owned(),
        count,
    }
}

#[test]
fn an_alert_is_told_when_it_begins_when_it_is_much_worse_and_when_it_is_over() {
    let rules = [Rule::of("errors", Kind::ErrorRate)];
    let mut history = History::default();
    for minute in 0..120 {
        let bad = match minute {
            10..30 => 10,
            30..60 => 40,
            _ => 0,
        };
        history.minutes.push(count(minute, "paid", 100 - bad));
        history.minutes.push(count(minute, "payment.Failed", bad));
    }
    let (changes, open) = watch(&rules, &history, vec![], 1..=120);
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.kind, change.at))
        .collect();
    let want = [
        // 30 of 500 are more than 5 %.
        (ChangeKind::Opened, 13),
        (ChangeKind::Updated, 28),
        (ChangeKind::Updated, 43),
        (ChangeKind::Resolved, 74),
    ];
    assert_eq!(told, want);
    assert!(open.is_empty());
    assert_eq!(changes[2].alert.worst, 0.4);
    let message = changes[0].alert.message();
    assert_eq!(
        message,
        "backend: 6.0 % of 500 events in 5 minutes are errors, more than 5.0 %"
    );

    // A rule that is no more leaves no alert behind.
    let (_, open) = watch(&rules, &history, vec![], 1..=40);
    assert_eq!(open.len(), 1);
    let (changes, open) = watch(&[], &history, open, 41..=41);
    assert_eq!((changes[0].kind, open.len()), (ChangeKind::Resolved, 0));
}

#[test]
fn errors_are_grouped_by_source_api_or_family_of_type() {
    let mut history = History::default();
    history.minutes.push(count(0, "order.paid", 90));
    history.minutes.push(count(0, "order.failed", 10));
    history.minutes.push(count(0, "page.viewed", 1_000));
    history.minutes[2].api.clear();
    for (by, want) in [
        (By::Source, None),
        (By::Api, Some("/orders")),
        (By::Type, Some("order")),
    ] {
        let rule = Rule {
            by,
            ..Rule::of("r", Kind::ErrorRate)
        };
        let (changes, _) = watch(&[rule], &history, vec![], 1..=1);
        let subject = changes.first().map(|change| change.alert.subject.as_str());
        assert_eq!(subject, want, "{by:?}");
    }
}

#[test]
fn what_has_no_past_is_no_surge_and_no_silence() {
    let mut history = month(START);
    // All are new two days before.
    let now = START + 17 * DAY + 14 * 60;
    history
        .since
        .values_mut()
        .for_each(|since| *since = now / 60 - 48);
    history.hours.retain(|one| one.hour >= now / 60 - 48);
    let rules = [Rule::of("s", Kind::Surge), Rule::of("q", Kind::Silence)];
    let (changes, _) = watch(&rules, &history, vec![], now..=now + 120);
    assert_eq!(changes, []);
}

#[test]
fn a_rule_is_read_as_it_is_written_and_each_wrong_field_is_named() {
    let members = |value: serde_json::Value| value.as_object().cloned().unwrap();
    let rule = Rule::read(
        " checkout ",
        &members(
            json!({"kind": "error_rate", "by": "api", "event_types": ["order.*"],
            "event_sources": ["backend"], "threshold": 0.02, "min_events": 20, "window_minutes": 10,
            "user_id": "on-call"}),
        ),
    )
    .unwrap();
    let written = serde_json::to_value(&rule).unwrap();
    assert_eq!(Rule::read("checkout", &members(written)), Ok(rule));
    for kind in Kind::ALL {
        let read = Rule::read("r", &members(json!({"kind": kind.as_str(), "by": null})));
        assert_eq!(read, Ok(Rule::of("r", *kind)));
        let written = serde_json::to_value(Rule::of("r", *kind)).unwrap();
        assert_eq!(
            Rule::read("r", &members(written)),
            read,
            "as it was written"
        );
    }
    for (wrong, field) in [
        (json!({}), "kind"),
        (json!({"kind": "odd"}), "kind"),
        (json!({"kind": "surge", "by": "api"}), "by"),
        (json!({"kind": "surge", "threshold": 1}), "threshold"),
        (json!({"kind": "silence", "threshold": "0.1"}), "threshold"),
        (
            json!({"kind": "surge", "window_minutes": 61}),
            "window_minutes",
        ),
        (json!({"kind": "surge", "min_events": 0}), "min_events"),
        (json!({"kind": "surge", "event_types": "a"}), "event_types"),
        (
            json!({"kind": "surge", "event_types": ["a", ""]}),
            "event_types[1]",
        ),
        (
            json!({"kind": "surge", "event_sources": ["x"]}),
            "event_sources[0]",
        ),
        (json!({"kind": "surge", "user_id": ""}), "user_id"),
        (json!({"kind": "surge", "enabled": 1}), "enabled"),
        (json!({"kind": "surge", "treshold": 3}), "treshold"),
    ] {
        let errors = Rule::read("r", &members(wrong.clone())).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(fields, [field], "{wrong}");
    }
    assert_eq!(
        Rule::read(" ", &members(json!({"kind": "surge"}))).unwrap_err()[0].path,
        "name"
    );
    let own = Rule {
        enabled: false,
        ..Rule::of("surge", Kind::Surge)
    };
    let all = Rule::with_defaults(vec![own.clone()]);
    assert_eq!(
        (all.len(), all.contains(&own)),
        (Rule::defaults().len(), true)
    );
}
