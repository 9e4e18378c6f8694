//! The private PostgreSQL of `tidegate dev`: found or fetched, made once, started, stopped.

mod binaries;
mod cluster;
mod directory;
mod explain;
mod fetch;
mod initdb;
mod private_cluster;
mod search;
mod stale_server;
mod user;

pub(crate) use cluster::Cluster;
pub(crate) use directory::write_secret;
pub(crate) use private_cluster::PrivateCluster;
