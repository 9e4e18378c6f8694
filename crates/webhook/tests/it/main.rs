//! Messages sent to real receivers, good ones and bad ones.

#[cfg(test)]
mod client;
