//! The connection a request came on, for an answer that goes on by itself.
//!
//! Actix holds two buffers of 8 KiB for every connection and asks a body for more only when it has
//! got rid of what it has. Thousands of quiet streams would hold nothing but buffers, and one
//! whose client does not read could never be ended. So a stream takes its connection over.

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Extensions;
use actix_web::http::ConnectionType;
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use socket2::SockRef;

/// How long what was sent may stay unacknowledged before the connection counts as lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// The socket of a connection, as long as the connection lives.
#[derive(Debug, Clone, Copy)]
struct Socket(RawFd);

/// Notes the socket of a new connection, and has it send what it is given at once: otherwise what
/// comes soon after something else waits for the client's kernel to acknowledge that, 40 ms on Linux.
pub(crate) fn note(io: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = io.downcast_ref::<TcpStream>() {
        // A connection that is gone already fails elsewhere.
        let _ = stream.set_nodelay(true);
        data.insert(Socket(stream.as_raw_fd()));
    }
}

/// The connection of a request, to be taken over by [`hand_over`].
///
/// # Errors
/// There are no file descriptors left, or the request did not come over TCP.
pub fn of(request: &HttpRequest) -> io::Result<TcpStream> {
    let Some(Socket(socket)) = request.conn_data::<Socket>() else {
        return Err(io::Error::other("the request did not come over TCP"));
    };
    #[expect(unsafe_code, reason = "the server lends its socket to nobody")]
    // SAFETY: the handler that has the request is run by the connection, which owns the socket and
    // so outlives this call; the descriptor is only duplicated.
    let socket = unsafe { BorrowedFd::borrow_raw(*socket) };
    let stream = std::net::TcpStream::from(socket.try_clone_to_owned()?);
    // A client whose network is gone acknowledges no heartbeat; TCP alone would hope for a quarter
    // of an hour.
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    TcpStream::from_std(stream)
}

/// Answers with this head and gives the connection away: when the head is sent, `then` is called,
/// and the server forgets the connection. The body is what comes until the connection is closed.
///
/// A client that sends requests without reading the answers to those before cuts its own stream.
///
/// Relies on the server closing a connection whose body fails without another byte, and without
/// shutting the socket down, which `then` holds a duplicate of. (It also says so in its log, where
/// [`crate::telemetry`] keeps it out.)
pub fn hand_over(mut head: HttpResponseBuilder, then: impl FnOnce() + 'static) -> HttpResponse {
    let mut response = head.body(HandOver {
        sent: false,
        then: Some(then),
    });
    let head = response.head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
    response
}

struct HandOver<F> {
    sent: bool,
    then: Option<F>,
}

impl<F> Unpin for HandOver<F> {}

#[derive(Debug, thiserror::Error)]
#[error("the connection was taken over")]
struct TakenOver;

impl<F: FnOnce() + 'static> MessageBody for HandOver<F> {
    type Error = TakenOver;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TakenOver>>> {
        if !self.sent {
            // The head is sent whenever a body has nothing more for the moment.
            self.sent = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(then) = self.then.take() {
            then();
        }
        Poll::Ready(Some(Err(TakenOver)))
    }
}
