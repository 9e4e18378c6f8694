//! One round of reading: requests in one pipeline, and the replies.

use std::sync::Arc;

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::connection::{Connection, Server};
use super::value::{self, Range};
use crate::id::{Resume, StreamId};
use crate::resume::Kept;

/// A request to read a channel.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    pub(crate) key: Arc<str>,
    pub(crate) kind: ReadKind,
}

/// What to read.
#[derive(Debug)]
pub(crate) enum ReadKind {
    /// Where the channel ends.
    Head,
    /// What came after that id; with `newest`, where the channel ends too.
    New {
        after: StreamId,
        count: usize,
        newest: bool,
    },
    /// What a listener that resumes needs.
    History {
        listener: u64,
        after: StreamId,
        count: usize,
    },
    /// Nothing but the time: that listener begins now.
    Nothing { listener: u64, resume: Resume },
}

/// The reply to a [`ReadRequest`], by its kind.
#[derive(Debug)]
pub(crate) enum ReadReply {
    /// Where the channel ends; `None` if it does not exist.
    Head(Option<StreamId>),
    /// What is new, and what the channel keeps.
    New {
        range: Range,
        newest: Option<StreamId>,
        kept: Option<Kept>,
    },
    /// What comes after that id, and what the channel keeps.
    History { range: Range, kept: Option<Kept> },
    /// Nothing was requested.
    Nothing,
}

/// The replies to one pipeline.
#[derive(Debug)]
pub(crate) struct ReadReplies {
    /// The server's clock before everything else was read.
    pub(crate) now_ms: u64,
    /// The last gap.
    pub(crate) gap: Option<StreamId>,
    /// One for each request.
    pub(crate) replies: Vec<ReadReply>,
}

/// Sends all requests in one pipeline.
pub(crate) async fn read(
    server: &Server,
    connection: &mut Connection,
    requests: &[ReadRequest],
) -> Result<ReadReplies, RedisError> {
    let mut pipeline = Pipeline::with_capacity(requests.len() + 2);
    pipeline.cmd("TIME");
    pipeline.add_command(last_of(&server.keys.gaps));
    for ReadRequest { key, kind } in requests {
        match *kind {
            ReadKind::Head => {
                pipeline.add_command(last_of(key));
            }
            ReadKind::New {
                after,
                count,
                newest,
            } => {
                after_and_kept(&mut pipeline, key, after, count);
                if newest {
                    pipeline.add_command(last_of(key));
                }
            }
            ReadKind::History { after, count, .. } => {
                after_and_kept(&mut pipeline, key, after, count);
            }
            ReadKind::Nothing { .. } => {}
        }
    }
    let count = pipeline.len();
    let redis = &mut connection.redis;
    let replies = redis.req_packed_commands(&pipeline, 0, count).await?;
    parse(replies, requests)
}

/// Reads what comes after that id: with the message itself, to see that it is there; and before what is
/// kept, so that what is trimmed in between is not taken for complete.
fn after_and_kept(pipeline: &mut Pipeline, key: &str, after: StreamId, count: usize) {
    let from = if after.is_place_in_time() {
        format!("({after}")
    } else {
        after.to_string()
    };
    pipeline.add_command(range(key, &from, count + 1));
    pipeline.cmd("XINFO").arg("STREAM").arg(key);
}

fn last_of(key: &str) -> Cmd {
    let mut cmd = redis::cmd("XREVRANGE");
    cmd.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    cmd
}

fn range(key: &str, from: &str, count: usize) -> Cmd {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(key).arg(from).arg("+").arg("COUNT").arg(count);
    cmd
}

fn range_and_kept(
    mut next: impl FnMut() -> Result<Value, RedisError>,
    after: StreamId,
    count: usize,
) -> Result<(Range, Option<Kept>), RedisError> {
    let mut range = value::range(next()?, count + 1)?;
    let has = range.first == Some(after);
    range.entries.retain(|entry| entry.id > after);
    range.last = range.last.filter(|last| *last > after);
    let kept = value::kept(next()?, has)?;
    Ok((range, kept))
}

fn parse(replies: Vec<Value>, requests: &[ReadRequest]) -> Result<ReadReplies, RedisError> {
    let mut values = replies.into_iter();
    let mut next = || values.next().ok_or_else(|| value::unexpected("replies"));
    let now_ms = value::time_ms(next()?)?;
    let gap = value::range(next()?, 1)?.last;
    let mut replies = Vec::with_capacity(requests.len());
    for request in requests {
        replies.push(match request.kind {
            ReadKind::Head => ReadReply::Head(value::range(next()?, 1)?.last),
            ReadKind::New {
                after,
                count,
                newest,
            } => {
                let (range, kept) = range_and_kept(&mut next, after, count)?;
                let newest = if newest {
                    value::range(next()?, 1)?.last
                } else {
                    None
                };
                ReadReply::New {
                    range,
                    newest,
                    kept,
                }
            }
            ReadKind::History { after, count, .. } => {
                let (range, kept) = range_and_kept(&mut next, after, count)?;
                ReadReply::History { range, kept }
            }
            ReadKind::Nothing { .. } => ReadReply::Nothing,
        });
    }
    Ok(ReadReplies {
        now_ms,
        gap,
        replies,
    })
}
