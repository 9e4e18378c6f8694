//! Subscriptions: who is sent which events (S4-42 to S4-47).

pub mod body;
pub mod changes;
pub mod deliveries;
pub mod reads;
pub mod trials;
pub mod view;
