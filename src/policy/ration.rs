//! What may be spent on something in a window of time, in calls and in money: for what the gateway does of its own accord.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::price::Nano;

/// Bounds that the operator wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Windows follow one another from the beginning of Unix time, so that a day is a day in UTC.
    pub window: Duration,
    pub calls: Option<u64>,
    pub nano: Option<Nano>,
}

/// The state of one ration.
#[derive(Debug, Default)]
pub struct Ration(Mutex<Spent>);

/// One call's part of a ration, until it is known what it cost; counted in full where that is never told.
#[derive(Debug)]
pub struct Taken {
    ration: Arc<Ration>,
    bounds: Bounds,
    at: u64,
    reserve: Nano,
}

impl Taken {
    /// Takes a call that costs at most so much; nothing where that would be too much.
    pub fn of(ration: &Arc<Ration>, bounds: &Bounds, unix_ms: u64, reserve: Nano) -> Option<Taken> {
        let taken = || Taken { ration: Arc::clone(ration), bounds: *bounds, at: unix_ms, reserve };
        ration.take(bounds, unix_ms, reserve).then(taken)
    }

    /// The call is over, and has cost so much.
    pub fn settle(self, cost: Nano) {
        self.ration.settle(&self.bounds, self.at, self.reserve, cost);
    }
}

/// What was spent of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    window: u64,
    pub calls: u64,
    pub nano: Nano,
}

impl Ration {
    /// Takes a call that costs at most so much; `false` where that would be too much.
    pub fn take(&self, bounds: &Bounds, unix_ms: u64, reserve: Nano) -> bool {
        let mut spent = self.at(bounds, unix_ms);
        let calls = spent.calls.saturating_add(1);
        let nano = spent.nano.saturating_add(reserve);
        if bounds.calls.is_some_and(|most| calls > most) || bounds.nano.is_some_and(|most| nano > most) {
            return false;
        }
        (spent.calls, spent.nano) = (calls, nano);
        true
    }

    /// The call that was taken at that time cost so much in truth.
    fn settle(&self, bounds: &Bounds, taken_ms: u64, reserve: Nano, cost: Nano) {
        let mut spent = self.lock();
        // What a window that is over has cost is nobody's affair any more.
        if spent.window == window(bounds, taken_ms) {
            spent.nano = spent.nano.saturating_sub(reserve).saturating_add(cost);
        }
    }

    /// What was spent of the window so far.
    pub fn spent(&self, bounds: &Bounds, unix_ms: u64) -> Spent {
        *self.at(bounds, unix_ms)
    }

    fn at(&self, bounds: &Bounds, unix_ms: u64) -> MutexGuard<'_, Spent> {
        let window = window(bounds, unix_ms);
        let mut spent = self.lock();
        if spent.window != window {
            *spent = Spent { window, ..Spent::default() };
        }
        spent
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn window(bounds: &Bounds, unix_ms: u64) -> u64 {
    let length = u64::try_from(bounds.window.as_millis()).unwrap_or(u64::MAX).max(1);
    // From 1, so that the state of a new ration is of no window.
    unix_ms / length + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn bounds(calls: Option<u64>, nano: Option<Nano>) -> Bounds {
        Bounds { window: Duration::from_secs(3_600), calls, nano }
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let (ration, calls) = (Ration::default(), bounds(Some(2), None));
        assert!(ration.take(&calls, 5, 0) && ration.take(&calls, HOUR - 1, 0));
        assert!(!ration.take(&calls, HOUR - 1, 0));
        assert_eq!(ration.spent(&calls, HOUR - 1).calls, 2);
        assert!(ration.take(&calls, HOUR, 0), "a new hour");

        let (ration, money) = (Ration::default(), bounds(None, Some(100)));
        assert!(ration.take(&money, 1, 90));
        assert!(!ration.take(&money, 1, 11));
        ration.settle(&money, 1, 90, 20);
        assert!(ration.take(&money, 1, 80));
        assert!(!ration.take(&money, 1, 1));
        ration.settle(&money, HOUR + 1, 80, 0);
        assert_eq!(ration.spent(&money, 1).nano, 100, "that was taken in another hour");
        assert!(!ration.take(&bounds(None, Some(Nano::MAX - 1)), 1, Nano::MAX));
    }
}
