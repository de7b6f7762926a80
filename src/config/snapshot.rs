//! Everything a call needs from the operator, in one immutable value: indexed, resolved, cannot be wrong.
//!
//! A request loads the snapshot once and keeps it. Counters, cooldowns and reservations are not in it, so a reload
//! never forgives anything.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;
use crate::policy::auth;
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
    /// Worker threads of the data plane; `None`: one a core.
    pub threads: Option<usize>,
    pub limits: Limits,
    pub retry: Retry,
    /// How long a graceful stop waits for streams.
    pub drain: Duration,
    pub cost_in_body: CostInBody,
    /// How often a streaming caller is given a sign of life while its provider is silent; `None`: never.
    pub keep_alive: Option<Duration>,
    /// How long answers of the Responses API are kept; `None`: not at all.
    pub keep_responses: Option<Duration>,
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
    pub index: Index,
}

/// What else is known of the configuration, beside what serves calls.
#[derive(Debug, Default)]
pub struct Index {
    /// The configured models that serve, in the order of the file.
    pub names: Vec<String>,
    /// Models whose targets are all asleep, with the variables that would wake them: they serve nothing.
    pub models_asleep: HashMap<String, Vec<String>>,
    /// Models that exist without being configured: `provider/model` for every target and for what the catalogue knows
    /// of a provider's preset.
    pub implicit: HashMap<String, Arc<Model>>,
    /// All models by folded name ([`Snapshot::model`]).
    pub folded: HashMap<String, Arc<Model>>,
    /// Nothing wrong, but worth telling the operator.
    pub remarks: Vec<Problem>,
    /// The file and what it includes: a change in one of them is a reason to reload.
    pub files: Vec<PathBuf>,
}

impl Snapshot {
    /// The model of a name: exactly, or with `-` for `.` and the other way round (`gemini-2-5-pro` finds
    /// `gemini-2.5-pro`), or `provider/model`. Allocates nothing.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name).or_else(|| self.index.implicit.get(name)).or_else(|| {
            let mut buffer = [0; LONGEST_NAME];
            self.index.folded.get(fold(name, &mut buffer)?)
        })
    }

    /// The variables that a model waits for, when it or its provider is asleep.
    pub fn model_asleep(&self, name: &str) -> Option<&[String]> {
        let mut buffer = [0; LONGEST_NAME];
        let wanted = fold(name, &mut buffer)?;
        let found = self.index.models_asleep.iter().find(|(model, _)| {
            let mut buffer = [0; LONGEST_NAME];
            fold(model, &mut buffer) == Some(wanted)
        });
        let provider = || {
            let (provider, _) = name.split_once('/')?;
            let (_, variable) = self.asleep.iter().find(|(id, _)| id == provider)?;
            Some(std::slice::from_ref(variable))
        };
        found.map(|(_, variables)| variables.as_slice()).or_else(provider)
    }

    /// The key of a secret, whatever its standing.
    pub fn key(&self, secret: &str) -> Option<&Arc<Key>> {
        let digest = auth::digest(secret)?;
        let (stored, key) = self.keys.get_key_value(&digest)?;
        auth::same(stored, &digest).then_some(key)
    }
}

/// Longest name of a model, in bytes.
pub const LONGEST_NAME: usize = 256;

/// A name with `-` for every `.`, in the buffer; nothing for a name that is too long to be one.
pub fn fold<'b>(name: &str, buffer: &'b mut [u8; LONGEST_NAME]) -> Option<&'b str> {
    let folded = buffer.get_mut(..name.len())?;
    for (to, from) in folded.iter_mut().zip(name.bytes()) {
        *to = if from == b'.' { b'-' } else { from };
    }
    std::str::from_utf8(folded).ok()
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
    /// Overrides of the providers' own. Only `total` is of use here; for an attempt see [`PricedTarget::timeouts`].
    pub timeouts: Option<Timeouts>,
}

/// A target with what it costs.
#[derive(Debug)]
pub struct PricedTarget {
    pub target: Target,
    /// `None`: not in the catalogue and not in the file. Calls are served and flagged unpriced, never counted as free.
    pub price: Option<Price>,
    /// The provider's, with what the model overrides.
    pub timeouts: Timeouts,
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
    /// A lasting loss refuses its calls.
    pub strict: bool,
    /// Unix seconds.
    pub expires: Option<u64>,
}

/// Whether a key may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Disabled,
    Expired,
}

impl Key {
    /// Whether it may name this model.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| auth::fits(pattern, model))
    }

    /// `now` is Unix seconds.
    pub fn standing(&self, now: u64) -> Standing {
        match self.expires {
            _ if self.disabled => Standing::Disabled,
            Some(expires) if now >= expires => Standing::Expired,
            _ => Standing::Good,
        }
    }
}
