//! The rules for names of event types.

use crate::names::names;

names! {
    /// What is wrong with a name.
    pub enum NameProblem {
        /// Not in lower case with underscores, dots between its parts (S0-39).
        NotSnakeCase = "not_snake_case",
        /// It says too little by itself (S0-42).
        TooGeneric = "too_generic",
        /// One word, where an object and an action should be (S0-40).
        OneWord = "one_word",
        /// It commands, where it should tell what happened (S3-33).
        NotPastTense = "not_past_tense",
    }
}

/// Words that say nothing without another.
const GENERIC: [&str; 24] = [
    "action",
    "activity",
    "change",
    "click",
    "clicked",
    "create",
    "created",
    "data",
    "delete",
    "error",
    "event",
    "info",
    "interaction",
    "log",
    "message",
    "open",
    "submit",
    "test",
    "track",
    "unknown",
    "update",
    "updated",
    "user",
    "view",
];

/// Commands, which names of events begin with by mistake.
const COMMANDS: [&str; 34] = [
    "accept",
    "activate",
    "add",
    "approve",
    "archive",
    "assign",
    "cancel",
    "change",
    "close",
    "complete",
    "confirm",
    "create",
    "deactivate",
    "delete",
    "deliver",
    "disable",
    "enable",
    "import",
    "install",
    "place",
    "publish",
    "refund",
    "register",
    "reject",
    "remove",
    "rename",
    "request",
    "reset",
    "send",
    "ship",
    "start",
    "stop",
    "submit",
    "update",
];

/// What is wrong with the name of a type.
#[must_use]
pub fn problems(event_type: &str) -> Vec<NameProblem> {
    let mut problems = vec![];
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if !event_type.chars().all(plain) {
        problems.push(NameProblem::NotSnakeCase);
    }
    let words = words(event_type);
    match words.as_slice() {
        [one] if GENERIC.contains(&one.as_str()) => problems.push(NameProblem::TooGeneric),
        [_] => problems.push(NameProblem::OneWord),
        [first, ..] if COMMANDS.contains(&first.as_str()) => {
            problems.push(NameProblem::NotPastTense);
        }
        _ => {}
    }
    problems
}

/// The words of a name in lower case: parted by what is no letter or digit, and by capitals.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut before_is_lower = false;
    for c in name.chars() {
        let begins = c.is_uppercase() && before_is_lower;
        if (!c.is_alphanumeric() || begins) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before_is_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::NameProblem::{NotPastTense, NotSnakeCase, OneWord, TooGeneric};
    use super::*;

    #[test]
    fn names_are_judged_by_the_rules_of_the_specification() {
        for (name, want) in [
            ("button_click", &[][..]),
            ("form_submit", &[]),
            ("order.item_added", &[]),
            ("user.logout", &[]),
            ("click", &[TooGeneric]),
            ("checkout", &[OneWord]),
            ("UserRegistered", &[NotSnakeCase]),
            ("RegisterUser", &[NotSnakeCase, NotPastTense]),
            ("create_order", &[NotPastTense]),
            ("Order Completed!", &[NotSnakeCase]),
            ("$pageview", &[NotSnakeCase, OneWord]),
        ] {
            assert_eq!(problems(name), want, "{name}");
        }
    }
}
