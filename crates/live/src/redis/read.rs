//! One round of reading: what is asked of Redis in one pipeline, and what came back.

use std::sync::Arc;

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::connection::{Link, Server};
use super::value::{self, Range};
use crate::id::{Resume, StreamId};
use crate::resume::Kept;

/// Something to be known of a channel.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) key: Arc<str>,
    pub(crate) what: What,
}

/// What is to be known.
#[derive(Debug)]
pub(crate) enum What {
    /// Where the channel ends.
    Head,
    /// What came after that place; with `newest`, where the channel ends too.
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

/// The answer to an [`Ask`].
#[derive(Debug)]
pub(crate) enum Answer {
    /// Where the channel ends; `None` if it is not there.
    Head(Option<StreamId>),
    /// What is new.
    New {
        range: Range,
        newest: Option<StreamId>,
    },
    /// What comes after that place, and what is kept of the channel.
    History { range: Range, kept: Option<Kept> },
    /// Nothing was asked.
    Nothing,
}

/// What one pipeline gave.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The server's clock before everything else was read.
    pub(crate) now_ms: u64,
    /// The last gap.
    pub(crate) gap: Option<StreamId>,
    /// One for each ask.
    pub(crate) answers: Vec<Answer>,
}

/// Asks it all in one pipeline.
pub(crate) async fn read(
    server: &Server,
    link: &mut Link,
    asks: &[Ask],
) -> Result<Answers, RedisError> {
    let mut pipeline = Pipeline::with_capacity(asks.len() + 2);
    pipeline.cmd("TIME");
    pipeline.add_command(last_of(&server.gaps));
    for ask in asks {
        match ask.what {
            What::Head => {
                pipeline.add_command(last_of(&ask.key));
            }
            What::New {
                after,
                count,
                newest,
            } => {
                pipeline.add_command(range(&ask.key, &format!("({after}"), count));
                if newest {
                    pipeline.add_command(last_of(&ask.key));
                }
            }
            What::History { after, count, .. } => {
                // With the message itself, to see that it is there; and before what is kept, so
                // that what is trimmed in between is not taken for complete.
                let from = if after.is_place_in_time() {
                    format!("({after}")
                } else {
                    after.to_string()
                };
                pipeline.add_command(range(&ask.key, &from, count + 1));
                pipeline.cmd("XINFO").arg("STREAM").arg(&*ask.key);
            }
            What::Nothing { .. } => {}
        }
    }
    let count = pipeline.len();
    let connection = &mut link.connection;
    let replies = connection.req_packed_commands(&pipeline, 0, count).await?;
    parse(replies, asks)
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

fn parse(replies: Vec<Value>, asks: &[Ask]) -> Result<Answers, RedisError> {
    let mut replies = replies.into_iter();
    let mut next = || replies.next().ok_or_else(|| value::unexpected("replies"));
    let now_ms = value::time_ms(next()?)?;
    let gap = value::range(next()?)?.last;
    let mut answers = Vec::with_capacity(asks.len());
    for ask in asks {
        answers.push(match ask.what {
            What::Head => Answer::Head(value::range(next()?)?.last),
            What::New { newest, .. } => Answer::New {
                range: value::range(next()?)?,
                newest: if newest {
                    value::range(next()?)?.last
                } else {
                    None
                },
            },
            What::History { after, .. } => {
                let mut range = value::range(next()?)?;
                let has = range.first == Some(after);
                range.entries.retain(|entry| entry.id > after);
                let kept = value::kept(next()?, has)?;
                Answer::History { range, kept }
            }
            What::Nothing { .. } => Answer::Nothing,
        });
    }
    Ok(Answers {
        now_ms,
        gap,
        answers,
    })
}
