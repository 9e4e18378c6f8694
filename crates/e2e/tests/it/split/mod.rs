//! What only the split shape promises: there is a Kafka or Redis
//! to lose, a replica, a bridge of its own.

mod gateway_memory;
mod genesis;
mod redis_down;
mod secure_kafka;
mod spill;
mod two_replicas;
