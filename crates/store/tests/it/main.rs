//! The store against a real PostgreSQL, named by `TEST_DATABASE_URL`.

mod database;
mod plan;
mod purposes;
mod reads;
