//! A reader of server-sent events that shares nothing with ours.

mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

pub use wire::SseEvent;
use wire::{Body, Parser};

/// How long an answer's head may take.
const HEAD: Duration = Duration::from_secs(30);
/// What a slow reader's kernel takes for it before it reads: the least Linux allows.
const SMALL_WINDOW: u32 = 2_048;
/// A slow reader's segments, as on the way through a real network. For those of loopback, 64 KiB
/// each, the sender's kernel would take more than a megabyte.
const SMALL_SEGMENTS: u32 = 1_400;

/// An open stream, read as a browser does, one event at a time: what is not asked for stays
/// unparsed, so that [`Self::last_event_id`] is that of the last event handed out.
#[derive(Debug)]
pub struct SseStream {
    connection: TcpStream,
    headers: BTreeMap<String, String>,
    received: BytesMut,
    body: Body,
    text: BytesMut,
    parser: Parser,
}

/// The stream was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {body}")]
pub struct SseRefused {
    /// The answer's status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As much of its body as came with the head.
    pub body: String,
}

impl SseStream {
    /// Opens `http://host:port/path`, after `last_event_id` if there is one.
    ///
    /// # Errors
    /// Without a connection or an answer; [`SseRefused`] when the answer is no stream.
    pub async fn open(url: &str, last_event_id: Option<&str>) -> anyhow::Result<Self> {
        Self::open_with(url, last_event_id, None).await
    }

    /// Opens one for a reader that takes its time: hardly anything is received before it is read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_slow(url: &str) -> anyhow::Result<Self> {
        Self::open_with(url, None, Some(SMALL_WINDOW)).await
    }

    async fn open_with(
        url: &str,
        last_event_id: Option<&str>,
        window: Option<u32>,
    ) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(url)?;
        let address = url.socket_addrs(|| None)?;
        let address = *address.first().context("no address")?;
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes)?;
            socket2::SockRef::from(&socket).set_tcp_mss(SMALL_SEGMENTS)?;
        }
        let mut connection = socket.connect(address).await?;
        let resume = last_event_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let (path, query) = (url.path(), url.query().unwrap_or_default());
        let request = format!(
            "GET {path}?{query} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{resume}\r\n"
        );
        connection.write_all(request.as_bytes()).await?;
        let answered = tokio::time::timeout(HEAD, Self::answered(connection)).await;
        answered.context("no answer")?
    }

    async fn answered(mut connection: TcpStream) -> anyhow::Result<Self> {
        let mut received = BytesMut::new();
        let (status, headers) = loop {
            ensure!(
                connection.read_buf(&mut received).await? > 0,
                "closed without an answer"
            );
            if let Some(head) = wire::head(&mut received)? {
                break head;
            }
        };
        let kind = headers.get("content-type").map_or("", String::as_str);
        if status != 200 || !kind.starts_with("text/event-stream") {
            let body = String::from_utf8_lossy(&received).into_owned();
            bail!(SseRefused {
                status,
                headers,
                body
            });
        }
        let chunked = headers.get("transfer-encoding").map(String::as_str) == Some("chunked");
        Ok(Self {
            connection,
            headers,
            received,
            body: Body::new(chunked),
            text: BytesMut::new(),
            parser: Parser::default(),
        })
    }

    /// The next event; `None` when the stream has ended as it should. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no chunked body.
    pub async fn next(&mut self) -> anyhow::Result<Option<SseEvent>> {
        loop {
            if let Some(event) = self.parser.next(&mut self.text)? {
                return Ok(Some(event));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for the first id, which comes before the first event; returns it.
    ///
    /// # Errors
    /// When the stream ends first.
    pub async fn wait_cursor(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(id) = self.parser.next_cursor(&mut self.text)? {
                return Ok(id);
            }
            ensure!(self.more().await?, "ended before the first id");
        }
    }

    /// Takes what has come; false at the end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        while !self.body.take(&mut self.received, &mut self.text)? {
            if self.body.ended() {
                return Ok(false);
            }
            if self.connection.read_buf(&mut self.received).await? == 0 {
                ensure!(self.body.may_end(), "the connection was cut");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads one byte, as if each took long to arrive; false when the stream is over, however.
    pub async fn read_byte(&mut self) -> bool {
        self.connection.read_u8().await.is_ok()
    }

    /// What a browser would send as `Last-Event-ID` now.
    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id()
    }

    /// How long a browser would wait before it connects again, once it was told.
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }

    /// Comments so far; heartbeats are such.
    pub fn comments(&self) -> usize {
        self.parser.comments()
    }

    /// A header of the answer, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}
