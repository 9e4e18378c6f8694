//! Sends one batch, and reports what the service refused of it.

use std::time::Duration;

use tidegate_client::SendError;

use super::event::Event;
use super::report::Report;
use crate::client::{self, Instance};

/// Sends batches.
pub(crate) struct Sender {
    inner: tidegate_client::Sender,
    report: Report,
}

impl Sender {
    /// Sends to an instance, trying for `patience` seconds while it does not answer.
    ///
    /// # Errors
    /// `--url` is not a URL of HTTP, or the key cannot be sent.
    pub(crate) fn new(instance: &Instance, patience: u64, report: Report) -> anyhow::Result<Self> {
        let (url, key) = (instance.at("")?, client::key());
        let patience = Duration::from_secs(patience);
        let inner = tidegate_client::Sender::new(url.as_str(), key.as_deref(), patience)?;
        Ok(Self { inner, report })
    }

    /// Sends the events; returns how many were accepted, once all are settled.
    ///
    /// # Errors
    /// Not all could be settled.
    pub(crate) async fn send(&self, events: &[Event]) -> Result<u64, SendError> {
        let waiting = |reason: Option<&str>| self.report.waiting(reason);
        let sent = self.inner.send(events, waiting).await?;
        for refused in &sent.refused {
            if let Some(event) = events.get(refused.index) {
                self.report.refused(event, &refused.reason);
            }
        }
        Ok(sent.accepted)
    }
}
