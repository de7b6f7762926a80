//! What an operator writes of the choice of targets, of quotas and of waiting.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Decimal, Span};

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By weight.
    #[default]
    Weighted,
    /// The lowest tier that can take the call; within it by weight.
    Priority,
    /// What this request is expected to cost.
    LowestCost,
    /// Time to the first token of streams, to the end of whole answers, as measured.
    LowestLatency,
    /// Calls under way, relative to the weights.
    LeastBusy,
    /// Cost, latency and success together.
    Balanced,
    /// Calls that have something in common go to the same target, so that the provider's prompt cache stays warm.
    Sticky,
    /// The least distance between the caller's home and the target's region.
    Nearest,
}

/// How much each quality counts in `balanced`: the exponents of cost, latency and success.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balanced {
    /// Default 1.
    pub cost: Option<Decimal>,
    /// Default 0.25: half the price makes up for sixteen times the time.
    pub latency: Option<Decimal>,
    /// Default 4: one failure in six makes up for twice the price.
    pub success: Option<Decimal>,
}

/// What calls have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The caller's key.
    Key,
    /// The user that the request names (`user`, `safety_identifier`, `metadata.user_id`).
    User,
    /// The session that the caller names (header x-portolan-session, or `prompt_cache_key`).
    Session,
    /// How the prompt begins: tools, system prompt, first message.
    Prefix,
}

/// Calls are divided among named arms, each with targets of its own; where an arm's targets fail, the others stand in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Parts, by name: {control: 90, canary: 10}.
    pub arms: BTreeMap<String, u32>,
    /// What keeps calls in one arm, the first that a call has. Default: nothing, each call is drawn anew.
    #[serde(default)]
    pub by: Vec<By>,
}

/// How targets are chosen. A request's own wish comes first, then its key's, its model's, and this.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Default weighted.
    pub strategy: Strategy,
    pub balanced: Balanced,
    /// Default session, user, prefix.
    pub sticky: Option<Vec<By>>,
    /// Where callers are whose key does not say: a name of `distances`.
    pub home: Option<String>,
    /// The zone of `time` in rules, such as Europe/Berlin. Default UTC.
    pub time_zone: Option<String>,
    /// From where callers are to where targets are, in any unit: {eu: {eu: 0, us: 90}}. What is not named is farthest.
    pub distances: BTreeMap<String, BTreeMap<String, u32>>,
}

/// Calls wait in a line for each model, fair among keys: who floods it waits behind itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Calls that may wait for one model; 0: none, they are refused at once. Default 256.
    #[schemars(range(max = 100_000))]
    pub size: Option<usize>,
    /// Longest wait. Default 30s.
    pub wait: Option<Span>,
}

/// What a provider lets one credential do. A call beyond it goes to another credential or target.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a minute.
    #[schemars(range(min = 1))]
    pub rpm: Option<u64>,
    /// Tokens a minute, input and output.
    #[schemars(range(min = 1))]
    pub tpm: Option<u64>,
    /// Calls at once.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
}
