//! Whether a target (or one of a provider's credentials) is to be left alone for a while.
//!
//! Atomics only: every call reads it, every attempt writes it, nobody waits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When failing becomes cooling.
#[derive(Clone, Copy, Debug)]
pub struct Cooling {
    /// Failures in a row.
    pub failures: u32,
    /// How long, where the provider does not say.
    pub pause: Duration,
}

/// Longest cooling that a provider's `Retry-After` may cause: an absurd one must not bench a target for a day.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    /// Monotonic microseconds; 0 is "not cooling".
    cooling_until: AtomicU64,
}

impl Health {
    /// Until when it is left alone, if it is.
    pub fn cooling_until(&self, now: u64) -> Option<u64> {
        let until = self.cooling_until.load(Relaxed);
        (until > now).then_some(until)
    }

    /// An attempt worked. Says whether that ended a cooling.
    pub fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        self.cooling_until.load(Relaxed) != 0 && self.cooling_until.swap(0, Relaxed) != 0
    }

    /// An attempt failed. Says for how long it is left alone now, if this failure brought that: at once when the
    /// provider named a time, else after some failures in a row.
    pub fn failed(&self, now: u64, rule: Cooling, retry_after: Option<Duration>) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let pause = match retry_after {
            Some(stated) => stated.min(LONGEST),
            None if failures >= rule.failures.max(1) => rule.pause,
            None => return None,
        };
        let until = now.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        let before = self.cooling_until.fetch_max(until, Relaxed);
        (before <= now).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Cooling = Cooling { failures: 3, pause: Duration::from_secs(10) };

    #[test]
    fn cools_after_failures_in_a_row_and_no_sooner() {
        let health = Health::default();
        assert_eq!(health.failed(0, RULE, None), None);
        assert_eq!(health.failed(0, RULE, None), None);
        assert!(!health.succeeded());
        assert_eq!(health.failed(0, RULE, None), None);
        assert_eq!(health.failed(0, RULE, None), None);
        assert_eq!(health.failed(5, RULE, None), Some(RULE.pause));
        assert_eq!(health.cooling_until(6), Some(10_000_005));
        assert_eq!(health.cooling_until(10_000_005), None);
        assert!(health.succeeded());
        assert_eq!(health.cooling_until(6), None);
    }

    #[test]
    fn a_stated_time_counts_at_once_but_not_for_a_day() {
        let health = Health::default();
        assert_eq!(health.failed(0, RULE, Some(Duration::from_secs(2))), Some(Duration::from_secs(2)));
        assert_eq!(health.failed(0, RULE, Some(Duration::from_secs(86_400))), None, "cooling already");
        assert_eq!(health.cooling_until(1), Some(300_000_000));
    }
}
