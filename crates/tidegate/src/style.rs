//! Colours of the terminal; `anstream` leaves them out where nobody would see them.

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

/// Of `--help`.
pub(crate) const HELP: Styles = Styles::styled()
    .header(BOLD)
    .usage(BOLD)
    .literal(CYAN)
    .placeholder(DIM);

/// What stands out.
pub(crate) const BOLD: Style = Style::new().bold();
/// What stands back.
pub(crate) const DIM: Style = Style::new().dimmed();
/// All is well.
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
/// Something is not.
pub(crate) const RED: Style = AnsiColor::Red.on_default();
/// Something to know.
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
/// A name.
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();
