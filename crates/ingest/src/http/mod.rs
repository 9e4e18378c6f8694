//! The routes, one family each: extract, call, answer.

pub mod answer;
pub mod batch;
pub mod browser_client;
pub(crate) mod cloudevent;
pub mod events;
pub mod frontend;
mod refusal;
pub(crate) mod request;
pub mod route;
pub mod schema;
pub mod segment;
pub(crate) mod wait;
