//! Live delivery of the one process: what the conformance suite of the channels does not show.

#[path = "../it/live/dedup.rs"]
mod dedup;
#[path = "../it/live/feed.rs"]
pub(crate) mod feed;
#[path = "../it/live/listener.rs"]
pub(crate) mod listener;
