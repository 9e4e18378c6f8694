//! What only the split shape promises: there is a Kafka or Redis
//! to lose, a replica, a bridge of its own.

mod gateway_memory;
mod genesis;
mod redis_down;
mod spill;
mod two_replicas;
