//! How many attempts beyond the first ones a model's calls may cost, so that trouble is not made worse by trying again.
//!
//! Each call earns a part of an attempt, each further attempt takes a whole one. What is not taken is kept up to a bound,
//! and time pays a small floor where calls are too few to earn one: who calls once a minute can always go on to the next
//! target. Under a lasting outage the attempts of a busy model settle at `1 + ratio` a call.
//!
//! The floor is paid by a clock that runs behind: each call moves it forward by the time in which the floor pays as much as
//! the call has earned, and only where it falls behind the real one is there anything to pay. So the two never add up.
//! Atomics only: every call writes it, nobody waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Thousandths of an attempt in one.
const WHOLE: u64 = 1_000;
/// How far calls can pay the floor ahead, in microseconds: after a burst of them it is paid again before long.
const AHEAD: u64 = 10_000_000;
const MINUTE: u64 = 60_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Thousandths of an attempt that each call earns.
    pub ratio: u64,
    /// Attempts a minute where calls are too few to earn as many.
    pub per_minute: u64,
    /// Attempts that are kept at most, and that there are at the start.
    pub burst: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { ratio: 100, per_minute: 6, burst: 10 }
    }
}

impl Rules {
    /// For all models together: the same part of the calls, with room for ten models that are hardly called.
    #[must_use]
    pub fn overall(self) -> Rules {
        Rules { per_minute: self.per_minute.saturating_mul(10), burst: self.burst.saturating_mul(10), ..self }
    }
}

/// What is left for further attempts.
#[derive(Debug, Default)]
pub struct Budget {
    /// Thousandths that were taken and not earned back.
    taken: AtomicU64,
    /// Up to when the floor is paid, in monotonic microseconds.
    paid: AtomicU64,
}

impl Budget {
    /// A call begins.
    pub fn earn(&self, rules: &Rules, now: u64) {
        let mut earned = rules.ratio;
        let own = rules.ratio.saturating_mul(MINUTE / WHOLE).checked_div(rules.per_minute);
        if let Some(own) = own {
            let mut owed = 0;
            let _ = self.paid.fetch_update(Relaxed, Relaxed, |paid| {
                let paid = paid.saturating_add(own);
                owed = now.saturating_sub(paid).saturating_mul(rules.per_minute) / (MINUTE / WHOLE);
                // What is too little to be paid yet is not forgotten.
                let until = paid.saturating_add(owed.saturating_mul(MINUTE / WHOLE) / rules.per_minute);
                Some(until.min(now.saturating_add(AHEAD)))
            });
            earned = earned.saturating_add(owed);
        }
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| match taken {
            0 => None,
            taken => Some(taken.saturating_sub(earned)),
        });
    }

    /// Takes a further attempt, if there is one to take.
    pub fn spend(&self, rules: &Rules) -> bool {
        let most = rules.burst.saturating_mul(WHOLE);
        let take = |taken: u64| taken.checked_add(WHOLE).filter(|taken| *taken <= most);
        self.taken.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Takes a further attempt that is made in any case: there is less for others.
    pub fn charge(&self, rules: &Rules) {
        let most = rules.burst.saturating_mul(WHOLE);
        let take = |taken: u64| Some(taken.saturating_add(WHOLE).min(most.max(taken)));
        let _ = self.taken.fetch_update(Relaxed, Relaxed, take);
    }

    /// A taken attempt was not made.
    pub fn give_back(&self) {
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| Some(taken.saturating_sub(WHOLE)));
    }

    /// Whether there is a further attempt to take.
    pub fn has_one(&self, rules: &Rules) -> bool {
        self.taken.load(Relaxed).saturating_add(WHOLE) <= rules.burst.saturating_mul(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Attempts beyond the first ones of so many calls, each so long after the one before, that want `wish` of them each.
    fn further(rules: &Rules, calls: u64, gap: u64, wish: u64) -> u64 {
        let budget = Budget::default();
        let mut now = 5 * SECOND;
        let mut made = 0;
        for _ in 0..calls {
            now += gap;
            budget.earn(rules, now);
            made += (0..wish).filter(|_| budget.spend(rules)).count() as u64;
        }
        made
    }

    #[test]
    fn a_busy_models_outage_costs_a_tenth_more() {
        let rules = Rules::default();
        for rate in [2, 5, 50, 1_000] {
            let made = further(&rules, 10_000, SECOND / rate, 5);
            assert!(made <= 1_000 + rules.burst, "{rate} a second: {made}");
            assert!(made >= 1_000, "{rate} a second: {made}");
        }
    }

    #[test]
    fn who_calls_once_a_minute_can_always_go_on() {
        assert_eq!(further(&Rules::default(), 1_000, 60 * SECOND, 5), 5_000);
        assert_eq!(further(&Rules::default(), 1_000, 10 * SECOND, 1), 1_000);
    }

    #[test]
    fn a_burst_of_calls_does_not_starve_what_comes_after_it() {
        let rules = Rules::default();
        let budget = Budget::default();
        for _ in 0..100_000 {
            budget.earn(&rules, SECOND);
        }
        while budget.spend(&rules) {}
        budget.earn(&rules, 60 * SECOND);
        assert!((0..4).all(|_| budget.spend(&rules)));
    }

    #[test]
    fn what_is_made_in_any_case_leaves_less() {
        let rules = Rules { burst: 2, ..Rules::default() };
        let budget = Budget::default();
        budget.charge(&rules);
        assert!(budget.has_one(&rules) && budget.spend(&rules));
        assert!(!budget.has_one(&rules) && !budget.spend(&rules));
        for _ in 0..100 {
            budget.charge(&rules);
        }
        budget.give_back();
        assert!(budget.spend(&rules), "no debt is kept for what was made in any case");
        assert!(!Budget::default().spend(&Rules { burst: 0, ..rules }));
    }

    proptest! {
        /// Never more than there was, was earned, and was owed by the floor.
        #[test]
        fn no_more_is_spent_than_earned(
            ratio in 0u64..2_000, per_minute in 0u64..100, burst in 0u64..20,
            calls in prop::collection::vec((0u64..20 * SECOND, 0u64..6, any::<bool>()), 1..200),
        ) {
            let rules = Rules { ratio, per_minute, burst };
            let budget = Budget::default();
            let (mut now, mut spent) = (0, 0u64);
            let begun = calls.first().map_or(0, |(gap, ..)| *gap);
            for (number, (gap, wish, forced)) in calls.iter().enumerate() {
                now += gap;
                budget.earn(&rules, now);
                for _ in 0..*wish {
                    if *forced {
                        budget.charge(&rules);
                    } else if budget.spend(&rules) {
                        spent += 1;
                    }
                }
                let owed = (now - begun) * per_minute / (MINUTE / WHOLE);
                let most = burst * WHOLE + (number as u64 + 1) * ratio + owed;
                prop_assert!(spent * WHOLE <= most, "{} of {}", spent * WHOLE, most);
            }
        }
    }
}
