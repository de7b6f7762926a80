//! What a provider lets one credential do: requests and tokens a minute, calls at once; from the configuration, and as
//! the provider itself says in its answers.
//!
//! A rate is a bucket that fills steadily and holds a minute's worth, as the providers' own do, written down as the one
//! moment at which it would be full again (ITU-T I.371, "virtual scheduling"). Atomics only.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Nanoseconds that a bucket takes to fill.
const MINUTE: u64 = 60_000_000_000;
/// Longest wait that a provider's word may cause, in microseconds.
const LONGEST: u64 = 300_000_000;

/// Bounds that the operator wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A minute.
    pub requests: Option<u64>,
    /// A minute, input and output.
    pub tokens: Option<u64>,
    /// Calls at once.
    pub concurrency: Option<u32>,
}

impl Limits {
    pub fn any(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some() || self.concurrency.is_some()
    }
}

/// What a provider said of one of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub limit: Option<u64>,
    pub remaining: u64,
    /// Until the limit is whole again.
    pub reset: Duration,
}

/// The state of one quota.
#[derive(Debug, Default)]
pub struct Quota {
    requests: Bucket,
    tokens: Bucket,
    said_requests: Window,
    said_tokens: Window,
    running: AtomicU32,
}

impl Quota {
    /// The moment from which a call of so many tokens may go, in monotonic microseconds: `None` is now; `u64::MAX` when one
    /// of those that run is over.
    pub fn room(&self, limits: &Limits, now: u64, tokens: u64) -> Option<u64> {
        let said = self.said_requests.wait(now, 1).max(self.said_tokens.wait(now, tokens));
        if !limits.any() {
            return (said != 0).then(|| now.saturating_add(said));
        }
        if limits.concurrency.is_some_and(|most| self.running.load(Relaxed) >= most) {
            return Some(u64::MAX);
        }
        let wait = |bucket: &Bucket, limit: Option<u64>, n| limit.map_or(0, |limit| bucket.wait(limit, now, n));
        let wait = said.max(wait(&self.requests, limits.requests, 1)).max(wait(&self.tokens, limits.tokens, tokens));
        (wait != 0).then(|| now.saturating_add(wait))
    }

    /// Takes the room that [`Quota::room`] found; `false` where the last place was taken meanwhile.
    pub fn take(&self, limits: &Limits, now: u64, tokens: u64) -> bool {
        if let Some(most) = limits.concurrency
            && self.running.fetch_update(Relaxed, Relaxed, |running| (running < most).then_some(running + 1)).is_err()
        {
            return false;
        }
        self.count(limits, now, tokens);
        true
    }

    /// Takes room whether there is some or not.
    pub fn force(&self, limits: &Limits, now: u64, tokens: u64) {
        if limits.concurrency.is_some() {
            self.running.fetch_add(1, Relaxed);
        }
        self.count(limits, now, tokens);
    }

    fn count(&self, limits: &Limits, now: u64, tokens: u64) {
        if let Some(limit) = limits.requests {
            self.requests.take(limit, now, 1);
        }
        if let Some(limit) = limits.tokens {
            self.tokens.take(limit, now, tokens);
        }
        self.said_requests.take(now, 1);
        self.said_tokens.take(now, tokens);
    }

    /// The call is over. `taken` tokens were taken for it, `used` were used; `None`: it was never sent.
    pub fn give_back(&self, limits: &Limits, taken: u64, used: Option<u64>) {
        if limits.concurrency.is_some() {
            // Another snapshot may have had no such bound when the call began.
            let _ = self.running.fetch_update(Relaxed, Relaxed, |running| running.checked_sub(1));
        }
        if let Some(limit) = limits.tokens {
            self.tokens.correct(limit, taken, used.unwrap_or(0));
        }
        if let (Some(limit), None) = (limits.requests, used) {
            self.requests.correct(limit, 1, 0);
        }
    }

    /// Believes what the provider said of requests and of tokens.
    pub fn learn(&self, now: u64, requests: Option<Said>, tokens: Option<Said>) {
        if let Some(said) = requests {
            self.said_requests.learn(now, said);
        }
        if let Some(said) = tokens {
            self.said_tokens.learn(now, said);
        }
    }

    /// Calls under way, where they are bounded.
    pub fn running(&self) -> u32 {
        self.running.load(Relaxed)
    }
}

/// The moment at which it is full again, in nanoseconds.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Microseconds until so many can be taken. More than it holds can be taken when it is full.
    fn wait(&self, limit: u64, now: u64, n: u64) -> u64 {
        let now = now.saturating_mul(1_000);
        let full = self.0.load(Relaxed).max(now).saturating_add(time(limit, n).min(MINUTE));
        full.saturating_sub(now.saturating_add(MINUTE)).div_ceil(1_000)
    }

    fn take(&self, limit: u64, now: u64, n: u64) {
        let now = now.saturating_mul(1_000);
        let time = time(limit, n);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |full| Some(full.max(now).saturating_add(time)));
    }

    fn correct(&self, limit: u64, taken: u64, used: u64) {
        if used > taken {
            self.0.fetch_add(time(limit, used - taken), Relaxed);
        } else if used < taken {
            let time = time(limit, taken - used);
            let _ = self.0.fetch_update(Relaxed, Relaxed, |full| Some(full.saturating_sub(time)));
        }
    }
}

