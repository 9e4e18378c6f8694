//! Kafka through kcat, a client that shares no code with the product.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::names::unique;

/// A new value for `KAFKA_TOPIC_PREFIX`: topics of one test on a shared Kafka.
pub fn topic_prefix() -> String {
    format!("t{}.", unique())
}

/// The `kcat` program, used against one Kafka.
#[derive(Debug, Clone)]
pub struct Kcat {
    brokers: String,
}

/// A record that kcat has read.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Full topic name.
    pub topic: String,
    /// Partition within the topic.
    pub partition: i32,
    /// Position within the partition.
    pub offset: i64,
    /// Key, if any.
    pub key: Option<String>,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Payload; `None` is a tombstone.
    pub payload: Option<String>,
}

impl Kcat {
    /// A client of the Kafka at `host:port`.
    pub fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-q", "-b", &self.brokers]).kill_on_drop(true);
        command
    }

    /// Sends one record of any bytes (no zero byte in key and headers), and waits for its acknowledgement.
    ///
    /// # Errors
    /// kcat fails, for instance without a Kafka or topic.
    pub async fn produce(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
        payload: &[u8],
    ) -> anyhow::Result<()> {
        // An argument that names a file makes the file's bytes one record.
        let file = std::env::temp_dir().join(format!("kcat-{}", unique()));
        std::fs::write(&file, payload)?;
        let mut command = self.command();
        command.args(["-P", "-t", topic]);
        if let Some(key) = key {
            command.arg("-k").arg(OsString::from_vec(key.to_vec()));
        }
        for (name, value) in headers {
            let header = [*name, b"=", *value].concat();
            command.arg("-H").arg(OsString::from_vec(header));
        }
        let output = command.arg(&file).stdin(Stdio::null()).output().await;
        std::fs::remove_file(&file)?;
        succeeded(&output.context("kcat")?).map(drop)
    }

    /// Sends each line as one record with its key, and waits for the acknowledgements. Neither may
    /// hold a line break or a tab.
    ///
    /// # Errors
    /// kcat fails, for instance without a Kafka or topic.
    pub async fn produce_lines<K, P>(
        &self,
        topic: &str,
        lines: impl IntoIterator<Item = (K, P)>,
    ) -> anyhow::Result<()>
    where
        K: AsRef<str>,
        P: AsRef<str>,
    {
        let mut input = String::new();
        for (key, payload) in lines {
            let (key, payload) = (key.as_ref(), payload.as_ref());
            let plain = |text: &str| !text.contains(['\n', '\t']);
            ensure!(
                plain(key) && plain(payload),
                "line break or tab in {key:?} {payload:?}"
            );
            input.extend([key, "\t", payload, "\n"]);
        }
        let mut child = self
            .command()
            .args(["-P", "-t", topic, "-K", "\t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kcat")?;
        let mut stdin = child.stdin.take().context("kcat's input")?;
        // A kcat that gave up closes its input; its output says why.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        succeeded(&child.wait_with_output().await?).map(drop)
    }

    /// All records of the topic, in the order of partition and offset.
    ///
    /// # Errors
    /// kcat fails, for instance without a Kafka or topic.
    pub async fn consume(&self, topic: &str) -> anyhow::Result<Vec<Message>> {
        let output = self
            .command()
            .args(["-C", "-t", topic, "-o", "beginning", "-e", "-J"])
            .stdin(Stdio::null())
            .output()
            .await
            .context("kcat")?;
        let text = succeeded(&output)?;
        let mut messages = text
            .lines()
            .map(message)
            .collect::<anyhow::Result<Vec<_>>>()?;
        messages.sort_by_key(|message| (message.partition, message.offset));
        Ok(messages)
    }
}

fn succeeded(output: &std::process::Output) -> anyhow::Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat: {}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses one line of `kcat -J`.
fn message(line: &str) -> anyhow::Result<Message> {
    let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let number = |name: &str| value[name].as_i64().with_context(|| line.to_owned());
    // Names and values take turns.
    let headers: Vec<String> = value["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|part| part.as_str().unwrap_or_default().to_owned())
        .collect();
    Ok(Message {
        topic: text("topic").with_context(|| line.to_owned())?,
        partition: i32::try_from(number("partition")?)?,
        offset: number("offset")?,
        key: text("key"),
        headers: headers
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
        payload: text("payload"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kcat_prints() {
        let line = r#"{"topic":"t","partition":2,"offset":7,"tstype":"create","ts":1,"broker":1,
            "headers":["subject","a.b","tenant","acme"],"key":"k","payload":"{\"a\":1}"}"#;
        let message = message(&line.replace('\n', "")).unwrap();
        assert_eq!((message.partition, message.offset), (2, 7));
        assert_eq!(message.headers[1], ("tenant".to_owned(), "acme".to_owned()));
        assert_eq!(message.payload.as_deref(), Some(r#"{"a":1}"#));
    }
}
