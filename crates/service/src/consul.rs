//! Consul: this process is in its catalogue while it serves ([`registration`]), and what the
//! environment does not name is looked for there at the start ([`environment`]).

mod agent;
pub mod config;
mod discovery;
pub(crate) mod registration;

pub(crate) use discovery::services;
pub use discovery::{Part, environment};
