//! A reader of server-sent events that shares no code with the product.

mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

pub use wire::SseEvent;
use wire::{Body, Parser};

/// How long the head of a response may take.
const HEAD: Duration = Duration::from_secs(30);
/// The receive buffer of a slow reader, in bytes: the smallest that Linux allows.
const SMALL_WINDOW: u32 = 2_048;
/// The segment size of a slow reader, in bytes, as in a real network. With the 64 KiB of loopback the
/// sender's kernel would buffer more than a megabyte.
const SMALL_SEGMENTS: u32 = 1_400;

/// An open stream, read as a browser does, one event at a time: the rest stays unparsed, so that
/// [`Self::last_event_id`] is that of the last event returned.
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
    /// The status of the response.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The part of the body that came with the head.
    pub body: String,
}

/// A connection to the server of that URL whose client has little room for what comes, so that much
/// waits at the server.
///
/// # Errors
/// There is no such server.
pub async fn slow_connection(url: &str) -> anyhow::Result<TcpStream> {
    let (connection, _) = connect(&reqwest::Url::parse(url)?, Some(SMALL_WINDOW)).await?;
    Ok(connection)
}

async fn connect(
    url: &reqwest::Url,
    window: Option<u32>,
) -> anyhow::Result<(TcpStream, SocketAddr)> {
    let address = url.socket_addrs(|| None)?;
    let address = *address.first().context("no address")?;
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = window {
        socket.set_recv_buffer_size(bytes)?;
        socket2::SockRef::from(&socket).set_tcp_mss(SMALL_SEGMENTS)?;
    }
    Ok((socket.connect(address).await?, address))
}

impl SseStream {
    /// Opens `http://host:port/path`, after `last_event_id` if there is one.
    ///
    /// # Errors
    /// There is no connection or no response; [`SseRefused`] when the response is not a stream.
    pub async fn open(url: &str, last_event_id: Option<&str>) -> anyhow::Result<Self> {
        Self::open_with(url, last_event_id, None).await
    }

    /// Opens a stream with a small receive buffer, for a slow reader.
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
        let (mut connection, address) = connect(&url, window).await?;
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

    /// The next event; `None` when the stream ended cleanly. Cancelling loses nothing.
    ///
    /// # Errors
    /// The connection breaks, or the body is not chunked correctly.
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
    /// The stream ends first.
    pub async fn wait_cursor(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(id) = self.parser.next_cursor(&mut self.text)? {
                return Ok(id);
            }
            ensure!(self.more().await?, "ended before the first id");
        }
    }

    /// Receives more text; false at the end.
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

    /// Reads one byte; false when the stream has ended in any way.
    pub async fn read_byte(&mut self) -> bool {
        self.connection.read_u8().await.is_ok()
    }

    /// The `Last-Event-ID` that a browser would send now.
    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id()
    }

    /// How long a browser would wait before it reconnects, once the stream has set it.
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }

    /// The number of comments so far, heartbeats among them.
    pub fn comments(&self) -> usize {
        self.parser.comments()
    }

    /// A header of the response, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}
