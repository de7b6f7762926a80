//! Why a call went to its target, in a line.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::config::snapshot::Model;
use crate::exchange::Decision;
use crate::policy::route::Strategy;
use crate::policy::route::affinity::By;
use crate::policy::rules::Rule;

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
    /// Its model is the one for when nothing else can answer.
    pub last_resort: bool,
}

impl Why {
    /// As in `x-portolan-route`: the strategy with its figure, the arm, rules and class, and what kind of attempt it is after
    /// another (`fallback`, `hedge`).
    pub fn line(&self, model: &Model, decision: &Decision, again: Option<&str>) -> Cow<'static, str> {
        let plain = self.strategy == Strategy::Weighted && self.arm.is_none() && !self.resting && !self.last_resort;
        if plain && decision.rules.is_empty() && decision.class.is_none() {
            match again {
                None => return Cow::Borrowed("weighted"),
                Some("fallback") => return Cow::Borrowed("weighted;fallback"),
                Some(_) => {}
            }
        }
        let mut line = self.to_string();
        let arm = self.arm.and_then(|arm| model.split.as_ref()?.arms.get(arm));
        // Writing to a text does not fail.
        if let Some((arm, _)) = arm {
            let _ = write!(line, ";arm={arm}");
        }
        for rule in &decision.rules {
            let _ = write!(line, ";rule={}", rule.name);
        }
        if let Some(judged) = &decision.class {
            let name = judged.class.as_deref().unwrap_or("none");
            let _ = write!(line, ";class={name}{}", if judged.shadow { "(shadow)" } else { "" });
        }
        if let Some(again) = again {
            let _ = write!(line, ";{again}");
        }
        Cow::Owned(line)
    }
}

impl Why {
    /// As the ledger keeps it: what many attempts have in common, so without figures.
    pub fn kept(&self, rules: &[Arc<Rule>]) -> Cow<'static, str> {
        let strategy = self.strategy.name();
        if !self.resting && !self.last_resort && self.by.is_none() && rules.is_empty() {
            return Cow::Borrowed(strategy);
        }
        let mut line = strategy.to_owned();
        if let Some(by) = self.by {
            line.push_str(";by=");
            line.push_str(name(by));
        }
        for (so, what) in [(self.resting, ";resting"), (self.last_resort, ";last_resort")] {
            line.push_str(if so { what } else { "" });
        }
        for rule in rules {
            line.push_str(";rule=");
            line.push_str(&rule.name);
        }
        Cow::Owned(line)
    }
}

/// The strategy with its figure: `lowest_cost;usd=0.000120;of=3`.
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
        if self.last_resort {
            f.write_str(";last_resort")?;
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
