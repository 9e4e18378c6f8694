//! Live streams as clients see them, with a real Redis.

mod contract;
mod ends;
mod limits;
mod outage;
mod publisher;
mod resume;
mod tls;
