//! Configuration from the environment: a specific name, then a generic one, then the default (C32).
//!
//! Reading never fails at once: every problem is noted, and [`Env::finish`] names them all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One setting, for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variables that are looked at, in that order.
    pub names: Vec<String>,
    /// The default as text; empty for none.
    pub default: String,
    /// What it does.
    pub doc: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration:{}", .0.iter().map(|p| format!("\n  {p}")).collect::<String>())]
pub struct ConfigError(pub Vec<String>);

/// The environment, and what has been asked of it.
#[derive(Debug)]
pub struct Env {
    values: HashMap<String, String>,
    settings: RefCell<Vec<Setting>>,
    problems: RefCell<Vec<String>>,
    /// Variables whose value is not of the environment.
    filled: Vec<&'static str>,
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_map(std::env::vars_os().filter_map(text).collect())
    }

    /// These values, for tests and for the reference.
    #[must_use]
    pub fn from_map(values: HashMap<String, String>) -> Self {
        Self {
            values,
            settings: RefCell::default(),
            problems: RefCell::default(),
            filled: Vec::new(),
        }
    }

    /// Gives a variable that is not set the value found elsewhere.
    pub fn fill(&mut self, name: &'static str, value: String) {
        if !self.is_set(name) {
            self.values.insert(name.to_owned(), value);
            self.filled.push(name);
        }
    }

    /// The variables that were given a value found elsewhere, with it.
    pub fn filled(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let value = |name: &'static str| (name, self.values.get(name).map_or("", String::as_str));
        self.filled.iter().copied().map(value)
    }

    /// The value of the first of `names` that is set and not empty.
    fn raw(&self, names: &[&'static str]) -> Option<(&'static str, &str)> {
        names.iter().find_map(|name| {
            let value = self.values.get(*name)?.trim();
            (!value.is_empty()).then_some((*name, value))
        })
    }

    /// A setting that is read twice stands in the reference once.
    fn note(&self, names: &[&'static str], default: &str, doc: &str) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut settings = self.settings.borrow_mut();
        if !settings.iter().any(|setting| setting.names == names) {
            settings.push(Setting {
                names,
                default: default.to_owned(),
                doc: doc.to_owned(),
            });
        }
    }

    /// Notes a problem that the caller found.
    pub fn complain(&self, name: &str, value: &str, expected: &str) {
        self.problems
            .borrow_mut()
            .push(format!("{name}={value:?}: expected {expected}"));
    }

    /// A value of any type that can be read from text.
    ///
    /// # Panics
    /// If `default` cannot be read: a mistake in the program.
    pub fn get<T: FromStr>(&self, names: &[&'static str], default: &str, doc: &str) -> T
    where
        T::Err: fmt::Display,
    {
        self.note(names, default, doc);
        let first = names.first().copied().unwrap_or_default();
        let (name, text) = self.raw(names).unwrap_or((first, default));
        match text.parse() {
            Ok(value) => value,
            Err(error) => {
                self.complain(name, text, &error.to_string());
                match default.parse() {
                    Ok(value) => value,
                    Err(error) => panic!("the default {default:?} of {name} is wrong: {error}"),
                }
            }
        }
    }

    /// A number within a range.
    pub fn get_in<T>(
        &self,
        names: &[&'static str],
        default: T,
        range: RangeInclusive<T>,
        doc: &str,
    ) -> T
    where
        T: FromStr + PartialOrd + Copy + fmt::Display,
    {
        self.note(names, &default.to_string(), doc);
        let Some((name, text)) = self.raw(names) else {
            return default;
        };
        match text.parse() {
            Ok(value) if range.contains(&value) => value,
            _ => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                self.complain(name, text, &expected);
                default
            }
        }
    }

    /// `true`, `false`, `1`, `0`, `yes`, `no`, `on` or `off`.
    pub fn get_bool(&self, names: &[&'static str], default: bool, doc: &str) -> bool {
        self.note(names, &default.to_string(), doc);
        let Some((name, text)) = self.raw(names) else {
            return default;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.complain(name, text, "true or false");
                default
            }
        }
    }

    /// One of two words, the first of which is the default.
    pub fn get_one_of<T: Copy>(&self, name: &'static str, words: [(&str, T); 2], doc: &str) -> T {
        let [(default, value), (other, other_value)] = words;
        let text: String = self.get(&[name], default, doc);
        if text == other {
            return other_value;
        }
        if text != default {
            self.complain(name, &text, &format!("{default} or {other}"));
        }
        value
    }

    /// A text that may be absent.
    pub fn get_opt(&self, names: &[&'static str], doc: &str) -> Option<String> {
        self.note(names, "", doc);
        self.raw(names).map(|(_, value)| value.to_owned())
    }

    /// Whether a variable is set to something, for what is there only where it is named.
    #[must_use]
    pub fn is_set(&self, name: &'static str) -> bool {
        self.raw(&[name]).is_some()
    }

    /// A secret that may be absent.
    pub fn get_secret(&self, names: &[&'static str], doc: &str) -> Option<Secret> {
        self.get_opt(names, doc).map(Secret::new)
    }

    /// A list, separated by commas.
    pub fn get_list(&self, names: &[&'static str], default: &str, doc: &str) -> Vec<String> {
        self.note(names, default, doc);
        let text = self.raw(names).map_or(default, |(_, value)| value);
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong, each with the variable's name.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let problems = self.problems.borrow();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(problems.clone()))
        }
    }

    /// Variables of NATS that mean nothing here (C32): to be warned of once logs are on.
    #[must_use]
    pub fn ignored(&self) -> Vec<String> {
        const READ: [&str; 6] = [
            "NATS_URL",
            "NATS_ANNOUNCEMENTS",
            "NATS_STREAM",
            "NATS_SUBJECT",
            "NATS_CONSUMER",
            "NATS_TENANT",
        ];
        let unread = |name: &&String| name.starts_with("NATS_") && !READ.contains(&name.as_str());
        let nats = self.values.keys().filter(unread);
        let mut names: Vec<String> = nats.cloned().collect();
        names.sort();
        names
    }

    /// Every setting that was asked for, in that order.
    #[must_use]
    pub fn reference(&self) -> Vec<Setting> {
        self.settings.borrow().clone()
    }

    /// The settings as a Markdown table.
    #[must_use]
    pub fn reference_markdown(&self) -> String {
        let mut text = String::from("| variable | default | meaning |\n|---|---|---|\n");
        for setting in self.settings.borrow().iter() {
            let names: Vec<String> = setting.names.iter().map(|n| format!("`{n}`")).collect();
            let default = match setting.default.as_str() {
                "" => "–".to_owned(),
                default => format!("`{default}`"),
            };
            text.push_str(&format!(
                "| {} | {default} | {} |\n",
                names.join(", else "),
                setting.doc.replace('|', "\\|")
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(values: &[(&str, &str)]) -> Env {
        Env::from_map(
            values
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn the_specific_name_wins_and_empty_is_unset() {
        let env = env(&[("A_PORT", ""), ("SERVICE_PORT", "9"), ("B_PORT", "7")]);
        assert_eq!(
            env.get_in(&["A_PORT", "SERVICE_PORT"], 1_u16, 0..=99, ""),
            9
        );
        assert_eq!(
            env.get_in(&["B_PORT", "SERVICE_PORT"], 1_u16, 0..=99, ""),
            7
        );
        assert_eq!(env.get_in(&["C_PORT"], 1_u16, 0..=99, ""), 1);
        assert_eq!(env.finish(), Ok(()));
    }

    #[test]
    fn every_problem_is_named() {
        let env = env(&[("A", "x"), ("B", "500"), ("C", "maybe")]);
        let _: u16 = env.get(&["A"], "1", "");
        let _ = env.get_in(&["B"], 1, 0..=99, "");
        let _ = env.get_bool(&["C"], true, "");
        let ConfigError(problems) = env.finish().unwrap_err();
        assert_eq!(problems.len(), 3);
        assert!(problems[1].contains("B=\"500\"") && problems[1].contains("0 to 99"));
    }

    #[test]
    fn the_reference_lists_what_was_asked_once() {
        let env = env(&[]);
        let _ = env.get_list(&["TOPICS"], "a,b", "Topics.");
        let _ = env.get_list(&["TOPICS"], "a,b", "Topics.");
        let text = env.reference_markdown();
        assert_eq!(
            text.matches("| `TOPICS` | `a,b` | Topics. |").count(),
            1,
            "{text}"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cret".to_owned())), "***");
    }
}
