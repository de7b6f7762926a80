//! What an operator writes of asking targets whether they are well.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{Decimal, Span};

/// A target is asked regularly whether it is well: what it answers closes or opens its breaker as a call's answer would.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    pub ask: Question,
    /// What `path` asks for, from the root of the node: /health.
    pub path: Option<String>,
    /// Tokens that `completion` asks for. Default 1; some reasoning models need more to answer at all.
    #[schemars(range(min = 1, max = 4096))]
    pub tokens: Option<u32>,
    /// From one question to the next, within a twentieth. Default 30s.
    pub interval: Option<Span>,
    /// For one answer. Default 10s.
    pub timeout: Option<Span>,
    /// Default idle.
    #[serde(default)]
    pub when: When,
    /// Questions a day (UTC) to one target. Default 2880 of `completion`, else any number.
    #[schemars(range(min = 1))]
    pub calls_per_day: Option<u64>,
    /// US dollars a day (UTC) for questions to one target, as far as its price is known. Default 0.10.
    pub usd_per_day: Option<Decimal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Nothing: no heartbeat at this target.
    None,
    /// The provider's list of models. Costs nothing, and says nothing of a single model.
    Models,
    /// A path of the provider: any 2xx is well.
    Path,
    /// A completion of a few tokens: metered, and paid for.
    Completion,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// While no call has told anything of the target for an interval.
    #[default]
    Idle,
    /// While it is left alone after failures, so that it comes back without a call.
    Resting,
    Always,
}
