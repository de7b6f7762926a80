//! The log of changes, shown and recomputed.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use super::entities::stamp;
use crate::config::hex;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Page {
    pub data: Vec<Entry>,
    /// Write it as `below` for those before these; `null`: there are none.
    pub next: Option<u64>,
}

/// One change.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Entry {
    pub number: u64,
    pub at: String,
    /// Id of the token of who did it.
    pub actor: String,
    pub request_id: String,
    /// create, update, delete, revoke or rotate.
    pub action: String,
    pub kind: String,
    pub id: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// Of a secret: how it begins, and by what it is told from others.
    pub detail: Option<Value>,
    /// SHA-256 over the hash of the entry before and all of this one.
    pub hash: String,
}

pub fn list(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let below = asked.number("below", 1, i64::MAX as u64)?.unwrap_or(0);
    let limit = asked.limit()?;
    let entries = desk.register().audit(below, limit)?;
    let next = entries.last().filter(|last| entries.len() == limit && last.number > 1).map(|last| last.number);
    let read = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    let shown = entries.into_iter().map(|entry| Entry {
        number: entry.number,
        at: stamp(entry.at),
        actor: entry.actor,
        request_id: entry.request,
        action: entry.action,
        kind: entry.kind,
        id: entry.id,
        before: read(entry.before),
        after: read(entry.after),
        detail: read(entry.detail),
        hash: hex(&entry.hash),
    });
    Answer::json(200, &Page { data: shown.collect(), next })
}

/// What became of a check.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Verified {
    pub entries: u64,
    /// Number and hash of the last entry: kept elsewhere, they tell whether it is still there.
    pub head: String,
    /// What is not as it was written; none: all of it is.
    pub flaws: Vec<String>,
}

pub fn verify(desk: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    let verdict = desk.register().verify()?;
    let head = format!("{}:{}", verdict.head.0, hex(&verdict.head.1));
    let flaws = verdict.flaws.iter().map(ToString::to_string).collect();
    Answer::json(200, &Verified { entries: verdict.entries, head, flaws })
}