/// Nanoseconds in which so many flow in.
fn time(limit: u64, n: u64) -> u64 {
    let time = u128::from(n) * u128::from(MINUTE) / u128::from(limit.max(1));
    u64::try_from(time).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// What a provider last said, and what was taken since.
#[derive(Debug, Default)]
struct Window {
    left: AtomicI64,
    /// Monotonic microseconds; in the past: it says nothing any more.
    until: AtomicU64,
    /// Microseconds in which one more flows in; 0: all of it at the end.
    each: AtomicU64,
}

impl Window {
    fn learn(&self, now: u64, said: Said) {
        let reset = u64::try_from(said.reset.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        let missing = said.limit.map_or(0, |limit| limit.saturating_sub(said.remaining));
        self.each.store(reset.checked_div(missing).unwrap_or(0), Relaxed);
        self.left.store(i64::try_from(said.remaining).unwrap_or(i64::MAX), Relaxed);
        self.until.store(now.saturating_add(reset), Relaxed);
    }

    fn wait(&self, now: u64, n: u64) -> u64 {
        let until = self.until.load(Relaxed);
        if until <= now {
            return 0;
        }
        let short = i64::try_from(n).unwrap_or(i64::MAX).saturating_sub(self.left.load(Relaxed));
        match (u64::try_from(short).unwrap_or(0), self.each.load(Relaxed)) {
            (0, _) => 0,
            (_, 0) => until - now,
            (short, each) => short.saturating_mul(each).min(until - now),
        }
    }

    fn take(&self, now: u64, n: u64) {
        if self.until.load(Relaxed) > now {
            self.left.fetch_sub(i64::try_from(n).unwrap_or(i64::MAX / 2), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_minutes_worth_at_once_and_then_as_it_flows_in() {
        let quota = Quota::default();
        let limits = Limits { requests: Some(6), ..Limits::default() };
        let now = 100 * SECOND;
        for _ in 0..6 {
            assert_eq!(quota.room(&limits, now, 0), None);
            assert!(quota.take(&limits, now, 0));
        }
        assert_eq!(quota.room(&limits, now, 0), Some(now + 10 * SECOND));
        assert_eq!(quota.room(&limits, now + 10 * SECOND, 0), None);
        assert!(quota.take(&limits, now + 10 * SECOND, 0));
        assert_eq!(quota.room(&limits, now + 10 * SECOND, 0), Some(now + 20 * SECOND));
        // One that was never sent.
        quota.give_back(&limits, 0, None);
        assert_eq!(quota.room(&limits, now + 10 * SECOND, 0), None);
    }

    #[test]
    fn tokens_are_taken_by_estimate_and_corrected_by_use() {
        let quota = Quota::default();
        let limits = Limits { tokens: Some(6_000), ..Limits::default() };
        assert!(quota.take(&limits, SECOND, 6_000));
        assert_eq!(quota.room(&limits, SECOND, 1_000), Some(11 * SECOND));
        quota.give_back(&limits, 6_000, Some(3_000));
        assert_eq!(quota.room(&limits, SECOND, 3_000), None);
        assert_eq!(quota.room(&limits, SECOND, 4_000), Some(11 * SECOND));
        quota.give_back(&limits, 0, Some(3_000));
        assert_eq!(quota.room(&limits, SECOND, 1_000), Some(11 * SECOND));
        // A call larger than the bucket goes when it is full.
        assert_eq!(quota.room(&limits, SECOND, 60_000), Some(61 * SECOND));
        assert_eq!(quota.room(&limits, 61 * SECOND, 60_000), None);
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let quota = Quota::default();
        let limits = Limits { concurrency: Some(2), ..Limits::default() };
        assert!(quota.take(&limits, 1, 0) && quota.take(&limits, 1, 0));
        assert_eq!(quota.room(&limits, 1, 0), Some(u64::MAX));
        assert!(!quota.take(&limits, 1, 0));
        quota.give_back(&limits, 0, Some(0));
        assert_eq!((quota.room(&limits, 1, 0), quota.running()), (None, 1));
        // A bound that came with a reload, and calls that were not counted.
        quota.give_back(&limits, 0, None);
        quota.give_back(&limits, 0, None);
        assert_eq!(quota.running(), 0);
    }

    #[test]
    fn a_provider_is_believed_until_its_reset() {
        let quota = Quota::default();
        let none = Limits::default();
        let said = |limit, remaining, seconds| Some(Said { limit, remaining, reset: Duration::from_secs(seconds) });
        quota.learn(SECOND, said(None, 2, 30), None);
        assert!(quota.take(&none, SECOND, 0) && quota.take(&none, SECOND, 0));
        assert_eq!(quota.room(&none, SECOND, 0), Some(31 * SECOND));
        assert_eq!(quota.room(&none, 31 * SECOND, 0), None);
        // With the limit, what flows in meanwhile is known too.
        quota.learn(SECOND, None, said(Some(1_000), 0, 60));
        assert_eq!(quota.room(&none, SECOND, 100), Some(31 * SECOND), "the requests' reset is later");
        quota.learn(SECOND, said(None, 9, 30), said(Some(1_000), 0, 60));
        assert_eq!(quota.room(&none, SECOND, 100), Some(7 * SECOND));
        quota.learn(SECOND, None, said(None, 0, 100_000));
        assert_eq!(quota.room(&none, SECOND, 1), Some(301 * SECOND), "nobody is believed for a day");
    }

    proptest! {
        /// Over any stretch of time no more goes through than the bucket held and what flowed in.
        #[test]
        fn a_rate_holds_over_any_time(steps in prop::collection::vec((0u64..3_000_000, 1u64..50), 1..200)) {
            let quota = Quota::default();
            let limits = Limits { tokens: Some(600), ..Limits::default() };
            let (mut now, mut sent) = (SECOND, 0);
            for (pause, tokens) in steps {
                now += pause;
                if quota.room(&limits, now, tokens).is_none() {
                    quota.take(&limits, now, tokens);
                    sent += tokens;
                }
                prop_assert!(sent <= 600 + (now - SECOND) * 600 / 60_000_000 + 1);
            }
        }
    }
}
