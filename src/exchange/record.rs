//! What the journal keeps of an attempt: the intent before dispatch, the settlement after. The attempt's id is the
//! idempotency key everywhere downstream.

use serde::Deserialize;

use crate::ir::Usage;
use crate::policy::price::Nano;
use crate::wire::writer::{self, Object};

/// 128 bits, time-ordered (UUID version 7, RFC 9562 section 5.7): unique without coordination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

/// Written before a single byte goes to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Intent {
    pub attempt: Id,
    pub request: Id,
    /// Unix milliseconds.
    pub at: u64,
    /// Counts from 1 within the request.
    pub number: u32,
    pub key: String,
    pub project: Option<String>,
    /// The model the caller named, and the one that is tried (they differ in a fallback).
    pub asked: String,
    pub model: String,
    pub provider: String,
    /// `provider/model`.
    pub target: String,
    pub stream: bool,
    /// Version of the price row; empty where the target is unpriced.
    pub price_version: String,
    /// Worst case, in nano-dollars: what an orphaned attempt counts for.
    pub reserve: Nano,
    /// Estimate of input tokens.
    pub input_estimate: u64,
    pub config_version: String,
    pub tags: Vec<(String, String)>,
}

/// Written when the attempt is over, however it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Settlement {
    pub attempt: Id,
    /// Unix milliseconds.
    pub at: u64,
    /// `ok`, `client_gone`, `draining`, or the name of a [`FaultKind`](crate::ir::FaultKind).
    pub outcome: String,
    /// Status of the provider's answer; 0 where there was none.
    pub status: u16,
    pub usage: Option<Usage>,
    /// The provider reported no usage: `usage` is our estimate.
    pub estimated: bool,
    /// Nano-dollars; 0 with `unpriced` set where no price is known.
    pub cost: Nano,
    pub unpriced: bool,
    pub latency_us: u64,
    /// To the first content; 0 where there was none.
    pub ttft_us: u64,
    /// This attempt's answer is what the caller got.
    pub served: bool,
    /// As in `x-portolan-loss`.
    pub losses: String,
}

impl std::fmt::Display for Id {
    /// The form of RFC 9562: 8-4-4-4-12 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Id(n) = *self;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Intent(Intent),
    Settlement(Settlement),
}

impl Record {
    /// Reads a record's payload; nothing for one that is no record of ours.
    pub fn read(payload: &[u8]) -> Option<Record> {
        // Ours begin with their kind, and can be read straight; a reader of tags would have to hold each member first.
        if payload.starts_with(br#"{"record":"intent","#) {
            return serde_json::from_slice(payload).ok().map(Record::Intent);
        }
        if payload.starts_with(br#"{"record":"settlement","#) {
            return serde_json::from_slice(payload).ok().map(Record::Settlement);
        }
        let written: Written = serde_json::from_slice(payload).ok()?;
        Some(match written {
            Written::Intent(intent) => Record::Intent(intent),
            Written::Settlement(settlement) => Record::Settlement(settlement),
        })
    }
}

#[derive(Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Written {
    Intent(Intent),
    Settlement(Settlement),
}

impl Intent {
    /// Writes the payload of a record.
    pub fn write(&self, out: &mut Vec<u8>) {
        writer::object(out, |o| {
            o.string("record", "intent");
            id(o, "attempt", self.attempt);
            id(o, "request", self.request);
            o.number("at", self.at);
            o.number("number", u64::from(self.number));
            o.string("key", &self.key);
            if let Some(project) = &self.project {
                o.string("project", project);
            }
            o.string("asked", &self.asked);
            o.string("model", &self.model);
            o.string("provider", &self.provider);
            o.string("target", &self.target);
            o.bool("stream", self.stream);
            o.string("price_version", &self.price_version);
            o.number("reserve", self.reserve);
            o.number("input_estimate", self.input_estimate);
            o.string("config_version", &self.config_version);
            if !self.tags.is_empty() {
                o.array("tags", |a| {
                    for (name, value) in &self.tags {
                        writer::array(a.value(), |pair| {
                            pair.string(name);
                            pair.string(value);
                        });
                    }
                });
            }
        });
    }
}

impl Settlement {
    /// Writes the payload of a record.
    pub fn write(&self, out: &mut Vec<u8>) {
        writer::object(out, |o| {
            o.string("record", "settlement");
            id(o, "attempt", self.attempt);
            o.number("at", self.at);
            o.string("outcome", &self.outcome);
            o.number("status", u64::from(self.status));
            if let Some(usage) = &self.usage {
                o.object("usage", |o| usage.write(o));
            }
            o.bool("estimated", self.estimated);
            o.number("cost", self.cost);
            o.bool("unpriced", self.unpriced);
            o.number("latency_us", self.latency_us);
            o.number("ttft_us", self.ttft_us);
            o.bool("served", self.served);
            if !self.losses.is_empty() {
                o.string("losses", &self.losses);
            }
        });
    }
}

fn id(o: &mut Object<'_>, name: &str, id: Id) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 32];
    for (place, byte) in text.iter_mut().zip((0..32).rev().map(|shift| (id.0 >> (shift * 4)) as usize & 15)) {
        *place = HEX.get(byte).copied().unwrap_or(b'0');
    }
    o.string(name, std::str::from_utf8(&text).unwrap_or_default());
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Id).map_err(serde::de::Error::custom)
    }
}
