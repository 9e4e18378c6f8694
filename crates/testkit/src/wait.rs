//! Waits for other processes.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take. Generous: it only ends tests that hang.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long a check that began in time may take beyond the limit.
const GRACE: Duration = Duration::from_secs(5);

/// Repeats `check` until it succeeds and returns its value; panics with the last error after `limit`,
/// and soon after it when a check never ends.
pub async fn eventually<T, E, F, R>(what: &str, limit: Duration, check: F) -> T
where
    E: Debug,
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
{
    eventually_with(what, limit, GRACE, check).await
}

async fn eventually_with<T, E, F, R>(
    what: &str,
    limit: Duration,
    grace: Duration,
    mut check: F,
) -> T
where
    E: Debug,
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let left = limit.saturating_sub(started.elapsed()) + grace;
        let last = match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => error,
            Err(_) => panic!("{what}: not within {limit:?}; the last check did not end"),
        };
        assert!(
            started.elapsed() < limit,
            "{what}: not within {limit:?}; last: {last:?}"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Reads a value until it equals `expected`, at most [`LIMIT`] long; errors of `read` count as
/// "not yet".
pub async fn eventually_eq<T, F, R>(what: &str, expected: T, mut read: F)
where
    T: PartialEq + Debug,
    F: FnMut() -> R,
    R: Future<Output = anyhow::Result<T>>,
{
    let check = || {
        let value = read();
        let expected = &expected;
        async move {
            match value.await {
                Ok(value) if value == *expected => Ok(()),
                Ok(value) => Err(format!("{value:?} instead of {expected:?}")),
                Err(error) => Err(format!("{error:#}")),
            }
        }
    };
    eventually(what, LIMIT, check).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_first_success() {
        let mut left = 3;
        let got = eventually("countdown", LIMIT, || {
            left -= 1;
            let now = left;
            async move { if now == 0 { Ok("done") } else { Err(now) } }
        })
        .await;
        assert_eq!(got, "done");
    }

    #[tokio::test]
    #[should_panic(expected = "the count: not within 0ns; last: 7")]
    async fn reports_the_last_value() {
        eventually("the count", Duration::ZERO, || async { Err::<(), _>(7) }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "the answer: not within 10ms; the last check did not end")]
    async fn ends_a_check_that_hangs() {
        let hangs = std::future::pending::<Result<(), ()>>;
        let short = Duration::from_millis(10);
        eventually_with("the answer", short, short, hangs).await;
    }
}
