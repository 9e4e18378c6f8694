//! Waits for the signal to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns the name of the first signal: SIGTERM or SIGINT.
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
