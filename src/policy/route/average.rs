//! Averages that forget, and a sketch of a distribution: a few words each, written by every attempt, read by every
//! choice, and nobody waits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How long an average remembers, in seconds: what is older counts for a third.
const MEMORY: f32 = 30.0;
/// Least and greatest share of a new value: under load one value must not decide, after a long rest it must.
const SHARE: (f32, f32) = (0.05, 0.9);
/// Microseconds of a tick, as a power of two: 32 bits of ticks last for two years.
const TICK: u32 = 14;
const SECONDS_OF_A_TICK: f32 = (1u32 << TICK) as f32 / 1e6;

/// A mean whose values lose weight with time, in one word: the mean in the upper half, the tick of the last value in
/// the lower. 0: no value yet.
#[derive(Debug, Default)]
pub struct Average(AtomicU64);

impl Average {
    /// Takes a value in. `now` is in monotonic microseconds.
    pub fn add(&self, now: u64, value: f32) {
        let tick = tick(now);
        let mut word = self.0.load(Relaxed);
        loop {
            let mean = match unpack(word) {
                None => value,
                Some((mean, at)) => {
                    let age = tick.wrapping_sub(at) as f32 * SECONDS_OF_A_TICK;
                    // Below that age the least share it is anyway.
                    let share = if age < MEMORY * SHARE.0 { SHARE.0 } else { 1.0 - (-age / MEMORY).exp() };
                    let share = share.clamp(SHARE.0, SHARE.1);
                    mean + (value - mean) * share
                }
            };
            let next = u64::from(mean.to_bits()) << 32 | u64::from(tick);
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }

    /// The mean.
    pub fn get(&self) -> Option<f32> {
        unpack(self.0.load(Relaxed)).map(|(mean, _)| mean)
    }

    /// The mean and the seconds since its last value.
    pub fn aged(&self, now: u64) -> Option<(f32, f32)> {
        let (mean, at) = unpack(self.0.load(Relaxed))?;
        Some((mean, tick(now).saturating_sub(at) as f32 * SECONDS_OF_A_TICK))
    }
}

fn unpack(word: u64) -> Option<(f32, u32)> {
    let mean = f32::from_bits(u32::try_from(word >> 32).unwrap_or(0));
    (word != 0).then_some((mean, u32::try_from(word & 0xffff_ffff).unwrap_or(0)))
}

/// From 1, so that a word with a value is never 0.
fn tick(now: u64) -> u32 {
    u32::try_from((now >> TICK) & 0xffff_ffff).unwrap_or(0).max(1)
}

/// Buckets of a [`Sketch`]: four to each doubling, from 4 ms to four minutes.
const BUCKETS: usize = 64;
/// Values after which all counts are halved, so that what was counts less than what is.
const HALVED: u32 = 1_024;
/// Fewer values say nothing of their tail.
const LEAST: u32 = 20;

/// The distribution of a time, within a fifth.
#[derive(Debug)]
pub struct Sketch {
    counts: [AtomicU32; BUCKETS],
    all: AtomicU32,
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch { counts: [const { AtomicU32::new(0) }; BUCKETS], all: AtomicU32::new(0) }
    }
}

impl Sketch {
    pub fn add(&self, micros: u64) {
        if let Some(count) = self.counts.get(bucket(micros)) {
            count.fetch_add(1, Relaxed);
        }
        if self.all.fetch_add(1, Relaxed) + 1 == HALVED {
            // A value that comes in between may be lost; a sketch bears that.
            for count in &self.counts {
                count.store(count.load(Relaxed) / 2, Relaxed);
            }
            self.all.store(HALVED / 2, Relaxed);
        }
    }

    /// A time, in microseconds, that 95 of 100 values do not exceed; nothing while there are few.
    pub fn p95(&self) -> Option<u64> {
        let sum: u32 = self.counts.iter().map(|count| count.load(Relaxed)).sum();
        if sum < LEAST {
            return None;
        }
        let above = sum / 20;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate().rev() {
            seen += count.load(Relaxed);
            if seen > above {
                return Some(end(place));
            }
        }
        None
    }
}

/// The place of a time: its power of two, and the two bits below the first.
fn bucket(micros: u64) -> usize {
    let units = (micros >> 10).max(4);
    let power = units.ilog2() - 2;
    let part = (units >> power) & 3;
    (power as usize * 4 + usize::try_from(part).unwrap_or(0)).min(BUCKETS - 1)
}

/// Where a bucket ends, in microseconds.
fn end(bucket: usize) -> u64 {
    (5 + bucket as u64 % 4) << (bucket / 4) << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn an_average_follows_what_is_new_and_forgets_what_is_old() {
        let average = Average::default();
        assert_eq!(average.get(), None);
        average.add(SECOND, 1.0);
        assert_eq!(average.get(), Some(1.0));
        // At once, a value counts little; after minutes, nearly alone.
        average.add(SECOND, 2.0);
        assert!((average.get().unwrap() - 1.05).abs() < 1e-3, "{average:?}");
        average.add(600 * SECOND, 3.0);
        assert!(average.get().unwrap() > 2.7, "{average:?}");
        let (_, age) = average.aged(660 * SECOND).unwrap();
        assert!((age - 60.0).abs() < 0.1, "{age}");
    }

    #[test]
    fn many_values_at_once_settle_on_their_mean() {
        let average = Average::default();
        for n in 0..1_000 {
            average.add(SECOND, if n % 2 == 0 { 1.0 } else { 3.0 });
        }
        assert!((average.get().unwrap() - 2.0).abs() < 0.2, "{average:?}");
    }

    #[test]
    fn the_tail_is_found_and_forgotten() {
        let sketch = Sketch::default();
        for n in 0..100u64 {
            assert!(n >= 20 || sketch.p95().is_none());
            sketch.add(if n % 10 == 0 { 8 * SECOND } else { SECOND / 2 });
        }
        let slow = sketch.p95().unwrap();
        assert!((8 * SECOND..=10 * SECOND).contains(&slow), "{slow}");
        for _ in 0..4_000 {
            sketch.add(SECOND / 2);
        }
        let quick = sketch.p95().unwrap();
        assert!((SECOND / 2..=SECOND * 5 / 8).contains(&quick), "{quick}");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_within_a_quarter(micros in 4_096u64..200_000_000) {
            let end = end(bucket(micros));
            prop_assert!(micros <= end && end <= micros / 4 * 5 + 1_280, "{micros} {end}");
        }
    }
}
