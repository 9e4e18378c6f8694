//! The body of an answer that may have to wait for its client.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

/// Bytes given to the connection at a time: it copies what it is given.
const PIECE: usize = 64 * 1024;

/// The bytes of an answer, and what stands for them until the connection has taken the last piece.
#[derive(Debug)]
pub struct Answer<H> {
    bytes: Bytes,
    _held: H,
}

impl<H> Answer<H> {
    /// An answer of these bytes, for which `held` is kept: the permit of a byte budget.
    pub fn new(bytes: impl Into<Bytes>, held: H) -> Self {
        Self {
            bytes: bytes.into(),
            _held: held,
        }
    }
}

impl<H: Unpin> MessageBody for Answer<H> {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(self.bytes.split_to(piece))))
    }
}
