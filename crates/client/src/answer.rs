//! What an answer, or none, says to a person.

/// The error for an answer of another program.
pub const NOT_TIDEGATE: &str = "what answers there is not Tidegate";

/// The `detail` of a problem; of another text the first line, unless it is HTML.
#[must_use]
pub fn detail(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        detail: String,
    }
    serde_json::from_str::<Body>(text).map_or_else(
        |_| match text.trim().lines().next() {
            Some(line) if !line.starts_with('<') => line.chars().take(200).collect(),
            _ => NOT_TIDEGATE.to_owned(),
        },
        |problem| problem.detail,
    )
}

/// Why a request got no answer: the innermost error.
#[must_use]
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_html_is_not_repeated() {
        assert_eq!(detail(r#"{"detail":"no such user"}"#), "no such user");
        assert_eq!(detail("too busy\nreally"), "too busy");
        assert_eq!(detail("<!doctype html>\n<p>hello"), NOT_TIDEGATE);
    }
}
