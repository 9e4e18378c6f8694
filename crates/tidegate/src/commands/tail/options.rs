//! The options of `tidegate tail`.

use clap::Args;
use domain::pattern::TypePattern;
use serde_json::Value;

use crate::client::Instance;

/// Show events as they arrive
///
/// With --user it listens to that user's live channel, as a browser does: it reconnects by itself,
/// resumes where it was, and says so when something was missed.
///
/// Without a user it follows the stored events of all, half a second late; what is stored between
/// two looks is in the order in which it happened. It begins with the last lines, and with patterns
/// it searches further back for them, among the newest 100,000 events. It shows at most 100,000 new
/// events at a time, and says so when there are more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate tail
  tidegate tail --type 'order.*' --type user.login
  tidegate tail --user u-1
  tidegate tail --user u-1 --json | jq .payload")]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) instance: Instance,
    /// Only this user's events, live
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<String>,
    /// Only events of this type: `*` stands for one segment, `**` for any number; may be repeated
    #[arg(long = "type", value_name = "PATTERN", value_parser = TypePattern::parse)]
    pub(super) types: Vec<TypePattern>,
    /// Begin after this message of the channel; with --user
    #[arg(long, value_name = "ID", requires = "user")]
    pub(super) last_event_id: Option<String>,
    /// How many stored events to begin with; without --user
    #[arg(
        short = 'n',
        long,
        default_value_t = 10,
        value_name = "N",
        conflicts_with = "user"
    )]
    pub(super) lines: u16,
    /// One JSON object a line, complete
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// All events, of those stored from now on.
    pub(super) fn all(instance: Instance) -> Self {
        Self {
            instance,
            user: None,
            types: Vec::new(),
            last_event_id: None,
            lines: 0,
            json: true,
        }
    }

    /// Whether an event is of one of the types.
    pub(super) fn shows(&self, event: &Value) -> bool {
        let kind = event["event_type"].as_str().unwrap_or_default();
        self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(kind))
    }
}
