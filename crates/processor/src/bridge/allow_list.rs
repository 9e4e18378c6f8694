//! The event types that are published (S2-17, S2-66): regular expressions of the environment.

use config::Env;
use regex::{Regex, RegexSet};

const ONLY: &str = "BRIDGE_ALLOWED_TYPES";
const MORE: &str = "BRIDGE_MORE_ALLOWED_TYPES";

/// Reads the expressions; `None` allows every type. `own` are the profile's.
pub(super) fn from_env(env: &Env, own: Option<&[&str]>) -> Option<RegexSet> {
    let only = env.get_opt(
        &[ONLY],
        "Regular expressions of the event types that are published, by commas or line breaks; replaces the profile's. One matches anywhere in the type unless it says `^` and `$`.",
    );
    let more = env.get_opt(
        &[MORE],
        "More such expressions, added to the others; without others every type is published anyway.",
    );
    // Both are parsed in any case, so that every mistake is reported.
    let only = only.map(|text| parsed(env, ONLY, &text));
    let more = more.map_or_else(Vec::new, |text| parsed(env, MORE, &text));
    let patterns = match only {
        Some(patterns) => patterns,
        None => own?.iter().map(ToString::to_string).collect(),
    };
    // Each has been compiled alone; together they may still be too large.
    match RegexSet::new(patterns.iter().chain(&more)) {
        Ok(set) => Some(set),
        Err(error) => {
            env.complain(
                ONLY,
                &patterns.join(","),
                &format!("fewer or smaller expressions ({error})"),
            );
            None
        }
    }
}

/// The patterns that are valid expressions; reports the others to `env`, and an empty list.
fn parsed(env: &Env, name: &str, text: &str) -> Vec<String> {
    let mut patterns = split(text);
    if patterns.is_empty() {
        env.complain(name, text, "at least one regular expression");
    }
    patterns.retain(|pattern| match Regex::new(pattern) {
        Ok(_) => true,
        Err(error) => {
            // The last line says what is wrong; those before it point at the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim().to_owned();
            env.complain(name, pattern, &format!("a regular expression ({reason})"));
            false
        }
    });
    patterns
}

/// By line breaks if there is one, else by the commas outside of brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let lines = text.contains('\n');
    let (mut depth, mut escaped) = (0_usize, false);
    for c in text.chars() {
        let ends = match c {
            '\n' => true,
            ',' => !lines && depth == 0,
            _ => false,
        };
        if ends {
            parts.push(String::new());
            depth = 0;
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        match c {
            '(' | '[' | '{' if !escaped => depth += 1,
            ')' | ']' | '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(values: &[(&str, &str)], own: Option<&str>) -> Result<Option<RegexSet>, String> {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let env = Env::from_map(values.iter().map(owned).collect::<HashMap<_, _>>());
        let own = own.map(|pattern| [pattern]);
        let set = from_env(&env, own.as_ref().map(|patterns| patterns.as_slice()));
        env.finish()
            .map(|()| set)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_are_split_outside_of_brackets() {
        assert_eq!(split("^a{1,2}$, b[,]\\(,c"), ["^a{1,2}$", "b[,]\\(", "c"]);
        assert_eq!(split("^a,b$\n ^c$ \n"), ["^a,b$", "^c$"]);
    }

    #[test]
    fn a_list_replaces_the_profiles_and_more_are_added() {
        let set = read(&[(ONLY, "^a$")], Some("^own$")).unwrap().unwrap();
        assert!(set.is_match("a") && !set.is_match("own"));
        let set = read(&[(MORE, "b")], Some("^own$")).unwrap().unwrap();
        assert!(set.is_match("own") && set.is_match("abc"), "not anchored");
        assert!(read(&[(MORE, "b")], None).unwrap().is_none(), "all anyway");
    }

    #[test]
    fn what_is_no_expression_is_named_whatever_the_profile() {
        for own in [None, Some("^own$")] {
            let problems = read(&[(MORE, "^fine$,^(broken$")], own).unwrap_err();
            let expected = format!("{MORE}=\"^(broken$\": expected a regular expression");
            assert!(problems.contains(&expected), "{problems}");
        }
    }

    #[test]
    fn a_list_of_none_is_no_list() {
        for (name, text) in [(ONLY, ","), (ONLY, " , \n"), (MORE, ",")] {
            let problems = read(&[(name, text)], None).unwrap_err();
            let expected = "expected at least one regular expression";
            assert!(
                problems.contains(name) && problems.contains(expected),
                "{problems}"
            );
        }
    }
}
