//! Which event types a listener wants (C36).

use domain::field::Code;
use domain::pattern::TypePattern;

use crate::parameters::Parameters;

/// Patterns of one listener, at most: each is tried on each message.
pub const MAX_PATTERNS: usize = 32;

const KEY: &str = "types";

/// The event types a listener wants; without patterns, all.
#[derive(Debug, Clone, Default)]
pub struct TypeFilter(Box<[TypePattern]>);

impl TypeFilter {
    /// Reads `types`: patterns separated by commas; the parameter may be repeated.
    pub fn read(parameters: &mut Parameters<'_>) -> Self {
        let mut patterns = Vec::new();
        for text in parameters.raw_texts(KEY) {
            for part in text.split(',').filter(|part| !part.trim().is_empty()) {
                match TypePattern::parse(part) {
                    Ok(pattern) if patterns.contains(&pattern) => {}
                    Ok(pattern) => patterns.push(pattern),
                    Err(message) => {
                        parameters.refuse(KEY, Code::BadFormat, format!("a pattern {message}"));
                        return Self::default();
                    }
                }
            }
        }
        if patterns.len() > MAX_PATTERNS {
            let message = format!("must have at most {MAX_PATTERNS} patterns");
            parameters.refuse(KEY, Code::OutOfRange, message);
            return Self::default();
        }
        Self(patterns.into())
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether events of that type are wanted.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.is_all() || self.0.iter().any(|pattern| pattern.matches(event_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<TypeFilter, String> {
        let mut parameters = Parameters::from_query(query).unwrap();
        let types = TypeFilter::read(&mut parameters);
        match parameters.finish() {
            Ok(()) => Ok(types),
            Err(problem) => Err(problem.detail().to_owned()),
        }
    }

    #[test]
    fn patterns_come_in_lists_and_repeats() {
        let types = read("types=user.*,+order.paid,,&types=a&types=a").unwrap();
        assert_eq!(types.0.len(), 3);
        assert!(types.matches("user.x") && types.matches("order.paid") && types.matches("a"));
        assert!(!types.matches("b"));
        for all in ["", "types=", "types=,"] {
            let types = read(all).unwrap();
            assert!(types.is_all() && types.matches("anything"), "{all}");
        }
    }

    #[test]
    fn too_many_and_too_long_are_refused_by_name() {
        let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
        for bad in [many.join(","), "a".repeat(256), "a%00b".to_owned()] {
            let error = read(&format!("types={bad}")).unwrap_err();
            assert!(error.starts_with("types: "), "{error}");
        }
    }
}
