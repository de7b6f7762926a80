//! Whether a target, or a credential, is to be left alone for a while, and how it comes back.
//!
//! Closed: all calls. Open: none, as far as there are others. Half-open, when its time is over: one call, and what comes
//! of it decides. After that a slow start. Atomics only: every call reads it, every attempt writes it, nobody waits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When failing becomes cooling.
#[derive(Clone, Copy, Debug)]
pub struct Cooling {
    /// Failures in a row.
    pub failures: u32,
    /// How long, where the provider does not say. Doubles while the probe after it fails.
    pub pause: Duration,
}

/// Longest cooling, stated or not: an absurd `Retry-After` must not bench a target for a day.
const LONGEST: Duration = Duration::from_secs(300);
/// Doublings of the pause.
const DOUBLINGS: u32 = 4;
/// How long a probe may be under way until another one is let through, in microseconds: its call may never tell.
const PROBE: u64 = 60_000_000;
/// How long a target takes to be trusted as before, in microseconds.
const SLOW_START: u64 = 10_000_000;
/// The share of its calls that it begins with.
const FIRST_SHARE: f32 = 0.1;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Closed,
    /// One call, by [`Breaker::claim`].
    HalfOpen,
    /// Nothing until that moment; `stated`: the provider itself has asked for it.
    Open {
        until: u64,
        stated: bool,
    },
}

/// All moments in monotonic microseconds; 0 is "never".
#[derive(Debug, Default)]
pub struct Breaker {
    /// In a row.
    failures: AtomicU32,
    /// Times that it opened in a row.
    opened: AtomicU32,
    /// Set from the opening until a success.
    until: AtomicU64,
    stated: AtomicU64,
    /// When the probe began that is under way.
    probe: AtomicU64,
    /// When it closed again.
    closed: AtomicU64,
}

