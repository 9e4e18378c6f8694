//! A stream on its way to a client: the connection, and what is written to it.

use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use live::sse;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::sse::encoder::SseEncoder;
use crate::http::sse::end::End;
use crate::http::sse::limits::ConnectionPermit;
use crate::http::sse::unsent::Unsent;

/// A client that takes no byte of what waits for so long is closed.
const STALL: Duration = Duration::from_secs(30);

/// Slow clients are closed over this long, in milliseconds: those of one user become slow at the
/// same message, and closing a thousand connections at once would delay the next one for all
/// others.
const CLOSE_MS: RangeInclusive<u64> = 0..=1_000;

/// Browsers wait this long before they reconnect, in milliseconds: not all at once.
const RETRY_MS: RangeInclusive<u64> = 1_000..=5_000;

/// A stream: a future that is ready when it has ended. It holds no buffer of its own; all listeners
/// of a channel share what they are sent.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    encoder: SseEncoder,
    permit: ConnectionPermit,
    unsent: Unsent,
    heartbeat: Duration,
    /// When something was written last.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    /// Why it ended. If it is dropped before, the client was gone before the stream began.
    end: Option<End>,
}

impl Stream {
    /// The stream of one listener, a heartbeat after every `heartbeat` of quiet.
    #[must_use]
    pub fn new(
        socket: TcpStream,
        encoder: SseEncoder,
        permit: ConnectionPermit,
        heartbeat: Duration,
    ) -> Self {
        let last = Instant::now();
        let mut unsent = Unsent::default();
        // At once, so that the browser and every proxy know that it works.
        unsent.push(retry());
        Self {
            socket,
            encoder,
            permit,
            unsent,
            heartbeat,
            last,
            timer: Box::pin(sleep_until(last + heartbeat)),
            end: None,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.permit.poll_ending(cx).is_ready() {
            // Not within a message: the client drops what it has of that.
            if self.unsent.is_empty() {
                // It says when to reconnect, as the first one did: it need not arrive.
                let _ = self.socket.try_write(&retry());
            }
            return Poll::Ready(End::Shutdown);
        }
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(End::Client);
        }
        loop {
            while !self.unsent.is_empty() {
                match self.poll_write(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Client),
                    Poll::Pending => {
                        if self.encoder.poll_slow(cx).is_pending() {
                            ready!(self.poll_timer(STALL, cx));
                        }
                        return Poll::Ready(End::Slow);
                    }
                }
            }
            match self
                .encoder
                .poll(&mut self.unsent, self.permit.metrics(), cx)
            {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {
                    ready!(self.poll_timer(self.heartbeat, cx));
                    self.unsent.push(self.encoder.heartbeat());
                }
            }
        }
    }

    /// Writes some of what is unsent.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.unsent.try_write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.last = Instant::now();
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Ready when the client has closed the connection. What it sends is ignored: no request
    /// follows a stream.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 256];
        loop {
            if ready!(self.socket.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.try_read(&mut ignored) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Ready when nothing was written for so long. Writing does not touch the timer; when it fires,
    /// it is set again if something was written meanwhile: writing is much more frequent than being
    /// quiet.
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
        if self.end.is_none() {
            let end = ready!(self.poll_end(cx));
            self.end = Some(end);
            if end == End::Slow {
                self.unsent = Unsent::default();
                let close = Instant::now() + Duration::from_millis(random(CLOSE_MS));
                self.timer.as_mut().reset(close);
            }
        }
        if self.end == Some(End::Slow) && self.permit.poll_ending(cx).is_pending() {
            ready!(self.timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let closed = &self.permit.metrics().closed;
        let end = self.end.unwrap_or(End::Client);
        closed.with_label_values(&[end.as_str()]).inc();
    }
}

/// When to reconnect, different for each.
pub(in crate::http) fn retry() -> Bytes {
    sse::retry(random(RETRY_MS))
}

fn random(range: RangeInclusive<u64>) -> u64 {
    // The low bits of a fresh id are random.
    let random = service::clock::fresh_id().as_u64_pair().1;
    range.start() + random % (range.end() - range.start() + 1)
}
