//! How long things took, as counts that can be added up: percentiles of any set of attempts, to within 3.2 %.
//!
//! Sixteen buckets for each doubling of microseconds. The same counts come of the rows themselves and of their rollups, so
//! a percentile does not change when its rows are rolled up.

use std::collections::BTreeMap;

/// Buckets for each doubling, as a power of two.
const FINE: u32 = 4;

/// Attempts by their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    counts: BTreeMap<u16, u64>,
}

impl Sketch {
    pub fn add(&mut self, us: u64) {
        *self.counts.entry(bucket(us)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Sketch) {
        for (bucket, count) in &other.counts {
            let sum = self.counts.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// The time that so many of a thousand did not exceed; nothing without any.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let all = self.counts.values().fold(0u64, |all, count| all.saturating_add(*count));
        let rank = u64::try_from((u128::from(all) * u128::from(per_mille)).div_ceil(1_000)).ok()?.max(1);
        let mut so_far = 0u64;
        self.counts.iter().find_map(|(bucket, count)| {
            so_far = so_far.saturating_add(*count);
            (so_far >= rank).then(|| middle(*bucket))
        })
    }

    /// As rollups keep it: pairs of bucket and count, seven bits a byte.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.counts.len() * 3);
        for (bucket, count) in &self.counts {
            write(&mut out, u64::from(*bucket));
            write(&mut out, *count);
        }
        out
    }

    pub fn read(bytes: &[u8]) -> Sketch {
        let (mut sketch, mut rest) = (Sketch::default(), bytes);
        while let (Some(bucket), Some(count)) = (read(&mut rest), read(&mut rest)) {
            let sum = sketch.counts.entry(u16::try_from(bucket).unwrap_or(u16::MAX)).or_default();
            *sum = sum.saturating_add(count);
        }
        sketch
    }
}

fn bucket(us: u64) -> u16 {
    let doublings = us.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    let fine = us >> doublings;
    u16::try_from((u64::from(doublings) << FINE) + fine).unwrap_or(u16::MAX)
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 << FINE {
        return bucket;
    }
    let doublings = (bucket >> FINE) - 1;
    let fine = bucket - (doublings << FINE);
    fine.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX))
        .unwrap_or(u64::MAX)
        .saturating_add((1 << doublings) / 2)
}

fn write(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for group in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn percentiles_are_near_and_parts_add_up(
            times in proptest::collection::vec(0u64..10_000_000_000, 1..200), cut in 0usize..200, per_mille in 1u64..=1000,
        ) {
            let sketch = |times: &[u64]| times.iter().fold(Sketch::default(), |mut all, us| { all.add(*us); all });
            let (first, second) = times.split_at(cut.min(times.len()));
            let mut merged = Sketch::read(&sketch(first).bytes());
            merged.merge(&sketch(second));
            prop_assert_eq!(&merged, &sketch(&times));
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let exact = sorted[(times.len() * per_mille as usize).div_ceil(1000).max(1) - 1];
            let near = merged.quantile(per_mille).unwrap();
            prop_assert!(near.abs_diff(exact) as f64 <= exact as f64 * 0.032 + 1.0, "{near} for {exact}");
        }
    }

    #[test]
    fn extremes_are_kept() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(500), None);
        sketch.add(u64::MAX);
        assert!(sketch.quantile(500).unwrap() > u64::MAX / 20 * 19);
        sketch.add(0);
        assert_eq!(sketch.quantile(500), Some(0));
        assert_eq!(Sketch::read(&sketch.bytes()), sketch);
    }
}
