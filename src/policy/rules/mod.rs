//! Who decides what: rules that look at a call and choose a model, a strategy, a set of targets, fallbacks, a place in
//! the line.
//!
//! A rule's condition is an expression of CEL (Common Expression Language, "Language Definition", cel.dev, seen
//! 2026-11-21). The crate `cel` reads it; what a call is judged by is a tree of our own, typed when the configuration is
//! loaded, so that a misspelt name or a text compared with a number is the operator's to see then and not a rule that
//! silently never matches. The tree allocates nothing, has no loops and makes no text: each of its parts is looked at
//! once at most, and costs no more than a search through one text of the call. Hence its bound in time: parts times the
//! longest text, a header. A test holds it to the crate's own interpreter.

mod compile;
mod expression;
mod names;

pub use compile::{MOST_BYTES, Mistake};
pub use expression::{Expression, Failure};
pub use names::{Facts, Field, Map, Value};

use super::queue::Urgency;
use super::route::Strategy;

/// What is to be done with calls of a kind.
#[derive(Debug, Default)]
pub struct Rule {
    /// Names it in headers, metrics and explanations.
    pub name: String,
    /// `None`: it is for every call.
    pub when: Option<Expression>,
    pub then: Then,
    /// The rules after it are looked at too.
    pub go_on: bool,
}

/// What a rule chooses; what it leaves open is for later rules, and then for request, key and model to say.
#[derive(Debug, Default)]
pub struct Then {
    /// A model in the place of the one that was asked for.
    pub model: Option<String>,
    pub strategy: Option<Strategy>,
    pub targets: Option<Set>,
    /// Models to go on with, in order.
    pub fallback: Option<Vec<String>>,
    /// Among the calls of its key, where they wait.
    pub urgency: Option<Urgency>,
}

/// A set of targets. It only ever narrows what a call may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// In one of these; empty: anywhere.
    pub regions: Vec<String>,
    /// With all of these.
    pub attributes: Vec<String>,
    /// One of these, `*` for any text, as `provider/model`; empty: any.
    pub names: Vec<String>,
}

impl Set {
    /// Whether a target is in it.
    pub fn has(&self, id: &str, region: Option<&str>, attributes: &[String]) -> bool {
        let among = |names: &[String], name: &str| names.iter().any(|own| own == name);
        (self.regions.is_empty() || region.is_some_and(|region| among(&self.regions, region)))
            && self.attributes.iter().all(|own| attributes.contains(own))
            && (self.names.is_empty() || self.names.iter().any(|pattern| super::auth::fits(pattern, id)))
    }
}

#[cfg(test)]
mod tests;
