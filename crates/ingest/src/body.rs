//! Reading and decompressing a body within bounds: nothing is held that was not reserved, and no
//! compressed body grows beyond the limit before it is refused.

use std::io::Read;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use actix_web::web::Payload;
use bytes::Bytes;
use eventlog::{BudgetExhausted, BytePermit};
use flate2::{Decompress, FlushDecompress, Status};
use futures_util::{StreamExt, poll};

/// Why there is no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the limit, compressed or decompressed (413).
    #[error("the body exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Compressed in a way that is not supported (415).
    #[error("Content-Encoding {0:?} is not supported; use gzip, deflate, br or zstd")]
    UnknownEncoding(String),
    /// Truncated or damaged (400).
    #[error("the body is not valid {0}")]
    Corrupt(&'static str),
    /// It did not come in time (408).
    #[error("the body did not arrive within {} seconds", .0.as_secs())]
    TooSlow(Duration),
    /// The connection broke, or its framing is wrong (400).
    #[error("the body ended early: {0}")]
    Broken(String),
    /// The budget is used up (503).
    #[error("too many requests are in flight")]
    Overloaded(#[from] BudgetExhausted),
}

impl BodyError {
    /// Bounded word for the metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::UnknownEncoding(_) => "unsupported_encoding",
            Self::Corrupt(_) => "corrupt_body",
            Self::TooSlow(_) => "timeout",
            Self::Broken(_) => "broken_body",
            Self::Overloaded(_) => "overloaded",
        }
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// `gzip`
    Gzip,
    /// `deflate`: zlib, or the raw stream that some clients send under this name.
    Deflate,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

impl Encoding {
    /// Reads `Content-Encoding`.
    ///
    /// # Errors
    /// An unknown one, or several at once.
    pub fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let Some(value) = headers.get(CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        let name = value.trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            _ => Err(BodyError::UnknownEncoding(name.chars().take(64).collect())),
        }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes, compressed and decompressed.
    pub max_bytes: usize,
    /// Longest time until all of it is there.
    pub timeout: Duration,
}

/// Reads a body whole and decompresses it. `permit` ends up holding its size.
///
/// # Errors
/// See [`BodyError`]; a declared length over the limit is refused before anything is read.
pub async fn read(
    headers: &HeaderMap,
    payload: Payload,
    bounds: Bounds,
    permit: &mut BytePermit,
) -> Result<Bytes, BodyError> {
    let encoding = Encoding::of(headers)?;
    let declared: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length| length > bounds.max_bytes) {
        return Err(BodyError::TooLarge {
            limit: bounds.max_bytes,
        });
    }
    let wire = {
        let wire = pin!(collect(payload, declared, bounds.max_bytes, permit));
        within(bounds.timeout, wire).await
    };
    let wire = wire.ok_or(BodyError::TooSlow(bounds.timeout))??;
    if encoding == Encoding::Identity {
        return Ok(wire);
    }
    // Nothing waits between the two: at most one body a worker thread is held at its worst size.
    permit.resize(wire.len() + bounds.max_bytes)?;
    let decompressed = decompress(encoding, &wire, bounds.max_bytes)?;
    permit.resize(decompressed.len())?;
    Ok(decompressed.into())
}

/// What comes within the time: most bodies come with their head, and no timer is made for them.
async fn within<F: Future>(limit: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
    match poll!(&mut future) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => Box::pin(tokio::time::timeout(limit, future)).await.ok(),
    }
}

async fn collect(
    mut payload: Payload,
    declared: Option<usize>,
    limit: usize,
    permit: &mut BytePermit,
) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut rest = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| BodyError::Broken(error.to_string()))?;
        let length = first.len().max(rest.len()) + chunk.len();
        if length > limit {
            return Err(BodyError::TooLarge { limit });
        }
        permit.resize(length)?;
        if length == chunk.len() {
            // Most bodies are one chunk, which needs no copy.
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve_exact(declared.unwrap_or(length).max(length));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&chunk);
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

