//! Everything a call needs from the operator, in one immutable value: indexed, resolved, cannot be wrong.
//!
//! A request loads the snapshot once and keeps it. Counters, cooldowns and reservations are not in it, so a reload
//! never forgives anything.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::price::Price;
use crate::provider::{Provider, Target, Timeouts};

#[derive(Debug)]
pub struct Snapshot {
    /// First 12 hex digits of the SHA-256 of the files it came from: names the configuration in logs and ledger.
    pub version: String,
    pub listen: Vec<SocketAddr>,
    pub admin: SocketAddr,
    /// Where journal and ledger live.
    pub state_dir: PathBuf,
    pub limits: Limits,
    pub retry: Retry,
    /// How long a graceful stop waits for streams.
    pub drain: Duration,
    pub cost_in_body: CostInBody,
    pub currencies: Vec<Currency>,
    pub log: Log,
    /// `Some`: the sandbox provider is to be started on this address.
    pub sandbox: Option<SocketAddr>,
    /// In the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// Providers that the file names but that lack a credential, with the variable that would bring it: they serve nothing.
    pub asleep: Vec<(String, String)>,
    pub models: HashMap<String, Arc<Model>>,
    pub keys: HashMap<[u8; 32], Arc<Key>>,
    /// `true`: calls without a key are served as this key (laptops; off by default).
    pub anonymous: Option<Arc<Key>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes: usize,
    /// Largest whole (not streamed) answer of a provider, and largest single event of a stream.
    pub answer_bytes: usize,
    pub event_bytes: usize,
    /// Deepest nesting of JSON, both ways.
    pub depth: usize,
    /// Time to read a request's body whole.
    pub body_time: Duration,
    pub header_bytes: usize,
    pub headers: usize,
    /// Sum of request bodies held at once.
    pub buffered_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries at one target before the next one, the first included.
    pub tries: u32,
    /// Tries of a whole call, over all targets.
    pub total_tries: u32,
    /// First pause; doubles, with full jitter, up to `max_pause`.
    pub pause: Duration,
    pub max_pause: Duration,
    /// How long a target that failed is left alone when nothing says how long.
    pub cooldown: Duration,
    /// Failures in a row that bring the cooldown.
    pub failures: u32,
}

/// Where `cost_usd` and `cached` are put into bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostInBody {
    Never,
    /// In answers that we write anyway; a passed-through body stays as it is.
    Transcoded,
    Always,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    /// Lower case: `cny`.
    pub code: String,
    /// Units for one US dollar, in millionths.
    pub per_usd_micro: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub json: bool,
    pub level: tracing_level::Level,
}

/// Level names of the file, kept apart from any logging crate.
pub mod tracing_level {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Level {
        Error,
        Warn,
        Info,
        Debug,
        Trace,
    }
}

/// What callers name: a set of targets and how to choose among them.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub targets: Vec<Arc<PricedTarget>>,
    /// Models to go on with when every target failed, in order.
    pub fallback: Vec<String>,
    /// A lasting loss refuses the call.
    pub strict: bool,
    /// Overrides of the providers' own.
    pub timeouts: Option<Timeouts>,
}

/// A target with what it costs.
#[derive(Debug)]
pub struct PricedTarget {
    pub target: Target,
    /// `None`: not in the catalogue and not in the file. Calls are served and flagged unpriced, never counted as free.
    pub price: Option<Price>,
}

/// A caller's credential.
#[derive(Debug)]
pub struct Key {
    pub id: String,
    pub project: Option<String>,
    /// Globs of model names it may use.
    pub models: Vec<String>,
    pub tags: Vec<(String, String)>,
    pub disabled: bool,
    /// Unix seconds.
    pub expires: Option<u64>,
}
