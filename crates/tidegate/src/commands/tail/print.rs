//! Prints events, one line each.

use std::io::IsTerminal as _;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::output;
use crate::style::{BOLD, CYAN, DIM, YELLOW};

/// The longest content shown on a terminal, in characters.
const SHOWN: usize = 160;

/// Prints events to standard output.
pub(super) struct Printer {
    json: bool,
    is_terminal: bool,
    /// Takes the events instead.
    to: Option<mpsc::Sender<Value>>,
}

impl Printer {
    /// `json` prints events as JSON.
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            is_terminal: std::io::stdout().is_terminal(),
            to: None,
        }
    }

    /// Hands the events over.
    pub(super) fn to(sender: mpsc::Sender<Value>) -> Self {
        Self {
            to: Some(sender),
            ..Self::new(true)
        }
    }

    /// Prints an event; `content` is the name of the member with its data.
    pub(super) async fn event(&self, event: &Value, content: &str) {
        if let Some(to) = &self.to {
            // Nobody takes them any more: the command ends.
            let _ = to.send(event.clone()).await;
            return;
        }
        if self.json {
            output::line(event);
            return;
        }
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let content = match &event[content] {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        let content = if self.is_terminal && content.chars().count() > SHOWN {
            content.chars().take(SHOWN).chain(['…']).collect()
        } else {
            content
        };
        let who = ["user_id", "aggregate_id", "session_id"]
            .into_iter()
            .map(text)
            .find(|text| !text.is_empty())
            .unwrap_or("-");
        let time = text("timestamp");
        let kind = text("event_type");
        output::line(format_args!(
            "{DIM}{time}{DIM:#}  {CYAN}{kind}{CYAN:#}  {BOLD}{who}{BOLD:#}  {content}"
        ));
    }

    /// Prints a message about the stream to standard error.
    pub(super) fn notice(&self, text: &str) {
        output::notice(format_args!("{YELLOW}{text}{YELLOW:#}"));
    }
}