/// Decompresses within `limit` bytes.
///
/// # Errors
/// [`BodyError::TooLarge`] as soon as the limit is passed, [`BodyError::Corrupt`].
pub fn decompress(encoding: Encoding, wire: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    match encoding {
        Encoding::Identity => Ok(wire.to_vec()),
        Encoding::Gzip => bounded(flate2::bufread::MultiGzDecoder::new(wire), limit, "gzip"),
        Encoding::Deflate => inflate(wire, limit),
        Encoding::Brotli => brotli(wire, limit),
        Encoding::Zstd => zstd(wire, limit),
    }
}

fn bounded(compressed: impl Read, limit: usize, name: &'static str) -> Result<Vec<u8>, BodyError> {
    let mut decompressed = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    compressed
        .take(most)
        .read_to_end(&mut decompressed)
        .map_err(|_| BodyError::Corrupt(name))?;
    if decompressed.len() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    Ok(decompressed)
}

/// `flate2`'s readers end quietly where a stream is cut; this looks for its end mark.
fn inflate(wire: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let zlib = match wire {
        [cmf, flags, ..] => cmf & 0x0F == 8 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0,
        _ => false,
    };
    let mut stream = Decompress::new(zlib);
    let mut decompressed = Vec::new();
    let mut buffer = [0; 8 * 1024];
    loop {
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let made = stream.total_out();
        let input = wire.get(taken..).unwrap_or_default();
        let status = stream
            .decompress(input, &mut buffer, FlushDecompress::None)
            .map_err(|_| BodyError::Corrupt("deflate"))?;
        let new = usize::try_from(stream.total_out() - made).unwrap_or(usize::MAX);
        if decompressed.len() + new > limit {
            return Err(BodyError::TooLarge { limit });
        }
        decompressed.extend_from_slice(buffer.get(..new).unwrap_or_default());
        let moved = usize::try_from(stream.total_in()).unwrap_or(usize::MAX) > taken || new > 0;
        match status {
            Status::StreamEnd => return Ok(decompressed),
            Status::Ok | Status::BufError if moved => {}
            Status::Ok | Status::BufError => return Err(BodyError::Corrupt("deflate")),
        }
    }
}

fn brotli(wire: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    // The extension for windows of up to 1 GiB is no part of `br` (RFC 7932, section 9.1).
    let large_window = wire.first().is_some_and(|first| first & 0x7F == 0x11);
    if large_window || wire.is_empty() {
        return Err(BodyError::Corrupt("br"));
    }
    bounded(brotli::Decompressor::new(wire, 4 * 1024), limit, "br")
}

/// In one step straight into the output, for then no window is allocated, whose size the sender
/// would choose.
fn zstd(wire: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    use zstd::zstd_safe;

    /// `ZSTD_error_dstSize_tooSmall`; error codes are returned as their negative.
    const NO_ROOM: usize = 70_usize.wrapping_neg();

    if wire.is_empty() {
        return Err(BodyError::Corrupt("zstd"));
    }
    // What the first frame says of its size, if it says anything; it may lie, and others may follow.
    let claimed =
        zstd_safe::get_frame_content_size(wire).map_err(|_| BodyError::Corrupt("zstd"))?;
    let claimed = claimed.map_or(limit, |size| usize::try_from(size).unwrap_or(usize::MAX));
    let mut decompressed = Vec::with_capacity(claimed.min(limit));
    let mut result = zstd_safe::decompress(&mut decompressed, wire);
    if result == Err(NO_ROOM) && claimed < limit {
        decompressed = Vec::with_capacity(limit);
        result = zstd_safe::decompress(&mut decompressed, wire);
    }
    match result {
        Ok(_) => Ok(decompressed),
        Err(NO_ROOM) => Err(BodyError::TooLarge { limit }),
        Err(_) => Err(BodyError::Corrupt("zstd")),
    }
}

#[cfg(test)]
mod tests;
