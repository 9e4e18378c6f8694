//! Bytes on their way to a client.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use actix_web::rt::net::TcpStream;
use bytes::{Buf as _, Bytes};

/// Bytes that are collected before they are written, about: fewer, larger writes.
const ENOUGH_BYTES: usize = 64 * 1024;

/// Pieces in one write, at most.
const MAX_PIECES: usize = 64;

/// What is still to be written to a connection: pieces that all connections share, so that a client
/// that does not read holds no copy of them.
#[derive(Debug, Default)]
pub struct Unsent {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Unsent {
    /// Whether everything was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether there is enough for a write.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.bytes >= ENOUGH_BYTES || self.pieces.len() >= MAX_PIECES
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing now; anything else is the end of the connection.
    pub fn try_write(&mut self, socket: &TcpStream) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        let count = self.pieces.len().min(MAX_PIECES);
        match socket.try_write_vectored(&slices[..count])? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => {
                self.advance(written);
                Ok(())
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        // An idle connection keeps no room.
        self.pieces = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_in_part_goes_on_where_it_stopped() {
        let mut unsent = Unsent::default();
        for piece in ["abc", "", "de", "f"] {
            unsent.push(piece.into());
        }
        let rest = |unsent: &Unsent| unsent.pieces.iter().flatten().copied().collect::<Vec<u8>>();
        for (written, left) in [(2, "cdef"), (1, "def"), (2, "f"), (1, "")] {
            unsent.advance(written);
            assert_eq!(rest(&unsent), left.as_bytes());
            assert_eq!(unsent.bytes, left.len());
        }
        assert!(unsent.is_empty());
    }

    #[test]
    fn many_small_pieces_are_enough_too() {
        let mut unsent = Unsent::default();
        for _ in 1..MAX_PIECES {
            unsent.push("x".into());
            assert!(!unsent.is_enough());
        }
        unsent.push("x".into());
        assert!(unsent.is_enough());
    }
}
