//! Whereto: an order of targets for one call, and the pauses between tries.

mod health;

pub use health::{Cooling, Health};

use std::time::Duration;

/// What the choice needs to know of one target.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'h> {
    pub weight: u32,
    pub health: &'h Health,
}

/// Orders targets for one call: drawn without replacement in proportion to their weights, those that are cooling last
/// (soonest back first), since a model whose every target fails is still tried rather than refused by us. Targets of
/// weight 0 take no first choices and come after the weighted ones.
///
/// `random` yields uniform 64-bit numbers.
pub fn weighted_order(options: &[Choice<'_>], now: u64, random: &mut dyn FnMut() -> u64) -> Vec<usize> {
    let mut ready: Vec<(usize, u64)> = Vec::with_capacity(options.len());
    let mut cooling: Vec<(u64, usize)> = Vec::new();
    for (index, option) in options.iter().enumerate() {
        match option.health.cooling_until(now) {
            Some(until) => cooling.push((until, index)),
            None => ready.push((index, u64::from(option.weight))),
        }
    }
    let mut order = Vec::with_capacity(options.len());
    while !ready.is_empty() {
        let sum: u64 = ready.iter().map(|(_, weight)| weight).sum();
        let at = if sum == 0 {
            0
        } else {
            let mut draw = random() % sum;
            ready
                .iter()
                .position(|(_, weight)| {
                    let hit = draw < *weight;
                    draw = draw.saturating_sub(*weight);
                    hit
                })
                .unwrap_or(0)
        };
        order.push(ready.remove(at).0);
    }
    cooling.sort_unstable();
    order.extend(cooling.into_iter().map(|(_, index)| index));
    order
}

/// The pause before try number `retry` (1 is the first repetition): exponential with full jitter, so that callers who
/// failed together do not come back together.
pub fn pause(retry: u32, first: Duration, most: Duration, random: u64) -> Duration {
    let ceiling = first.saturating_mul(1u32.checked_shl(retry.saturating_sub(1).min(16)).unwrap_or(u32::MAX)).min(most);
    let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    // Half fixed, half drawn: never zero, never all at once.
    Duration::from_micros(micros / 2 + random % (micros / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32], health: &[Health], random: &mut dyn FnMut() -> u64) -> Vec<usize> {
        let options: Vec<_> =
            weights.iter().zip(health).map(|(weight, health)| Choice { weight: *weight, health }).collect();
        weighted_order(&options, 1_000, random)
    }

    #[test]
    fn shares_follow_weights() {
        let health = [Health::default(), Health::default(), Health::default()];
        let mut rng = fastrand::Rng::with_seed(7);
        let mut first = [0u32; 3];
        for _ in 0..40_000 {
            let order = order(&[3, 1, 0], &health, &mut || rng.u64(..));
            assert_eq!(order.len(), 3);
            first[order[0]] += 1;
        }
        assert!((29_400..30_600).contains(&first[0]), "{first:?}");
        assert_eq!(first[2], 0);
    }

    #[test]
    fn cooling_targets_come_last_and_soonest_first() {
        let health = [Health::default(), Health::default(), Health::default()];
        let rule = Cooling { failures: 1, pause: Duration::from_secs(10) };
        health[0].failed(900, rule, Some(Duration::from_secs(60)));
        health[1].failed(900, rule, None);
        assert_eq!(order(&[1, 1, 1], &health, &mut || 0), [2, 1, 0]);
    }

    #[test]
    fn pauses_grow_and_stay_in_bounds() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        for retry in 1..40 {
            let ceiling = (first * 2u32.pow((retry - 1).min(10))).min(most);
            for random in [0, 1, u64::MAX / 2, u64::MAX] {
                let pause = pause(retry, first, most, random);
                assert!(pause >= ceiling / 2 && pause <= ceiling, "retry {retry}: {pause:?}");
            }
        }
    }
}
