//! Futures of the ports.

use std::pin::Pin;

/// A future as the ports return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