impl Breaker {
    pub fn gate(&self, now: u64) -> Gate {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return Gate::Closed;
        }
        if until > now {
            return Gate::Open { until, stated: self.stated.load(Relaxed) >= until };
        }
        let probe = self.probe.load(Relaxed);
        let over = probe.saturating_add(PROBE);
        if probe != 0 && over > now { Gate::Open { until: over, stated: false } } else { Gate::HalfOpen }
    }

    /// Takes the one call that a half-open breaker lets through; `false` where another was quicker.
    pub fn claim(&self, now: u64) -> bool {
        let probe = self.probe.load(Relaxed);
        (probe == 0 || probe.saturating_add(PROBE) <= now)
            && self.probe.compare_exchange(probe, now.max(1), Relaxed, Relaxed).is_ok()
    }

    /// Ends its rest: the next call is the one that is let through.
    pub fn half_open(&self, now: u64) {
        let until = self.until.load(Relaxed);
        if until > now {
            // Fails only where something newer was told of it.
            let _ = self.until.compare_exchange(until, now.max(1), Relaxed, Relaxed);
        }
    }

    /// The claimed call has ended without saying anything of the target.
    pub fn release(&self) {
        self.probe.store(0, Relaxed);
    }

    /// An attempt worked. Says whether that ended a cooling.
    pub fn succeeded(&self, now: u64) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.until.load(Relaxed) == 0 || self.until.swap(0, Relaxed) == 0 {
            return false;
        }
        self.opened.store(0, Relaxed);
        self.probe.store(0, Relaxed);
        self.closed.store(now.max(1), Relaxed);
        true
    }

    /// An attempt failed. Says for how long it is left alone now, if this failure brought that: at once when the provider
    /// named a time or the probe failed, else after some failures in a row.
    pub fn failed(&self, now: u64, rule: Cooling, retry_after: Option<Duration>) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let before = self.until.load(Relaxed);
        let probed = before != 0 && before <= now;
        if before > now && retry_after.is_none() {
            return None;
        }
        let pause = match retry_after {
            Some(stated) => stated.min(LONGEST),
            None if probed || failures >= rule.failures.max(1) => {
                let doubled = rule.pause.saturating_mul(1 << self.opened.load(Relaxed).min(DOUBLINGS));
                doubled.min(LONGEST.max(rule.pause))
            }
            None => return None,
        };
        let until = now.saturating_add(micros(pause)).max(1);
        self.probe.store(0, Relaxed);
        if retry_after.is_some() {
            self.stated.fetch_max(until, Relaxed);
        }
        let before = self.until.fetch_max(until, Relaxed);
        if before > now {
            return None;
        }
        self.opened.fetch_add(1, Relaxed);
        Some(pause)
    }

    /// The share of its calls that it should get, from a tenth after a cooling to all of them.
    pub fn ramp(&self, now: u64) -> f32 {
        match self.closed.load(Relaxed) {
            0 => 1.0,
            closed => match now.saturating_sub(closed) {
                since if since >= SLOW_START => 1.0,
                since => FIRST_SHARE.max(since as f32 / SLOW_START as f32),
            },
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Cooling = Cooling { failures: 3, pause: Duration::from_secs(10) };
    const SECOND: u64 = 1_000_000;

    #[test]
    fn opens_after_failures_in_a_row_and_no_sooner() {
        let breaker = Breaker::default();
        assert_eq!(breaker.failed(1, RULE, None), None);
        assert_eq!(breaker.failed(1, RULE, None), None);
        assert!(!breaker.succeeded(1));
        assert_eq!(breaker.failed(1, RULE, None), None);
        assert_eq!(breaker.failed(1, RULE, None), None);
        assert_eq!(breaker.gate(2), Gate::Closed);
        assert_eq!(breaker.failed(5, RULE, None), Some(RULE.pause));
        assert_eq!(breaker.failed(5, RULE, None), None, "open already");
        assert_eq!(breaker.gate(6), Gate::Open { until: 10 * SECOND + 5, stated: false });
    }

    #[test]
    fn half_open_lets_one_through_and_believes_it() {
        let breaker = Breaker::default();
        let rule = Cooling { failures: 1, ..RULE };
        breaker.failed(1, rule, None);
        let now = 11 * SECOND;
        assert_eq!(breaker.gate(now), Gate::HalfOpen);
        assert!(breaker.claim(now) && !breaker.claim(now));
        assert!(matches!(breaker.gate(now), Gate::Open { stated: false, .. }));
        // It fails: twice the pause. It ends without a word: the next one may.
        assert_eq!(breaker.failed(now, RULE, None), Some(2 * RULE.pause));
        assert!(matches!(breaker.gate(now + 19 * SECOND), Gate::Open { .. }));
        let now = now + 21 * SECOND;
        assert!(breaker.claim(now));
        breaker.release();
        assert!(breaker.claim(now));
        // Nobody heard of it again: the next one may after a minute.
        assert!(breaker.claim(now + 61 * SECOND));
        assert!(breaker.succeeded(now + 62 * SECOND) && !breaker.succeeded(now + 62 * SECOND));
        assert_eq!(breaker.gate(now + 62 * SECOND), Gate::Closed);
        assert_eq!(breaker.ramp(now + 62 * SECOND), 0.1);
        assert_eq!(breaker.ramp(now + 67 * SECOND), 0.5);
        assert_eq!(breaker.ramp(now + 80 * SECOND), 1.0);
        assert_eq!(Breaker::default().ramp(5), 1.0);
    }

    #[test]
    fn a_stated_time_counts_at_once_but_not_for_a_day() {
        let breaker = Breaker::default();
        assert_eq!(breaker.failed(0, RULE, Some(Duration::from_secs(2))), Some(Duration::from_secs(2)));
        assert_eq!(breaker.gate(1), Gate::Open { until: 2 * SECOND, stated: true });
        assert_eq!(breaker.failed(0, RULE, Some(Duration::from_secs(86_400))), None, "open already");
        assert_eq!(breaker.gate(1), Gate::Open { until: 300 * SECOND, stated: true });
    }
}
