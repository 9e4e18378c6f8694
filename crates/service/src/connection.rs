//! The connection of a request, for a response that outlives the handler.
//!
//! Actix holds two buffers of 8 KiB for each connection and polls a body only after it has sent the
//! bytes before. Thousands of quiet streams would waste the buffers, and a stream whose client does
//! not read could not be ended. So a stream takes its connection over.

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

/// How long sent bytes may stay unacknowledged before the connection counts as lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// The socket of a connection, valid as long as the connection lives.
#[derive(Debug, Clone, Copy)]
struct Socket(RawFd);

/// Stores the socket of a new connection for [`of`], and sets TCP_NODELAY: otherwise a write soon after
/// another waits until the client's kernel acknowledges the first, 40 ms on Linux. A client that
/// takes no byte of what waits for it for `stall` is closed by the kernel.
pub(crate) fn on_connect(io: &dyn Any, data: &mut Extensions, stall: Duration) {
    if let Some(stream) = io.downcast_ref::<TcpStream>() {
        // A connection that is already closed fails elsewhere.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(stream).set_tcp_user_timeout(Some(stall));
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
    #[expect(
        unsafe_code,
        reason = "actix does not expose the socket of a connection"
    )]
    // SAFETY: the handler that has the request is run by the connection, which owns the socket and
    // so outlives this call; the descriptor is only duplicated.
    let socket = unsafe { BorrowedFd::borrow_raw(*socket) };
    let stream = std::net::TcpStream::from(socket.try_clone_to_owned()?);
    // A client without a network acknowledges no heartbeat; TCP alone waits for 15 minutes.
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    TcpStream::from_std(stream)
}

/// Responds with this head and hands the connection over: once the head is sent, the server calls
/// `then` and drops the connection. The body ends when the connection is closed.
///
/// A client that pipelines requests on the connection cuts its own stream.
///
/// Relies on the server dropping a connection whose body fails, without sending another byte and
/// without shutting the socket down, of which `then` holds a duplicate. (The server also logs the
/// failure, which [`crate::telemetry`] filters out.)
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
            // The server sends the head when the body is pending.
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
