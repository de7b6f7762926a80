//! What an operator writes of budgets: how much may be spent, and who is told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::Decimal;

/// How much may be spent, from one calendar instant to the next.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// US dollars. Or write `amount` and `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Decimal>,
    /// Of `amount`: usd, or a code of `currencies`, by whose rate it is turned into dollars when the file is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Begins anew each day, week (on Monday) or month, or never. Default month.
    pub per: BudgetPer,
    /// Whose midnight that is, such as Europe/Berlin. Default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Refuses calls that may cost more than is left. Default true; false only counts and tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<bool>,
    /// Percents that are told of when they are spent. Default 50, 80 and 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub alerts: Option<Vec<u32>>,
    /// Cheaper models in place of dear ones, before it is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degrade: Option<BudgetDegrade>,
}

/// Shortest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPer {
    Day,
    Week,
    #[default]
    Month,
    Total,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetDegrade {
    /// Percent of the budget that is spent.
    #[schemars(range(min = 0, max = 100))]
    pub above: u32,
    /// Models that are asked for (* stands for anything), and the model that serves instead, if the key may use it.
    pub to: BTreeMap<String, String>,
}

/// What becomes of calls to a target whose price nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// They are refused, with a budget and without.
    Refuse,
    /// They are served and flagged, and count as nothing.
    Warn,
    /// They count at the dearest price that the catalogue has for a model of this name, or else for any of its provider.
    Estimate,
}

/// Who is told when budgets are spent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    pub webhooks: Vec<Webhook>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where each alert is sent to by POST. It may be ${NAME} or file:/path.
    pub url: String,
    /// What is sent is signed with it: header x-portolan-signature, t=SECONDS,v1=HMAC-SHA256 of `SECONDS.BODY` in hexadecimal
    /// digits. It may be ${NAME} or file:/path.
    pub secret: Option<String>,
    /// How an alert is written. Default json.
    #[serde(default)]
    pub form: WebhookForm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookForm {
    /// An object with all that is known.
    #[default]
    Json,
    /// A message for a Slack channel.
    Slack,
}
