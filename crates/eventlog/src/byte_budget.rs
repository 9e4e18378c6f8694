//! A bound on the bytes that are held at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bounds how many bytes may be held at one time. What is held has a [`BytePermit`], which gives its
/// bytes back when it is dropped.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
    released: Option<Arc<Notify>>,
}

/// The budget has not that many bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the byte budget is used up")]
pub struct BudgetExhausted;

impl ByteBudget {
    /// Creates a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Self::notifying(limit, None)
    }

    /// Creates a budget of `limit` bytes; `released` is notified whenever some come back.
    pub(crate) fn notifying(limit: usize, released: Option<Arc<Notify>>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            released,
        })
    }

    /// The bytes that are held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// The bytes that are left.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Whether at least half of it is left.
    pub(crate) fn half_free(&self) -> bool {
        self.used() <= self.limit / 2
    }

    /// As [`Self::acquire`], but a budget of which nothing is used gives any amount: what is larger
    /// than the limit would never get through. For one caller at a time.
    pub(crate) fn acquire_oversized(self: &Arc<Self>, bytes: usize) -> Option<BytePermit> {
        if self.used() != 0 {
            return self.acquire(bytes).ok();
        }
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Some(BytePermit {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// Takes `bytes`, which may be 0: a permit can grow later.
    ///
    /// # Errors
    /// So many bytes are not left; nothing was taken.
    pub fn acquire(self: &Arc<Self>, bytes: usize) -> Result<BytePermit, BudgetExhausted> {
        let mut permit = BytePermit {
            budget: Arc::clone(self),
            bytes: 0,
        };
        permit.resize(bytes)?;
        Ok(permit)
    }
}

/// A part of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct BytePermit {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl BytePermit {
    /// How many bytes it stands for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the permit to one of `bytes` in all.
    ///
    /// # Errors
    /// So many bytes are not left; the permit is as before.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetExhausted> {
        let ByteBudget { limit, used, .. } = &*self.budget;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            if used.fetch_add(more, Ordering::SeqCst) + more > *limit {
                used.fetch_sub(more, Ordering::SeqCst);
                return Err(BudgetExhausted);
            }
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::SeqCst);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::SeqCst);
        if let Some(released) = &self.budget.released {
            released.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_whole_or_not_at_all_and_come_back() {
        let budget = ByteBudget::new(10);
        let mut first = budget.acquire(4).expect("empty");
        assert!(budget.acquire(7).is_err());
        assert_eq!(first.resize(11), Err(BudgetExhausted));
        assert_eq!((first.bytes(), budget.used()), (4, 4));
        let second = budget.acquire(6).expect("exactly full");
        assert!(budget.acquire(1).is_err());
        first.resize(1).expect("smaller");
        assert_eq!(budget.used(), 7);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_larger_than_the_budget_passes_when_it_is_empty() {
        let budget = ByteBudget::new(10);
        let large = budget.acquire_oversized(100).expect("empty");
        assert!(budget.acquire_oversized(1).is_none());
        drop(large);
        assert_eq!(budget.used(), 0);
        let small = budget.acquire_oversized(4).expect("empty again");
        assert!(budget.acquire_oversized(7).is_none());
        let other = budget.acquire_oversized(6).expect("exactly full");
        assert!(!budget.half_free());
        assert_eq!(budget.free(), 0);
        drop((small, other));
        assert!(budget.half_free());
    }
}
