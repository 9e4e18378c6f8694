//! Who is asking: each request's [`Principal`], and whether it may ([`Access`]).
//!
//! [`Authenticator`] makes the one out of the headers by AUTH_MODE ([`AuthConfig`]): an API key
//! ([`KeyRing`]), a JWT ([`jwt`]), a gateway's headers, or a ticket for a live stream ([`Tickets`]).
//! [`guard`] stands before every handler; [`crate::http::get`] and [`crate::http::post`] want its rule.

pub mod access;
pub mod api_key;
pub mod authenticator;
pub mod config;
pub mod credential;
pub mod gateway;
pub mod guard;
pub mod jwk_source;
pub mod jwt;
pub mod key_file;
pub mod key_ring;
mod known;
mod openssl_provider;
pub mod principal;
pub mod refusal;
pub mod ticket;

pub use access::Access;
pub use authenticator::Authenticator;
pub use config::AuthConfig;
pub use key_ring::KeyRing;
pub use principal::Principal;
pub use ticket::Tickets;
