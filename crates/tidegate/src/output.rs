//! Output for people and scripts. The reader may close the pipe (`tidegate tail | head -1`), where
//! `println!` panics.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

/// The exit status where the reader closed the pipe: 128 + SIGPIPE, as in the shell.
const CLOSED: i32 = 141;

/// Writes a line to standard output. Ends the process if that fails, without a message where the
/// reader closed the pipe.
pub(crate) fn line(text: impl Display) {
    let Err(error) = write(&text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(CLOSED);
    }
    notice(format_args!("tidegate: standard output: {error}"));
    std::process::exit(1);
}

/// Writes a line to standard output; ignores a failure.
pub(crate) fn line_if_read(text: impl Display) {
    let _ = write(&text);
}

/// Writes a line to standard error; ignores a failure.
pub(crate) fn notice(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

fn write(text: &impl Display) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
