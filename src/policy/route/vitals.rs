//! How a target is: what it is doing, how quick and how reliable it has been of late.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::average::{Average, Sketch};
use super::breaker::Breaker;

/// Seconds in which an unused target's slowness fades to a third, so that it is tried again one day.
const FADING: f32 = 60.0;
/// What a call under way counts for, in seconds, at a target whose times nobody knows yet: the first call finds them out,
/// and not the first hundred.
const UNKNOWN: f32 = 0.1;

/// One target's state, shared by all models that have it, and by all snapshots.
#[derive(Debug, Default)]
pub struct Vitals {
    pub breaker: Breaker,
    in_flight: AtomicU32,
    /// Seconds.
    first: Average,
    /// Seconds.
    total: Average,
    /// 1 for what worked, 0 for what did not.
    success: Average,
    /// Part of the input that was read from the provider's cache, 0 to 1.
    cached: Average,
    firsts: Sketch,
    totals: Sketch,
}

/// What an answer that came through taught of its target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// To the first content, in microseconds; 0 where there was none apart from the rest.
    pub first_us: u64,
    /// To the end; 0 where nobody waited for it.
    pub total_us: u64,
    /// Tokens; 0 where they are not known.
    pub input: u64,
    pub output: u64,
    pub cached: u64,
}

impl Vitals {
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// An attempt worked. Says whether that ended a cooling.
    pub fn succeeded(&self, now: u64, answered: &Answered) -> bool {
        self.success.add(now, 1.0);
        if answered.first_us != 0 {
            self.first.add(now, answered.first_us as f32 / 1e6);
            self.firsts.add(answered.first_us);
        }
        if answered.total_us != 0 {
            self.total.add(now, answered.total_us as f32 / 1e6);
            self.totals.add(answered.total_us);
        }
        if answered.input != 0 {
            self.cached.add(now, answered.cached.min(answered.input) as f32 / answered.input as f32);
        }
        self.breaker.succeeded(now)
    }

    /// An attempt failed by the target's fault.
    pub fn failed(&self, now: u64) {
        self.success.add(now, 0.0);
    }

    /// It was left for another after so many microseconds without content: it takes at least so long.
    pub fn outpaced(&self, now: u64, stream: bool, waited_us: u64) {
        let (average, sketch) = if stream { (&self.first, &self.firsts) } else { (&self.total, &self.totals) };
        average.add(now, waited_us as f32 / 1e6);
        sketch.add(waited_us);
    }

    /// What its time counts as in a choice, in seconds: that of the first token for a stream, of the whole otherwise.
    pub fn latency(&self, stream: bool, now: u64) -> f32 {
        let average = if stream { &self.first } else { &self.total };
        match average.aged(now) {
            Some((seconds, age)) if age < 1.0 => seconds,
            Some((seconds, age)) => seconds * (-age / FADING).exp(),
            None => self.in_flight() as f32 * UNKNOWN,
        }
    }

    /// The part of its answers that came through, 0 to 1. Trust comes back with time, or it would never be asked again.
    pub fn success(&self, now: u64) -> f32 {
        match self.success.aged(now) {
            Some((share, age)) => 1.0 - (1.0 - share) * (-age / FADING).exp(),
            None => 1.0,
        }
    }

    /// The part of the input that is read from the provider's cache, 0 to 1.
    pub fn cached(&self) -> f32 {
        self.cached.get().unwrap_or(0.0)
    }

    /// Seconds since an attempt has told anything of it; nothing where none ever has.
    pub fn quiet(&self, now: u64) -> Option<f32> {
        self.success.aged(now).map(|(_, age)| age)
    }

    /// Mean times in seconds, as measured.
    pub fn times(&self) -> (Option<f32>, Option<f32>) {
        (self.first.get(), self.total.get())
    }

    /// Microseconds to the first token that 95 of 100 answers do not exceed.
    pub fn first_p95(&self) -> Option<u64> {
        self.firsts.p95()
    }

    /// The same for whole answers, to their end.
    pub fn total_p95(&self) -> Option<u64> {
        self.totals.p95()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn slowness_and_failures_fade_while_nobody_asks() {
        let vitals = Vitals::default();
        assert_eq!((vitals.latency(true, 1), vitals.success(1)), (0.0, 1.0));
        vitals.begin();
        assert_eq!(vitals.latency(true, 1), 0.1);
        vitals.end();
        let answered = Answered { first_us: 2 * SECOND, total_us: 8 * SECOND, input: 10, output: 5, cached: 4 };
        assert!(!vitals.succeeded(SECOND, &answered));
        assert_eq!((vitals.latency(true, SECOND), vitals.latency(false, SECOND)), (2.0, 8.0));
        assert_eq!(vitals.cached(), 0.4);
        assert!(vitals.latency(true, 121 * SECOND) < 0.3);
        for _ in 0..100 {
            vitals.failed(SECOND);
        }
        assert!(vitals.success(SECOND) < 0.1);
        assert!(vitals.success(300 * SECOND) > 0.9);
    }
}
