//! What an operator writes of rules and of key tiers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::routing::Strategy;

/// What is to be done with calls of a kind. Rules are looked at from the first to the last, those for all calls before
/// those of the model; of each list the first whose condition is met counts. None lets a key or a request do more than
/// it may.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Names it in x-portolan-route, in metrics and in explanations. Default: its place in the list, such as #1.
    pub name: Option<String>,
    /// A condition in CEL over request, key, project, team, tags, headers, client_region and time. Default: every call.
    pub when: Option<String>,
    /// The model in the place of the one that was asked for. A key that may not use it goes past this rule, but
    /// for its targets.
    pub model: Option<String>,
    /// How to choose among the targets, whatever request, key and model say.
    pub strategy: Option<Strategy>,
    /// The targets that the call may go to, fallbacks included; fewer than it could, never others.
    pub targets: Option<Set>,
    /// Models to go on with, in order, whatever request, key and model say.
    pub fallback: Option<Vec<String>>,
    /// Before or after other calls of its key, where calls have to wait.
    pub priority: Option<Priority>,
    /// Goes on to the rules after it; what it has chosen stays.
    #[serde(rename = "continue")]
    pub go_on: bool,
}

/// A set of targets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Set {
    /// In one of these regions.
    pub regions: Vec<String>,
    /// With all of these attributes.
    pub attributes: Vec<String>,
    /// One of these, as provider/model; * stands for any text.
    pub names: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    High,
    Normal,
    Low,
}

/// How calls of a group of keys are routed. What a key says itself comes first.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyTier {
    /// How to choose among targets, whatever the model says.
    pub strategy: Option<Strategy>,
    /// Models to go on with, in order, instead of each model's own.
    pub fallback: Option<Vec<String>>,
    /// Where calls may be served. Where a key has regions too, only those that both have.
    pub regions: Vec<String>,
    /// What each target must have, beside what the key demands.
    pub attributes: Vec<String>,
    /// Of calls that do not say, before or after others of their key.
    pub priority: Option<Priority>,
    /// Each key's part where calls have to wait, relative to other keys. Default 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: Option<u32>,
}
