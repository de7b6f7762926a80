//! Which identical calls become one, for how long, and who pays.

use std::time::Duration;

use super::price::Nano;

/// What the operator wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// Calls whose answers are left to chance too.
    pub any: bool,
    /// How long after its beginning a call can be joined; `None`: as long as it lasts.
    pub window: Option<Duration>,
    /// Bytes of an answer that are kept for those who come late.
    pub buffer: usize,
    pub cost: Cost,
}

/// Whose row has the cost of a call that several were told the answer of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// The one who began it; the others cost nothing.
    #[default]
    Leader,
    /// Each has its part of it.
    Split,
    /// Each has all of it: what is charged is then more than what the provider charges.
    Each,
}

impl Cost {
    /// What each of those who followed is charged, of a call that so many were told the answer of.
    pub fn of_follower(self, cost: Nano, shares: u32) -> Nano {
        match self {
            Cost::Leader => 0,
            Cost::Split => cost / u64::from(shares.max(1)),
            Cost::Each => cost,
        }
    }

    /// What the one who began it is charged.
    pub fn of_leader(self, cost: Nano, shares: u32) -> Nano {
        let others = u64::from(shares.max(1)) - 1;
        match self {
            Cost::Leader | Cost::Each => cost,
            // What does not divide is the leader's.
            Cost::Split => cost - self.of_follower(cost, shares) * others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_charged_twice_unless_that_is_wanted() {
        for (cost, shares) in [(100, 3), (7, 7), (5, 9), (0, 2), (u64::MAX, 1)] {
            let sum = |policy: Cost| {
                policy.of_leader(cost, shares) + policy.of_follower(cost, shares) * u64::from(shares - 1)
            };
            assert_eq!((sum(Cost::Leader), sum(Cost::Split)), (cost, cost), "{cost} {shares}");
        }
        assert_eq!((Cost::Split.of_leader(100, 3), Cost::Split.of_follower(100, 3)), (34, 33));
        assert_eq!((Cost::Each.of_leader(100, 3), Cost::Each.of_follower(100, 3)), (100, 100));
    }
}
