//! One verb each.

pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod migrate;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tail;

/// The first lines of `--help`.
pub(crate) const ABOUT: &str = "\
Tidegate keeps every event exactly once, counts it, and pushes it live.

`tidegate dev` needs nothing else on the machine; `tidegate serve` runs on your PostgreSQL, and on \
Kafka and Redis where you have them.";

/// The last lines of `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate dev                          everything, in one process, on a database of its own
  tidegate send events.jsonl            send a file of events, one JSON object a line
  tidegate tail                         watch them arrive
  tidegate tail --user u-1 --type 'order.*'
  tidegate status                       is all well?
  DATABASE_URL=postgresql://… tidegate serve

`tidegate VERB --help` says more about a verb.";
