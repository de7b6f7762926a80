//! What an operator writes of organisations, teams, projects, users and keys.
//!
//! All of them may have the same rules, so one macro writes what they share; what is particular to each stands with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budgets::Budget;
use super::limits::CallLimits;
use super::resale::Prepaid;
use super::routing::Strategy;
use super::rules::Priority;
use crate::config::value::{Moment, Sha256};

/// The fields that every level may have, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct LevelRules<'f> {
    pub models: Option<&'f [String]>,
    pub functions: Option<&'f [Function]>,
    pub regions: &'f [String],
    pub attributes: &'f [String],
    pub addresses: &'f [String],
    pub tier: Option<&'f str>,
    pub limits: &'f CallLimits,
    pub budget: Option<&'f Budget>,
    pub budgets: &'f [Budget],
    pub price_group: Option<&'f str>,
    pub prepaid: Option<&'f Prepaid>,
    pub tags: &'f BTreeMap<String, String>,
    pub metadata: &'f BTreeMap<String, String>,
    pub expires: Option<Moment>,
    pub disabled: bool,
}

macro_rules! level {
    ($(#[doc = $doc:expr])* $(#[schemars($schema:meta)])? $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        $(#[schemars($schema)])?
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "is_default")] pub $field: $type,)*
            /// Names its calls may use; * stands for anything. Default: all.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub models: Option<Vec<String>>,
            /// What its calls may do. Default: everything.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub functions: Option<Vec<Function>>,
            /// Where its calls may be served, fallbacks included. Default: anywhere.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub regions: Vec<String>,
            /// What each target of its calls must have, fallbacks included.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub attributes: Vec<String>,
            /// Where its calls may come from: addresses and networks such as 10.0.0.0/8. Default: anywhere.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub addresses: Vec<String>,
            /// A name of `tiers`: routing settings that it shares with others. Default: that of the next level.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tier: Option<String>,
            /// How much its calls may take, beside what other levels let them.
            #[serde(skip_serializing_if = "is_default")]
            pub limits: CallLimits,
            /// How much its calls may cost, beside what other levels let them.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub budget: Option<Budget>,
            /// The same, where there are several: of different periods, or zones.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub budgets: Vec<Budget>,
            /// A name of `price_groups`: what its calls are charged. Default: that of the next level; what they cost.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub price_group: Option<String>,
            /// Its calls are made only from what was paid in for it.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub prepaid: Option<Prepaid>,
            /// Kept with every call's usage and cost; where several levels say the same tag, the nearest to the call counts.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub tags: BTreeMap<String, String>,
            /// Anything else worth knowing of it. Nothing depends on it.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub metadata: BTreeMap<String, String>,
            /// The moment from which its calls are refused.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub expires: Option<Moment>,
            /// Refuses its calls.
            #[serde(skip_serializing_if = "is_default")]
            pub disabled: bool,
        }

        impl $name {
            /// Writes the rules of this level into a key.
            pub fn give(&self, key: &mut Key) {
                let own = self.clone();
                key.models = own.models;
                key.functions = own.functions;
                key.regions = own.regions;
                key.attributes = own.attributes;
                key.addresses = own.addresses;
                key.tier = own.tier;
                key.limits = own.limits;
                key.budget = own.budget;
                key.budgets = own.budgets;
                key.price_group = own.price_group;
                key.prepaid = own.prepaid;
                key.tags = own.tags;
                key.metadata = own.metadata;
                key.expires = own.expires;
                key.disabled = own.disabled;
            }

            pub fn rules(&self) -> LevelRules<'_> {
                LevelRules {
                    models: self.models.as_deref(),
                    functions: self.functions.as_deref(),
                    regions: &self.regions,
                    attributes: &self.attributes,
                    addresses: &self.addresses,
                    tier: self.tier.as_deref(),
                    limits: &self.limits,
                    budget: self.budget.as_ref(),
                    budgets: &self.budgets,
                    price_group: self.price_group.as_deref(),
                    prepaid: self.prepaid.as_ref(),
                    tags: &self.tags,
                    metadata: &self.metadata,
                    expires: self.expires,
                    disabled: self.disabled,
                }
            }
        }
    };
}

level! {
    /// What several teams belong to.
    Organisation {}
}

level! {
    /// What several projects and users belong to.
    Team {
        /// A name of `organisations`.
        organisation: Option<String>,
    }
}

level! {
    /// What several keys belong to.
    Project {
        /// A name of `teams`.
        team: Option<String>,
    }
}

level! {
    /// A person, or whoever else a key is for.
    User {
        /// A name of `teams`. It counts for the keys that have no project.
        team: Option<String>,
        /// Where the person is written to.
        email: Option<String>,
    }
}

level! {
    /// What holds for each caller who brings a token of an issuer, as for a key.
    Callers {
        /// A name of `projects`, for those of whom no claim says another.
        project: Option<String>,
    }
}

level! {
    /// A caller's credential.
    #[schemars(extend("required" = ["id", "secret_sha256"]))]
    Key {
        /// Names the key in logs, metrics and usage.
        id: String,
        /// SHA-256 of the secret; the secret itself stands nowhere.
        secret_sha256: Option<Sha256>,
        /// A name of `projects`; any, where none are written there.
        project: Option<String>,
        /// A name of `users`.
        user: Option<String>,
        /// Refuses its calls where a target could not serve them without loss, and names what would be lost.
        strict: bool,
        /// How to choose among targets, whatever the model says.
        strategy: Option<Strategy>,
        /// Models to go on with, in order, instead of each model's own.
        fallback: Option<Vec<String>>,
        /// Of its calls that do not say, before or after others of the key, where they have to wait.
        priority: Option<Priority>,
        /// Where its callers are: a name of `routing.distances`.
        home: Option<String>,
        /// Its part where calls have to wait, relative to other keys. Default: that of its tier, or 1.
        #[schemars(range(min = 1, max = 1_000_000))]
        weight: Option<u32>,
    }
}

/// Everybody above the keys, by name.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    pub organisations: BTreeMap<String, Organisation>,
    pub teams: BTreeMap<String, Team>,
    pub projects: BTreeMap<String, Project>,
    pub users: BTreeMap<String, User>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Have an answer generated, in whatever dialect.
    Generate,
    /// Have tokens counted.
    CountTokens,
    /// See the models.
    Models,
    /// See, delete or cancel kept responses.
    Responses,
    /// See its own usage and cost.
    Usage,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
