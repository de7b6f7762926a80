//! Everything a call needs from the operator, in one immutable value: indexed, resolved, cannot be wrong.
//!
//! A request loads the snapshot once and keeps it. Counters, cooldowns and reservations are not in it, so a reload
//! never forgives anything.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use jiff::tz::TimeZone;

use super::file;
use super::issuers::Issuers;
use super::problem::Problem;
use super::tenancy::Tenants;
use crate::dialect::Abilities;
use crate::policy::budget::Budget;
use crate::policy::classes::Classes;
use crate::policy::coalesce::Coalesce;
use crate::policy::price::{Charge, Charges, Price, PriceGroup};
use crate::policy::queue::Urgency;
use crate::policy::route::affinity::By;
use crate::policy::route::heartbeat::{Heartbeat, Pulse};
use crate::policy::route::hedge::{Hedge, Hedges};
use crate::policy::route::shadow::Shadow;
use crate::policy::route::{Average, Rules, Shares, Strategy, Vitals};
use crate::policy::rules::Rule;
use crate::policy::tenancy::{Level, Standing};
use crate::policy::{Account, auth, queue, quota, retry};
use crate::provider::{Node, Provider, Secret, Target, Timeouts};

#[derive(Debug)]
pub struct Snapshot {
    /// First 12 hex digits of the SHA-256 of the files it came from: names the configuration in logs and ledger.
    pub version: String,
    pub listen: Vec<SocketAddr>,
    pub admin: SocketAddr,
    /// What of the admin port needs no token.
    pub doors: Doors,
    /// How much is kept of why calls went where they went; `None`: nothing.
    pub explain: Option<Explain>,
    /// Where journal and ledger live.
    pub state_dir: PathBuf,
    /// Worker threads of the data plane; `None`: one a core.
    pub threads: Option<usize>,
    pub limits: Limits,
    /// Where a model says nothing else.
    pub retry: Retry,
    /// Further attempts of all models together. Outlives this snapshot.
    pub budget: Arc<retry::Budget>,
    /// Of the lines of calls that wait for room.
    pub queue: queue::Rules,
    /// Where callers are whose key does not say: a place in [`PricedTarget::distances`].
    pub home: Option<usize>,
    /// The names of those places.
    pub homes: Vec<String>,
    pub ledger: Ledger,
    /// How long a graceful stop waits for streams.
    pub drain: Duration,
    pub cost_in_body: CostInBody,
    /// How often a streaming caller is given a sign of life while its provider is silent; `None`: never.
    pub keep_alive: Option<Duration>,
    /// How long answers of the Responses API are kept; `None`: not at all.
    pub keep_responses: Option<Duration>,
    /// How far answers are read on whose callers have left; `None`: not at all.
    pub read_on: Option<ReadOn>,
    pub currencies: Vec<Currency>,
    pub unpriced: Unpriced,
    /// What customers are charged; a key has its own by itself.
    pub price_groups: Vec<Arc<PriceGroup>>,
    /// What stands on their statements.
    pub statements: file::Statements,
    /// Who is told when parts of budgets are spent.
    pub webhooks: Arc<[Webhook]>,
    pub log: Log,
    /// `Some`: the sandbox provider is to be started on this address.
    pub sandbox: Option<SocketAddr>,
    /// In the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// Providers that the file names but that lack a credential, with the variable that would bring it: they serve nothing.
    pub asleep: Vec<(String, String)>,
    pub models: HashMap<String, Arc<Model>>,
    pub rulebook: Rulebook,
    pub classes: Option<Classes>,
    /// Whom keys belong to.
    pub tenants: Tenants,
    /// Whose tokens callers may bring.
    pub issuers: Issuers,
    pub keys: HashMap<[u8; 32], Arc<Key>>,
    /// `true`: calls without a key are served as this key (laptops; off by default).
    pub anonymous: Option<Arc<Key>>,
    pub index: Index,
}

/// Bounds of reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOn {
    pub time: Duration,
    pub bytes: usize,
    pub calls: usize,
}

/// How long the ledger keeps what.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// Rows of single attempts; `None`: for ever.
    pub keep: Option<Duration>,
    /// Whose days the sums of the others are.
    pub zone: TimeZone,
}

/// What of the admin port is open to whoever can connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    pub metrics: bool,
    pub targets: bool,
    pub requests: bool,
}

