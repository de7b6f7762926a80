//! Why a call went to its target, in a line.

use std::fmt;

use crate::policy::route::Strategy;
use crate::policy::route::affinity::By;

/// Why this target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Why {
    pub strategy: Strategy,
    /// The strategy's figure for it: dollars, seconds, calls under way, a score, a tier.
    pub score: f32,
    /// Targets of its model.
    pub of: usize,
    /// Place in the model's arms.
    pub arm: Option<usize>,
    /// What the call sticks by.
    pub by: Option<By>,
    /// It was to be left alone, but nothing better was there.
    pub resting: bool,
}

impl Why {
    /// Whether there is nothing to tell but the strategy's name.
    pub fn is_plain(&self) -> bool {
        self.strategy == Strategy::Weighted && self.arm.is_none() && !self.resting
    }
}

/// As in `x-portolan-route`: `lowest_cost;usd=0.000120;of=3`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.strategy.name())?;
        if self.resting {
            f.write_str(";resting")?;
        } else if self.of > 1 {
            let score = self.score;
            match (self.strategy, self.by) {
                (Strategy::LowestCost, _) if score.is_finite() => write!(f, ";usd={score:.6}")?,
                (Strategy::LowestLatency, _) => write!(f, ";seconds={score:.3}")?,
                (Strategy::LeastBusy, _) => write!(f, ";busy={score:.2}")?,
                (Strategy::Balanced, _) => write!(f, ";score={score:.3}")?,
                (Strategy::Priority, _) => write!(f, ";tier={score:.0}")?,
                (Strategy::Nearest, _) => write!(f, ";distance={score:.0}")?,
                (Strategy::Sticky, Some(by)) => write!(f, ";by={}", name(by))?,
                _ => {}
            }
            write!(f, ";of={}", self.of)?;
        }
        Ok(())
    }
}

fn name(by: By) -> &'static str {
    match by {
        By::Key => "key",
        By::User => "user",
        By::Session => "session",
        By::Prefix => "prefix",
    }
}
