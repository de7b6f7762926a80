//! Asking a target whether it is well, without waiting for a call to find out: when, by what, and how often at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::vitals::Vitals;
use super::{Breaker, Gate};
use crate::policy::Moment;
use crate::policy::price::Nano;
use crate::policy::ration::{Bounds, Ration, Spent, Taken};

/// What is asked, when and how often, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub ask: Question,
    pub interval: Duration,
    /// For one answer, connection included.
    pub timeout: Duration,
    pub when: When,
    /// A day.
    pub bounds: Bounds,
}

/// What a target is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The provider's list of models.
    Models,
    /// A path of the provider, from the root of its node.
    Path(String),
    /// For an answer of so many tokens. The only one that says anything of the model itself.
    Completion { tokens: u32 },
}

impl Question {
    pub fn name(&self) -> &'static str {
        match self {
            Question::Models => "models",
            Question::Path(_) => "path",
            Question::Completion { .. } => "completion",
        }
    }
}

/// In what state a target is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// No call has told anything of it for an interval, whether it rests or not.
    #[default]
    Idle,
    /// It is left alone after failures.
    Resting,
    Always,
}

impl Heartbeat {
    /// Whether a target is to be asked now. One that has asked to be left alone is.
    pub fn wants(&self, vitals: &Vitals, now: u64) -> bool {
        let resting = match vitals.breaker.gate(now) {
            Gate::Open { stated: true, .. } => return false,
            Gate::Open { .. } | Gate::HalfOpen => true,
            Gate::Closed => false,
        };
        match self.when {
            When::Always => true,
            When::Resting => resting,
            When::Idle => {
                vitals.in_flight() == 0
                    && vitals.quiet(now).is_none_or(|seconds| seconds >= self.interval.as_secs_f32())
            }
        }
    }

    /// The interval with a tenth of it drawn at random, so that many targets are not asked at once.
    pub fn pause(&self, random: u64) -> Duration {
        let micros = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros - micros / 20 + random % (micros / 10 + 1))
    }
}

/// What is known from asking one target. Outlives snapshots.
#[derive(Debug, Default)]
pub struct Pulse {
    pub ration: Arc<Ration>,
    beats: Mutex<Beats>,
}

/// The answers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beats {
    /// Of the last one, in monotonic microseconds; 0: there was none.
    pub at: u64,
    /// Name of what was wrong with the last one; `None`: nothing.
    pub wrong: Option<&'static str>,
    /// Microseconds that it took.
    pub took_us: u64,
    pub good: u64,
    pub bad: u64,
}

impl Pulse {
    pub fn note(&self, now: Moment, took_us: u64, wrong: Option<&'static str>) {
        let mut beats = self.lock();
        let (good, bad) = if wrong.is_none() { (beats.good + 1, beats.bad) } else { (beats.good, beats.bad + 1) };
        *beats = Beats { at: now.mono, wrong, took_us, good, bad };
    }

    pub fn beats(&self) -> Beats {
        *self.lock()
    }

    /// What asking has cost today.
    pub fn today(&self, rules: &Heartbeat, now: Moment) -> Spent {
        self.ration.spent(&rules.bounds, now.unix_ms)
    }

    /// Takes one question that costs at most so much.
    pub fn take(&self, rules: &Heartbeat, now: Moment, reserve: Nano) -> Option<Taken> {
        Taken::of(&self.ration, &rules.bounds, now.unix_ms, reserve)
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something less than a call has worked: a target that rests is tried by one call now, and one that waits for such a
/// call is well. Says whether that ended a cooling.
pub fn relent(breaker: &Breaker, now: u64) -> bool {
    match breaker.gate(now) {
        Gate::HalfOpen => breaker.succeeded(now),
        Gate::Open { stated: false, .. } => {
            breaker.half_open(now);
            false
        }
        Gate::Open { .. } | Gate::Closed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::{Answered, Cooling};

    const SECOND: u64 = 1_000_000;
    const RULE: Cooling = Cooling { failures: 1, pause: Duration::from_secs(60) };

    fn heartbeat(when: When) -> Heartbeat {
        let bounds = Bounds { window: Duration::from_secs(86_400), calls: None, nano: None };
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
        Heartbeat { ask: Question::Models, interval, timeout, when, bounds }
    }

    #[test]
    fn a_target_is_asked_when_nobody_else_asks_it() {
        let vitals = Vitals::default();
        let [idle, resting, always] = [When::Idle, When::Resting, When::Always].map(heartbeat);
        assert!(idle.wants(&vitals, SECOND) && always.wants(&vitals, SECOND) && !resting.wants(&vitals, SECOND));
        vitals.succeeded(SECOND, &Answered::default());
        assert!(!idle.wants(&vitals, 6 * SECOND) && idle.wants(&vitals, 12 * SECOND));
        vitals.begin();
        assert!(!idle.wants(&vitals, 12 * SECOND), "a call is under way");
        vitals.end();
        vitals.breaker.failed(13 * SECOND, RULE, None);
        assert!(resting.wants(&vitals, 14 * SECOND) && resting.wants(&vitals, 100 * SECOND));
        vitals.breaker.failed(14 * SECOND, RULE, Some(Duration::from_secs(100)));
        let asked = [&idle, &resting, &always].map(|rule| rule.wants(&vitals, 100 * SECOND));
        assert_eq!(asked, [false; 3], "it has asked to be left alone");
    }

    #[test]
    fn a_question_answered_shortens_a_rest_and_then_ends_it() {
        let breaker = Breaker::default();
        breaker.failed(SECOND, RULE, None);
        assert!(!relent(&breaker, 2 * SECOND));
        assert_eq!(breaker.gate(2 * SECOND), Gate::HalfOpen);
        assert!(relent(&breaker, 3 * SECOND));
        assert_eq!(breaker.gate(3 * SECOND), Gate::Closed);
        assert!(breaker.ramp(3 * SECOND) < 0.2, "slowly");
        breaker.failed(4 * SECOND, RULE, Some(Duration::from_secs(9)));
        assert!(!relent(&breaker, 5 * SECOND));
        assert!(matches!(breaker.gate(5 * SECOND), Gate::Open { stated: true, .. }));
    }

    #[test]
    fn pauses_are_an_interval_within_a_twentieth() {
        for random in [0, 1, 77, u64::MAX] {
            let pause = heartbeat(When::Idle).pause(random);
            assert!((9_500..=10_500).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
