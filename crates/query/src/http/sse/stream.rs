//! A stream on its way to a client: the connection, and what is written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use bytes::{Buf as _, Bytes};
use live::sse;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::sse::feed::{Feed, Next};
use crate::http::sse::limits::Place;

/// A client that has not taken a byte of what waits for so long is gone, or as good as.
const STALL: Duration = Duration::from_secs(30);

/// Browsers wait this long before they come back, in milliseconds: not all at once.
const RETRY: std::ops::RangeInclusive<u64> = 1_000..=5_000;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Slow,
    Shutdown,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Slow => "slow",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A stream: a future that is ready when it has ended. It holds no buffer of its own; what all
/// listeners of a channel get is one piece of memory.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    feed: Feed,
    place: Place,
    /// What is still to be written.
    rest: Bytes,
    heartbeat: Duration,
    /// When something was written last.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    end: Option<End>,
}

impl Stream {
    /// The stream of one listener, a heartbeat after every `heartbeat` of quiet.
    #[must_use]
    pub fn new(socket: TcpStream, feed: Feed, place: Place, heartbeat: Duration) -> Self {
        let last = Instant::now();
        Self {
            socket,
            feed,
            place,
            // At once, so that the browser and every proxy know that it works.
            rest: retry(),
            heartbeat,
            last,
            timer: Box::pin(sleep_until(last + heartbeat)),
            end: None,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.place.poll_ending(cx).is_ready() {
            // Not within a message, of which the client drops what it has.
            if self.rest.is_empty() {
                // It says when to come back, and was told before: it need not arrive.
                let _ = self.socket.try_write(&retry());
            }
            return Poll::Ready(End::Shutdown);
        }
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(End::Client);
        }
        loop {
            while !self.rest.is_empty() {
                match self.poll_write(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Client),
                    Poll::Pending => {
                        if self.feed.poll_slow(cx).is_pending() {
                            ready!(self.poll_timer(STALL, cx));
                        }
                        return Poll::Ready(End::Slow);
                    }
                }
            }
            match self.feed.poll(self.place.metrics(), cx) {
                Poll::Ready(Next::Send(bytes)) => self.rest = bytes,
                Poll::Ready(Next::Slow) => return Poll::Ready(End::Slow),
                Poll::Ready(Next::Ended) => return Poll::Ready(End::Shutdown),
                Poll::Pending => {
                    ready!(self.poll_timer(self.heartbeat, cx));
                    self.rest = self.feed.heartbeat();
                }
            }
        }
    }

    /// Writes some of the rest.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(&self.rest) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.rest.advance(written);
                    self.last = Instant::now();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ready when the client has closed the connection. What it says is not listened to: there is
    /// no next request after a stream.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut said = [0; 256];
        loop {
            if ready!(self.socket.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.try_read(&mut said) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Ready when nothing was written for so long. The timer is not touched when something is
    /// written, but looks again when it goes off: writing is much more frequent than being quiet.
    fn poll_timer(&mut self, quiet: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.last + quiet;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = ready!(self.poll_end(cx));
        self.end = Some(end);
        Poll::Ready(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Dropped before its end: the client was gone before the stream began.
        let reason = self.end.unwrap_or(End::Client).as_str();
        let closed = &self.place.metrics().closed;
        closed.with_label_values(&[reason]).inc();
    }
}

/// When to come back, different for each.
pub(super) fn retry() -> Bytes {
    // The low bits of a fresh id are random.
    let random = service::clock::fresh_id().as_u64_pair().1;
    let span = RETRY.end() - RETRY.start() + 1;
    sse::retry(RETRY.start() + random % span)
}
