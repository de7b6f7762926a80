//! Whereto: which target a call goes to first, what is known of each, and the pauses between tries.
//!
//! A choice is made anew for each attempt, among what can take it then; nothing is put in order beforehand.

pub mod affinity;
mod average;
mod breaker;
mod choose;
pub mod heartbeat;
pub mod hedge;
pub mod shadow;
mod vitals;

pub use average::Average;
pub use breaker::{Breaker, Cooling, Gate};
pub use choose::{Ask, Chosen, Entry, Shares, choose, figure};
pub use vitals::{Answered, Vitals};

use std::time::Duration;

/// How to choose among targets that can take a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// At random, in proportion to the weights.
    #[default]
    Weighted,
    /// The lowest tier that can take it; within it by weight.
    Priority,
    /// What this very request is expected to cost.
    LowestCost,
    /// Time to the first token of streams, to the end of whole answers.
    LowestLatency,
    /// Calls under way, relative to the weights.
    LeastBusy,
    /// Cost, latency and success, multiplied.
    Balanced,
    /// Calls that have something in common go to the same target.
    Sticky,
    /// The least distance between the caller's region and the target's; among equals by weight.
    Nearest,
}

impl Strategy {
    pub const ALL: [Strategy; 8] = [
        Strategy::Weighted,
        Strategy::Priority,
        Strategy::LowestCost,
        Strategy::LowestLatency,
        Strategy::LeastBusy,
        Strategy::Balanced,
        Strategy::Sticky,
        Strategy::Nearest,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Strategy::Weighted => "weighted",
            Strategy::Priority => "priority",
            Strategy::LowestCost => "lowest_cost",
            Strategy::LowestLatency => "lowest_latency",
            Strategy::LeastBusy => "least_busy",
            Strategy::Balanced => "balanced",
            Strategy::Sticky => "sticky",
            Strategy::Nearest => "nearest",
        }
    }

    pub fn named(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == name)
    }
}

/// A strategy with all that it may need to know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    pub strategy: Strategy,
    pub weights: Weights,
}

/// How much each quality counts in `balanced`: the exponents of cost, latency and success.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    pub cost: f32,
    pub latency: f32,
    pub success: f32,
}

impl Default for Weights {
    /// Half the price makes up for sixteen times the time; one failure in six for twice the price.
    fn default() -> Self {
        Weights { cost: 1.0, latency: 0.25, success: 4.0 }
    }
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

    #[test]
    fn strategies_are_found_by_their_names() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::named(strategy.name()), Some(strategy));
        }
        assert_eq!(Strategy::named("fastest"), None);
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
