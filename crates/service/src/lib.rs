//! What every service needs: common settings, logs, metrics, probes, the mapping from errors to HTTP,
//! and the start and stop of a process.

mod admin_port;
pub mod answer;
mod around;
pub mod auth;
pub mod clock;
pub mod config;
pub mod connection;
pub mod consul;
pub mod cors;
pub mod declare;
pub mod event_response;
pub mod health;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod personal_data;
pub mod problem;
mod process;
pub mod request_id;
pub mod shutdown;
pub mod telemetry;

pub use event_response::EventResponse;
pub use problem::Problem;
pub use process::{main, print_settings, report_environment};
