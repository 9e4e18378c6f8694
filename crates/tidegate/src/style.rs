//! Colours of the terminal; `anstream` removes them where the output is no terminal.

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

/// The style of `--help`.
pub(crate) const HELP: Styles = Styles::styled()
    .header(BOLD)
    .usage(BOLD)
    .literal(CYAN)
    .placeholder(DIM);

/// Emphasis.
pub(crate) const BOLD: Style = Style::new().bold();
/// Details.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Success.
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
/// Failure.
pub(crate) const RED: Style = AnsiColor::Red.on_default();
/// Warning.
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Names.
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();
