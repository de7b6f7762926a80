//! Whether a call that is late is made a second time, at another target: when, and how much of that there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Vitals;
use crate::policy::price::Nano;
use crate::policy::ration::{Bounds, Ration, Taken};

/// What one hedge takes of the allowance.
const WHOLE: u64 = 1_000_000;
/// Hedges that can be saved up: a provider that turns slow is met with some at once.
const SAVED: u64 = 10 * WHOLE;

/// What the operator wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How late is late; `None`: later than 95 of 100 answers of the target, once that is known.
    pub delay: Option<Duration>,
    /// Never sooner than that.
    pub floor: Duration,
    /// The part of calls that may be hedged, in millionths.
    pub share: u64,
    /// An hour.
    pub bounds: Bounds,
    /// The model's fallbacks may answer too.
    pub fallback: bool,
}

impl Hedge {
    /// How long a target may take until another is asked; nothing where that is not known.
    pub fn delay(&self, vitals: &Vitals, stream: bool) -> Option<Duration> {
        let usual = || if stream { vitals.first_p95() } else { vitals.total_p95() };
        Some(self.delay.or_else(|| usual().map(Duration::from_micros))?.max(self.floor))
    }
}

/// How much there was of it. Outlives snapshots.
#[derive(Debug)]
pub struct Hedges {
    allowance: AtomicU64,
    ration: Arc<Ration>,
}

impl Default for Hedges {
    /// With one to begin with, so that a model that is seldom called is hedged too.
    fn default() -> Self {
        Hedges { allowance: AtomicU64::new(WHOLE), ration: Arc::default() }
    }
}

impl Hedges {
    /// A call begins, and adds its part to the allowance.
    pub fn earn(&self, rules: &Hedge) {
        let add = |allowance: u64| Some(allowance.saturating_add(rules.share).min(SAVED));
        // Never fails: it always adds something.
        let _ = self.allowance.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes one that costs at most so much; nothing where that would be too much.
    pub fn take(&self, rules: &Hedge, unix_ms: u64, reserve: Nano) -> Option<Taken> {
        self.allowance.fetch_update(Relaxed, Relaxed, |allowance| allowance.checked_sub(WHOLE)).ok()?;
        let taken = Taken::of(&self.ration, &rules.bounds, unix_ms, reserve);
        if taken.is_none() {
            // What it would have cost is too much; that it was one of so many is not.
            self.allowance.fetch_add(WHOLE, Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::Answered;

    fn rules(share: u64, nano: Option<Nano>) -> Hedge {
        let bounds = Bounds { window: Duration::from_secs(3_600), calls: None, nano };
        Hedge { delay: None, floor: Duration::from_millis(200), share, bounds, fallback: false }
    }

    #[test]
    fn late_is_what_is_later_than_usual() {
        let (vitals, rule) = (Vitals::default(), rules(50_000, None));
        assert_eq!(rule.delay(&vitals, true), None, "nobody knows yet");
        for _ in 0..100 {
            vitals.succeeded(1, &Answered { first_us: 900_000, total_us: 4_000_000, ..Answered::default() });
        }
        let about = |delay: Option<Duration>, ms: u128| delay.is_some_and(|d| d.as_millis().abs_diff(ms) <= ms / 4);
        assert!(about(rule.delay(&vitals, true), 900), "{:?}", rule.delay(&vitals, true));
        assert!(about(rule.delay(&vitals, false), 4_000), "{:?}", rule.delay(&vitals, false));
        let fixed = Hedge { delay: Some(Duration::from_millis(50)), ..rule };
        assert_eq!(fixed.delay(&vitals, true), Some(fixed.floor), "but never at once");
    }

    #[test]
    fn of_many_calls_a_few_are_hedged() {
        let (hedges, rule) = (Hedges::default(), rules(50_000, None));
        let mut hedged = 0;
        for _ in 0..1_000 {
            hedges.earn(&rule);
            hedged += u32::from(hedges.take(&rule, 0, 1).is_some());
        }
        assert_eq!(hedged, 51, "one in twenty, and the first");
        for _ in 0..100_000 {
            hedges.earn(&rule);
        }
        let at_once = (0..100).filter(|_| hedges.take(&rule, 0, 1).is_some()).count();
        assert_eq!(at_once, 10);
    }

    #[test]
    fn an_hour_has_its_money() {
        let (hedges, rule) = (Hedges::default(), rules(WHOLE, Some(100)));
        let first = hedges.take(&rule, 0, 80).unwrap();
        hedges.earn(&rule);
        assert!(hedges.take(&rule, 0, 80).is_none());
        first.settle(10);
        assert!(hedges.take(&rule, 0, 80).is_some(), "it has cost less than feared");
    }
}
