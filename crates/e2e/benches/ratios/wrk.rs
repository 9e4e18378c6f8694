//! Posting as fast as answers come, over a fixed number of connections (Debian's package wrk).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// A script that posts that body.
pub(crate) fn script(body: &str) -> anyhow::Result<PathBuf> {
    script_with(body, "")
}

/// The same with a key.
pub(crate) fn script_with(body: &str, key: &str) -> anyhow::Result<PathBuf> {
    let name = format!("tidegate-bench-{}{}.lua", std::process::id(), key.len());
    let path = std::env::temp_dir().join(name);
    let mut text = format!(
        "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = [==[{body}]==]\n"
    );
    if !key.is_empty() {
        text.push_str(&format!("wrk.headers['Authorization'] = 'Bearer {key}'\n"));
    }
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Seconds of load before anything is measured: until then the broker's compilers take as much of its time
/// as the events.
const WARM_UP: u64 = 15;
/// Connections meanwhile.
const WARM_UP_CONNECTIONS: usize = 64;

/// Posts for a while, unmeasured.
pub(crate) fn warm_up(url: &str, script: &Path) -> anyhow::Result<()> {
    wrk(url, script, WARM_UP_CONNECTIONS, WARM_UP).map(|_| ())
}

/// Requests per second over so many connections, after one second that does not count; fails if any
/// answer was not 2xx.
pub(crate) fn wrk(
    url: &str,
    script: &Path,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<f64> {
    let run = |seconds: u64| -> anyhow::Result<String> {
        let output = Command::new("wrk")
            .args(["-t2", "-c", &connections.to_string()])
            .args(["-d", &format!("{seconds}s"), "-s"])
            .arg(script)
            .arg(url)
            .output()
            .context("wrk (Debian's package wrk) is needed")?;
        ensure!(
            output.status.success(),
            "wrk: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(1)?;
    let output = run(seconds)?;
    ensure!(
        !output.contains("Non-2xx"),
        "{url} refused requests:\n{output}"
    );
    output
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no rate in wrk's output:\n{output}"))
}
