//! NATS: its servers, and a publisher to a stream of JetStream.

mod publisher;
mod servers;

pub use publisher::{JetStream, StreamConfig};
pub use servers::{ServerAddr, options, servers};
