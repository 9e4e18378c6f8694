//! How much may be logged: a line for every event at a quiet time, not a flood under load.

use std::sync::{Mutex, PoisonError};

/// So many lines in each second.
#[derive(Debug)]
pub struct LogBudget {
    per_second: u32,
    /// The second, and the lines logged in it.
    used: Mutex<(i64, u32)>,
}

impl LogBudget {
    /// That many lines a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            used: Mutex::new((0, 0)),
        }
    }

    /// Whether one more line may be logged in that second (since the Unix epoch).
    pub fn take(&self, second: i64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.0 != second {
            *used = (second, 0);
        }
        let fits = used.1 < self.per_second;
        used.1 += u32::from(fits);
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::LogBudget;

    #[test]
    fn each_second_has_its_own() {
        let budget = LogBudget::new(2);
        let taken = [7, 7, 7, 8, 8, 8, 8].map(|second| budget.take(second));
        assert_eq!(taken, [true, true, false, true, true, false, false]);
        assert!(!LogBudget::new(0).take(1));
    }
}
