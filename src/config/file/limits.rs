//! What an operator writes of how much the calls of a level may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::Amount;

/// How much calls may take: the usual bounds by their short names, or a list. Each window slides, unless the list says
/// otherwise: never more than that in any minute, wherever it begins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CallLimits {
    Short(ShortLimits),
    List(Vec<CallLimit>),
}

impl Default for CallLimits {
    fn default() -> Self {
        CallLimits::Short(ShortLimits::default())
    }
}

/// The usual bounds. Tokens are counted before a call by an estimate (its input, and the most that it may generate) and put
/// right after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShortLimits {
    /// Requests a second.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps: Option<u64>,
    /// Requests a minute.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Requests an hour.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rph: Option<u64>,
    /// Requests a day.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpd: Option<u64>,
    /// Tokens a minute, input and output.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Tokens an hour.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tph: Option<u64>,
    /// Tokens a day.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpd: Option<u64>,
    /// Input tokens a minute.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itpm: Option<u64>,
    /// Output tokens a minute.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otpm: Option<u64>,
    /// Calls at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
}

/// One bound.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallLimit {
    pub of: LimitOf,
    /// A whole number; US dollars for spend.
    pub most: Amount,
    /// Not for concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<LimitPer>,
    /// Default sliding_window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<LimitBy>,
    /// Most that can be saved up in a token_bucket. Default: what flows in in the whole time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Amount>,
    /// The zone whose calendar a fixed_window goes by: Europe/Berlin. Default UTC.
    #[schemars(extend("format" = "portolan-zone"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Lets more through while the gateway is idle; the first to go without when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitOf {
    /// Calls, lists and counts of tokens among them.
    Requests,
    InputTokens,
    OutputTokens,
    /// Input and output.
    Tokens,
    /// Pictures sent in.
    Images,
    /// Characters of text sent in.
    Characters,
    /// US dollars: the worst case is taken before a call and put right by what its attempts cost.
    Spend,
    /// Calls at once.
    Concurrency,
}

/// The time that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitPer {
    Second,
    Minute,
    Hour,
    Day,
}

/// How it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Never more in any such time, wherever it begins.
    SlidingWindow,
    /// Flows in steadily, and can be saved up (`burst`).
    TokenBucket,
    /// Anew at each full second, minute, hour or day of the calendar.
    FixedWindow,
}

/// More than the bound, while the gateway is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// What holds then.
    pub most: Amount,
    /// Idle is: so many calls in flight in the whole gateway at most, and none that waits for room at a provider.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls: u64,
}
