//! Follows the live channel of a user, as a browser does.

use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;

use super::options::Options;
use super::print::Printer;
use super::sse::{Block, Reader};
use crate::client;

/// The pause before a reconnection until the stream sets one.
const RETRY: Duration = Duration::from_secs(2);

/// The longest silence: the service sends a heartbeat every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Shows the messages of the channel, reconnecting for ever.
///
/// # Errors
/// The service refuses the request.
pub(super) async fn run(options: &Options, user: &str, printer: &Printer) -> anyhow::Result<()> {
    let mut url = options.instance.at("/api/v1/sse/users/")?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(user);
    }
    for pattern in &options.types {
        url.query_pairs_mut().append_pair("types", pattern.as_str());
    }
    let client = client::builder().read_timeout(SILENCE).build()?;
    let mut reader = Reader::default();
    reader.last_id.clone_from(&options.last_event_id);
    let mut was_connected = true;
    loop {
        let mut request = client.get(url.clone()).header(ACCEPT, "text/event-stream");
        if let Some(id) = &reader.last_id {
            request = request.header("last-event-id", id);
        }
        let mut pause = None;
        let reason = match request.send().await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                let kind = answer.headers().get(CONTENT_TYPE);
                if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
                    bail!(client::NOT_TIDEGATE);
                }
                if !was_connected {
                    printer.notice("connected again");
                }
                was_connected = true;
                let mut body = answer.bytes_stream();
                loop {
                    match body.next().await {
                        Some(Ok(bytes)) => {
                            for block in &reader.feed(&bytes) {
                                show(block, printer).await;
                            }
                        }
                        Some(Err(error)) => break client::reason(&error),
                        None => break "the stream ended".to_owned(),
                    }
                }
            }
            Ok(answer) => {
                let status = answer.status();
                pause = answer
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs);
                let text = answer.text().await.unwrap_or_default();
                let says = format!("{status}: {}", client::detail(&text));
                if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                    bail!("{says}");
                }
                says
            }
            Err(error) => client::reason(&error),
        };
        reader.reset();
        if was_connected {
            printer.notice(&format!("not connected ({reason}), reconnecting"));
        }
        was_connected = false;
        tokio::time::sleep(pause.or(reader.retry).unwrap_or(RETRY)).await;
    }
}

async fn show(block: &Block, printer: &Printer) {
    let data = block.data.as_deref().unwrap_or_default();
    let Ok(data) = serde_json::from_str::<Value>(data) else {
        return;
    };
    if block.event == "reset" {
        let reason = data["reason"].as_str().unwrap_or("unknown");
        printer.notice(&format!("some events may have been missed here ({reason})"));
    } else {
        printer.event(&data, "payload").await;
    }
}
