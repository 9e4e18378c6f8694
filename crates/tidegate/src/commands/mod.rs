//! The commands, one module each.

pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod migrate;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod tail;

/// The description in `--help`.
pub(crate) const ABOUT: &str = "\
Tidegate keeps every event exactly once, counts it, and pushes it live.

`tidegate dev` needs nothing else on the machine; `tidegate serve` runs on your PostgreSQL, and on \
Kafka and Redis if you name them.";

/// The examples in `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate dev                          everything, in one process, on a database of its own
  tidegate send events.jsonl            send a file of events, one JSON object a line
  tidegate tail                         show events as they arrive
  tidegate tail --user u-1 --type 'order.*'
  tidegate stream order:7               show the history of an aggregate
  tidegate status                       show the state of a running instance
  DATABASE_URL=postgresql://… tidegate serve

`tidegate COMMAND --help` describes a command.";