/// Bounds of what is kept of why calls went where they went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explain {
    pub calls: usize,
    pub bytes: usize,
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
    /// The keys of the file by id, as JSON of what is written there but for the secret's digest.
    pub keys: BTreeMap<String, Box<str>>,
    /// Secrets of keys of the file that name a project which the file does not write: it may be stored.
    pub loose: Vec<[u8; 32]>,
    /// Nothing wrong, but worth telling the operator.
    pub remarks: Vec<Problem>,
    /// The file and what it includes: a change in one of them is a reason to reload.
    pub files: Vec<PathBuf>,
    /// The operator's own catalogue.
    pub catalog: Option<PathBuf>,
    /// Unix seconds from which a model costs something else than it does here: a reason too.
    pub repriced: Option<u64>,
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
        self.key_of(&auth::digest(secret)?)
    }

    /// The same by the secret's digest.
    pub fn key_of(&self, digest: &[u8; 32]) -> Option<&Arc<Key>> {
        let (stored, key) = self.keys.get_key_value(digest)?;
        auth::same(stored, digest).then_some(key)
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
    /// Longest text that a broken stream is gone on with.
    pub continuation_bytes: usize,
    /// Deepest nesting of JSON, both ways.
    pub depth: usize,
    /// Time to read a request's body whole.
    pub body_time: Duration,
    pub header_bytes: usize,
    pub headers: usize,
    /// Sum of request bodies held at once.
    pub buffered_bytes: usize,
}

#[cfg(test)]
impl Limits {
    /// For tests: room for what a test says, and no more.
    pub fn small() -> Limits {
        Limits {
            body_bytes: 1 << 20,
            answer_bytes: 1 << 20,
            event_bytes: 1 << 20,
            continuation_bytes: 1 << 18,
            depth: 64,
            body_time: Duration::from_secs(1),
            header_bytes: 1 << 15,
            headers: 100,
            buffered_bytes: 1 << 24,
        }
    }
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
    /// Pause before another target is tried.
    pub fallback_pause: Duration,
    /// What else sends a call to another target.
    pub on: On,
    /// Streams that break are gone on with.
    pub continuation: bool,
    pub budget: retry::Rules,
    /// How long a target that failed is left alone when nothing says how long.
    pub cooldown: Duration,
    /// Failures in a row that bring the cooldown.
    pub failures: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            tries: 2,
            total_tries: 6,
            pause: Duration::from_millis(250),
            max_pause: Duration::from_secs(8),
            fallback_pause: Duration::ZERO,
            on: On::default(),
            continuation: false,
            budget: retry::Rules::default(),
            cooldown: Duration::from_secs(10),
            failures: 3,
        }
    }
}

/// What counts as a failure although a provider calls it an answer, or the caller's own fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// The model declines.
    pub refusal: bool,
    /// A filter refuses the request or withholds the answer.
    pub content_filter: bool,
}

impl On {
    pub fn any(self) -> bool {
        self.refusal || self.content_filter
    }
}

/// Where `cost_usd` and `cached` are put into bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostInBody {
    Never,
    /// In answers that we write anyway; a passed-through body stays as it is.
    Transcoded,
    Always,
}

/// Whom alerts are sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub node: Node,
    /// Path and query. Often as secret as a password.
    pub path: String,
    /// What is sent is signed with it.
    pub secret: Option<Secret>,
    pub form: WebhookForm,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[webhook at {}]", self.node.authority)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookForm {
    Json,
    Slack,
}

