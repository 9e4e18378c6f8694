//! Waiting for the end.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at the first SIGTERM or SIGINT, with its name.
///
/// # Errors
/// The handlers cannot be installed.
pub async fn requested() -> std::io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
