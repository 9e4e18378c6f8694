//! Sends events to the endpoints of others: which addresses may be reached ([`address`],
//! [`endpoint`]), how a message is signed ([`secret`]), and the client that sends one ([`client`]).
//!
//! Invariants, stated as absences: no connection to an address that was not checked, whatever the
//! name resolves to; no redirect followed; no answer read beyond its bound; no retry (that is the
//! caller's).

pub mod address;
pub mod client;
pub mod config;
pub mod endpoint;
pub mod secret;

pub use address::Networks;
pub use client::{Answer, Client, Message};
pub use config::WebhookConfig;
pub use endpoint::Endpoint;
pub use secret::Secret;