/// What becomes of calls to a target whose price nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// They are refused where a hard budget would have to pay for them.
    #[default]
    Judged,
    Refused,
    Served,
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
    /// The name as a header's value, made once; `None` where none can hold it.
    pub said: Option<HeaderValue>,
    /// Empty where rules lead each call to another model.
    pub targets: Vec<Arc<PricedTarget>>,
    /// What each price group is charged for each of them.
    pub charges: Box<[Charges]>,
    /// Their weights.
    pub shares: Shares,
    /// What some of them are known to lack.
    pub lacks: Lacks,
    /// How to choose among them, where neither request nor key say.
    pub rules: Rules,
    /// Rules for the calls that ask for it.
    pub rulebook: Vec<Arc<Rule>>,
    /// What keeps calls at one target, where that is the strategy: the first that a call has.
    pub sticky: Vec<By>,
    pub split: Option<Split>,
    /// When its calls are made a second time, and how many were.
    pub hedge: Option<(Arc<Hedge>, Arc<Hedges>)>,
    /// How identical calls become one.
    pub dedup: Option<Arc<Coalesce>>,
    /// Whereto some of its calls are copied.
    pub shadow: Option<Arc<Shadow>>,
    /// Output tokens of its answers, of late. Outlives this snapshot.
    pub usual: Arc<Average>,
    /// Models to go on with when every target failed, in order.
    pub fallback: Vec<String>,
    /// The model for when nothing else can answer.
    pub last_resort: Option<String>,
    pub retry: Retry,
    /// Its further attempts. Outlives this snapshot.
    pub budget: Arc<retry::Budget>,
    /// A lasting loss refuses the call.
    pub strict: bool,
    /// Overrides of the providers' own. Only `total` is of use here; for an attempt see [`PricedTarget::timeouts`].
    pub timeouts: Option<Timeouts>,
}

impl Model {
    /// What a price group is charged for its calls at a target; `None`: nobody knows.
    pub fn charge(
        &self,
        snapshot: &Snapshot,
        group: &Arc<PriceGroup>,
        target: &Arc<PricedTarget>,
    ) -> Option<Arc<Charge>> {
        let make = || group.charge(&self.name, &target.target.id, target.price.as_ref());
        // A stored key may be of the snapshot before: its group has another's place then.
        let known = snapshot.price_groups.get(group.place).is_some_and(|own| Arc::ptr_eq(own, group));
        let place = self.targets.iter().position(|own| Arc::ptr_eq(own, target));
        match place.and_then(|place| self.charges.get(place)).filter(|_| known) {
            Some(charges) => charges.get(group, make),
            None => make().map(Arc::new),
        }
    }
}

/// A target with what it costs.
#[derive(Debug)]
pub struct PricedTarget {
    pub target: Target,
    /// Its provider's name and its own id as headers' values, as [`Model::said`].
    pub said: [Option<HeaderValue>; 2],
    /// `None`: not in the catalogue and not in the file. Calls are served and flagged unpriced, never counted as free.
    pub price: Option<Price>,
    /// The price as the ledger keeps it ([`Price::stated`]); empty where there is none.
    pub rates: Box<str>,
    /// The provider's, with what the model overrides.
    pub timeouts: Timeouts,
    /// Outlives this snapshot.
    pub vitals: Arc<Vitals>,
    /// How it is asked whether it is well; `None`: only calls tell.
    pub heartbeat: Option<Beat>,
    /// One for each credential of the provider, in their order; one where it has none. Never empty.
    pub seats: Box<[Seat]>,
    /// Of each credential, over all models; and with this one.
    pub account_limits: quota::Limits,
    pub limits: quota::Limits,
    /// What providers say of their limits is worth remembering: there is another credential or target to go to.
    pub learns: bool,
    pub region: Option<String>,
    pub attributes: Vec<String>,
    /// Lowest first, in `priority`.
    pub tier: u32,
    /// Of [`Model::split`].
    pub arm: Option<usize>,
    /// Tells it from others where calls stick.
    pub salt: u64,
    /// From each home of `routing.distances`.
    pub distances: Box<[u32]>,
}

/// How a target, or all targets of a provider together, are asked whether they are well.
#[derive(Clone, Debug)]
pub struct Beat {
    pub rules: Arc<Heartbeat>,
    /// Of the target, or of the provider where one question goes for all its targets.
    pub pulse: Arc<Pulse>,
    /// One question goes for all targets of the provider that have it.
    pub shared: bool,
}

/// What a model is known to lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    pub tools: bool,
    pub vision: bool,
    pub schema: bool,
}

impl Lacks {
    pub fn of(abilities: &Abilities) -> Lacks {
        Lacks {
            tools: abilities.tools == Some(false),
            vision: abilities.vision == Some(false),
            schema: abilities.structured_output == Some(false),
        }
    }

    #[must_use]
    pub fn or(self, other: Lacks) -> Lacks {
        Lacks {
            tools: self.tools || other.tools,
            vision: self.vision || other.vision,
            schema: self.schema || other.schema,
        }
    }
}

