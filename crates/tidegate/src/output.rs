//! What people and scripts read. Whoever reads may leave (`tidegate tail | head -1`), where
//! `println!` panics.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

/// How the shell calls the end of a process to whose output nobody listens: 128 + SIGPIPE.
const CLOSED: i32 = 141;

/// Writes a line to standard output, and ends the process if that cannot be done: without a word
/// where nobody reads any more.
pub(crate) fn line(text: impl Display) {
    let Err(error) = write(&text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(CLOSED);
    }
    notice(format_args!("tidegate: standard output: {error}"));
    std::process::exit(1);
}

/// The same for what has more to do than to print: it goes on in any case.
pub(crate) fn line_if_read(text: impl Display) {
    let _ = write(&text);
}

/// Writes a line to standard error, if somebody reads it.
pub(crate) fn notice(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

fn write(text: &impl Display) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