/// A credential at a target.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The credential, whatever it is used for.
    pub account: Arc<Account>,
    /// The credential with this model.
    pub here: Arc<Account>,
}

/// Parts of a model's calls for named groups of its targets.
#[derive(Debug)]
pub struct Split {
    /// Names and parts.
    pub arms: Vec<(String, u32)>,
    pub sum: u64,
    /// What keeps calls in one arm, the first that a call has; empty: each is drawn anew.
    pub by: Vec<By>,
    /// Two models do not put the same callers into their canaries.
    pub salt: u64,
}

impl Split {
    /// The arm of a uniform number below `sum`.
    pub fn arm(&self, drawn: u64) -> usize {
        let mut end = 0;
        let found = self.arms.iter().position(|(_, part)| {
            end += u64::from(*part);
            drawn < end
        });
        found.unwrap_or(0)
    }
}

/// The rules for all calls.
#[derive(Debug)]
pub struct Rulebook {
    pub rules: Vec<Arc<Rule>>,
    /// There is something to be decided: rules, these or a model's, or classes in shadow.
    pub any: bool,
    /// Of `time` in conditions.
    pub zone: TimeZone,
}

/// A caller's credential.
#[derive(Debug)]
pub struct Key {
    pub id: String,
    pub user: Option<String>,
    pub project: Option<String>,
    pub team: Option<String>,
    pub organisation: Option<String>,
    /// Itself, and whom it belongs to, in the order of [`Kind`](crate::policy::tenancy::Kind).
    pub levels: Box<[Arc<Level>]>,
    /// Of all its levels.
    pub tags: Vec<(String, String)>,
    /// A lasting loss refuses its calls.
    pub strict: bool,
    /// What it shares with other keys is in its own fields.
    pub tier: Option<String>,
    pub strategy: Option<Strategy>,
    /// Models to go on with instead of each model's own.
    pub fallback: Option<Vec<String>>,
    /// Of its calls that do not say.
    pub urgency: Option<Urgency>,
    /// Where its tier lets its calls be served, beside what its levels say; empty: anywhere.
    pub regions: Vec<String>,
    /// What each of its targets must have, by its levels and its tier.
    pub attributes: Vec<String>,
    /// Where its callers are: a place in [`PricedTarget::distances`].
    pub home: Option<usize>,
    /// Its part where calls have to wait.
    pub weight: u32,
    /// Some level of it forbids some function, or some address: few do.
    pub guarded: bool,
    /// Some level of it has limits.
    pub limited: bool,
    /// Some level of it has a budget.
    pub budgeted: bool,
    /// Some level of it has only what was paid in: what nobody knows the price of cannot be paid for from that.
    pub prepaid: bool,
    /// By which its calls are charged: of the nearest level that says; `None`: what they cost.
    pub group: Option<Arc<PriceGroup>>,
    /// Some level of it, or its tier, says where its calls may be served.
    pub bound: bool,
}

impl Key {
    /// Whether it may name this model.
    pub fn may_use(&self, model: &str) -> bool {
        self.levels.iter().all(|level| level.may_use(model))
    }

    /// One of the gateway's own, for calls that it makes of its own accord.
    pub fn own(id: &str) -> Key {
        Tenants::default().key(&file::Key { id: id.to_owned(), ..file::Key::default() })
    }

    /// The budgets of all its levels, its own first.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.levels.iter().flat_map(|level| &level.budgets)
    }

    /// Its tags, then those that a caller wrote.
    pub fn and_caller<'t>(&'t self, tags: &'t [(String, String)]) -> impl Iterator<Item = (&'t str, &'t str)> + Clone {
        self.tags.iter().chain(tags).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether a target in this region may serve it.
    pub fn serves_in(&self, region: Option<&str>) -> bool {
        !self.bound
            || (self.levels.iter().all(|level| level.serves_in(region))
                && (self.regions.is_empty()
                    || region.is_some_and(|region| self.regions.iter().any(|own| own == region))))
    }

    /// The first of its levels that may not be used now, and why. `now` is Unix seconds.
    pub fn standing(&self, now: u64) -> Result<(), (&Level, Standing)> {
        let standing = self.levels.iter().map(|level| (&**level, level.standing(now)));
        match { standing }.find(|(_, standing)| *standing != Standing::Good) {
            Some(found) => Err(found),
            None => Ok(()),
        }
    }
}
