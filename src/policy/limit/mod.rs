//! How much callers may take: requests, tokens, money and more in a time, and calls at once, at every level they belong to.
//!
//! A call takes of all limits of all its levels or of none. What is not known beforehand (tokens, money) is taken by
//! estimate and put right when the call is over; what a call did not use is given back. The states are atomics, one for
//! each limit of each level, and outlive the snapshot that has the rules ([`super::Live`]), so a reload never forgives.
//!
//! Not `pingora-limits`: its `Rate` and `Inflight` are sketches, which count callers together whose hashes meet, cannot
//! give back what was taken, and know no window but two halves of an interval. That suits addresses without number; who is
//! limited here is known by name, and is told exactly what is left.

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use jiff::tz::TimeZone;

use super::Moment;
use super::price::{self, Nano};
pub use state::State;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Calls, whatever they ask for.
    Requests,
    InputTokens,
    OutputTokens,
    /// Input and output.
    Tokens,
    /// Pictures sent in.
    Images,
    /// Characters of text sent in.
    Characters,
    /// Nano-dollars.
    Spend,
    /// Calls at once.
    Concurrency,
}

impl Of {
    pub const ALL: [Of; 8] = [
        Of::Requests,
        Of::InputTokens,
        Of::OutputTokens,
        Of::Tokens,
        Of::Images,
        Of::Characters,
        Of::Spend,
        Of::Concurrency,
    ];

    /// As in the file and in labels.
    pub fn name(self) -> &'static str {
        match self {
            Of::Requests => "requests",
            Of::InputTokens => "input_tokens",
            Of::OutputTokens => "output_tokens",
            Of::Tokens => "tokens",
            Of::Images => "images",
            Of::Characters => "characters",
            Of::Spend => "spend",
            Of::Concurrency => "concurrency",
        }
    }
}

/// The length of a window, shortest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
}

impl Per {
    pub fn name(self) -> &'static str {
        match self {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
        }
    }

    /// Its microseconds; a calendar's day may be an hour longer or shorter.
    fn micros(self) -> u64 {
        1_000_000
            * match self {
                Per::Second => 1,
                Per::Minute => 60,
                Per::Hour => 3_600,
                Per::Day => 86_400,
            }
    }
}

/// How a limit counts.
#[derive(Clone, Debug)]
pub enum By {
    /// Never more than the limit in any window, wherever it begins.
    SlidingWindow,
    /// What flows in steadily, of which so much can be saved up.
    TokenBucket { burst: u64 },
    /// From one boundary of the calendar to the next.
    FixedWindow { zone: TimeZone },
    /// So many at the same time; the window is of no account.
    AtOnce,
}

impl By {
    pub fn name(&self) -> &'static str {
        match self {
            By::SlidingWindow => "sliding_window",
            By::TokenBucket { .. } => "token_bucket",
            By::FixedWindow { .. } => "fixed_window",
            By::AtOnce => "at_once",
        }
    }
}

/// More than the limit, while the gateway is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elastic {
    /// What holds then in the limit's place.
    pub most: u64,
    /// Idle means: this many calls in flight at most, the one that asks included, and none that waits for a provider.
    pub calls: u64,
}

/// One limit of one level.
#[derive(Clone, Debug)]
pub struct Limit {
    pub of: Of,
    pub most: u64,
    pub per: Per,
    pub by: By,
    pub elastic: Option<Elastic>,
    /// Outlives the snapshot.
    pub state: Arc<State>,
}

impl Limit {
    /// What the state is known by among those of its level: how much is no part of it, so that a limit that is raised or
    /// lowered goes on with what was taken.
    pub fn id(of: Of, per: Per, by: &By) -> String {
        match by {
            By::AtOnce => of.name().to_owned(),
            by => format!("{}/{}/{}", of.name(), per.name(), by.name()),
        }
    }

    /// As in labels: `requests_per_minute`.
    pub fn name(&self) -> String {
        match self.by {
            By::AtOnce => self.of.name().to_owned(),
            _ => format!("{}_per_{}", self.of.name(), self.per.name()),
        }
    }

    /// In words: `60 requests a minute`.
    pub fn words(&self) -> String {
        let per = match self.per {
            Per::Hour => "an hour".to_owned(),
            per => format!("a {}", per.name()),
        };
        let most = self.most;
        match self.of {
            Of::Concurrency => format!("{most} calls at once"),
            Of::Spend => format!("{} US dollars {per}", price::cost_decimal(most)),
            Of::InputTokens => format!("{most} input tokens {per}"),
            Of::OutputTokens => format!("{most} output tokens {per}"),
            of => format!("{most} {} {per}", of.name()),
        }
    }

    /// What holds now.
    fn most(&self, load: u64) -> u64 {
        match self.elastic {
            Some(elastic) if load <= elastic.calls => elastic.most.max(self.most),
            _ => self.most,
        }
    }

    /// Whether so much could ever be taken at once.
    fn holds(&self, n: u64) -> bool {
        let most = match self.by {
            By::TokenBucket { burst } => burst,
            _ => self.most.max(self.elastic.map_or(0, |elastic| elastic.most)),
        };
        n <= most
    }

    /// How much of it is left.
    pub fn standing(&self, at: At) -> Standing {
        self.state.standing(self, self.most(at.load), at.now)
    }
}

/// The states of the limits of all levels.
#[derive(Debug, Default)]
pub struct States(DashMap<String, Arc<State>>);

impl States {
    /// What was taken of a limit; `level` is of its kind and id. Made on first sight.
    pub fn state(&self, level: &str, of: Of, per: Per, by: &By) -> Arc<State> {
        let made = || Arc::new(State::new(per, by));
        self.0.entry(format!("{level}/{}", Limit::id(of, per, by))).or_insert_with(made).clone()
    }

    /// Forgets what nobody has any more, once it counts no more: its level may only be out of memory for a while.
    pub fn forget(&self, now: Moment) {
        self.0.retain(|_, state| Arc::strong_count(state) > 1 || !state.is_blank(now));
    }
}

/// The state of the world when a call comes.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub now: Moment,
    /// Calls in flight in the whole gateway, this one included; `u64::MAX` while some wait for room at providers.
    pub load: u64,
}

/// What a call takes of each limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub requests: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub images: u64,
    pub characters: u64,
    pub spend: Nano,
    /// 1 for a call that is worked on, 0 for one that is answered from memory.
    pub concurrency: u64,
}

impl Ask {
    pub fn of(&self, of: Of) -> u64 {
        match of {
            Of::Requests => self.requests,
            Of::InputTokens => self.input_tokens,
            Of::OutputTokens => self.output_tokens,
            Of::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Of::Images => self.images,
            Of::Characters => self.characters,
            Of::Spend => self.spend,
            Of::Concurrency => self.concurrency,
        }
    }
}

/// What was taken of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    taken: u64,
    /// Where, in the state's own terms.
    mark: u64,
}

/// How much of a limit is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub limit: u64,
    pub remaining: u64,
    /// Until it is whole again, if nothing more is taken.
    pub reset: Duration,
}

/// When what was refused can be taken, if nobody takes anything meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Microseconds.
    Micros(u64),
    /// When a call is over, or when the gateway is idle: nobody knows.
    Unknown,
    /// It is more than the limit ever lets through.
    Never,
}

impl Wait {
    fn rank(self) -> u64 {
        match self {
            Wait::Unknown => 0,
            Wait::Micros(micros) => micros.min(u64::MAX - 1),
            Wait::Never => u64::MAX,
        }
    }
}

/// A limit lets a call not through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place among those that were given.
    pub place: usize,
    pub wait: Wait,
}

/// Rounds until a refusal is believed while others take and give back at the same time.
const ROUNDS: usize = 1_000;

/// Takes of all limits, or of none.
///
/// # Errors
/// The limit that keeps the call longest, and how long.
pub fn take<'l, I>(limits: I, ask: &Ask, at: At) -> Result<Box<[Part]>, Refused>
where
    I: Iterator<Item = &'l Limit> + Clone,
{
    let mut round = 0;
    loop {
        round += 1;
        if let Some((refused, certain)) = refusal(limits.clone(), ask, at) {
            // Somebody has taken what he may have to give back this very moment.
            if !certain && round < ROUNDS {
                std::hint::spin_loop();
                continue;
            }
            return Err(refused);
        }
        match take_each(limits.clone(), ask, at) {
            Ok(parts) => return Ok(parts),
            Err(refused) if round >= ROUNDS => return Err(refused),
            Err(_) => {}
        }
    }
}

/// The limit that keeps a call longest; and whether that is certain, or others take and give back meanwhile.
fn refusal<'l>(limits: impl Iterator<Item = &'l Limit>, ask: &Ask, at: At) -> Option<(Refused, bool)> {
    let mut longest: Option<Refused> = None;
    let mut certain = false;
    for (place, limit) in limits.enumerate() {
        let n = ask.of(limit.of);
        if n == 0 {
            continue;
        }
        let before = limit.state.mark();
        let wait = if limit.holds(n) {
            match limit.state.room(limit, n, limit.most(at.load), at.now) {
                Ok(()) => continue,
                Err(wait) => wait,
            }
        } else {
            Wait::Never
        };
        certain |= wait == Wait::Never || (State::is_quiet(before) && limit.state.mark() == before);
        if longest.is_none_or(|other| wait.rank() > other.wait.rank()) {
            longest = Some(Refused { place, wait });
        }
    }
    longest.map(|refused| (refused, certain))
}

fn take_each<'l, I>(limits: I, ask: &Ask, at: At) -> Result<Box<[Part]>, Refused>
where
    I: Iterator<Item = &'l Limit> + Clone,
{
    let mut parts = Vec::with_capacity(limits.size_hint().0.max(4));
    let mut refused = None;
    for (place, limit) in limits.clone().enumerate() {
        let n = ask.of(limit.of);
        limit.state.begin();
        let taken = match n {
            0 => Ok(0),
            n => limit.state.take(limit, n, limit.most(at.load), at.now),
        };
        match taken {
            Ok(mark) => parts.push(Part { taken: n, mark }),
            Err(wait) => {
                limit.state.end(true);
                refused = Some(Refused { place, wait });
                break;
            }
        }
    }
    for (limit, part) in limits.zip(&parts) {
        if refused.is_some() {
            limit.state.give_back(limit, part.mark, part.taken, at.now);
        }
        limit.state.end(refused.is_some());
    }
    refused.map_or_else(|| Ok(parts.into()), Err)
}

/// Puts right what was taken of such limits, by what was used.
pub fn settle<'l>(
    limits: impl Iterator<Item = &'l Limit>,
    parts: &mut [Part],
    which: impl Fn(Of) -> bool,
    used: &Ask,
    now: Moment,
) {
    for (limit, part) in limits.zip(parts) {
        if !which(limit.of) {
            continue;
        }
        let used = used.of(limit.of);
        if used < part.taken {
            limit.state.give_back(limit, part.mark, part.taken - used, now);
        } else if used > part.taken {
            limit.state.add(limit, used - part.taken, now);
        }
        part.taken = used;
    }
}

/// The one of which least is left, among those that count this.
pub fn tightest<'l>(limits: impl Iterator<Item = &'l Limit>, of: Of, at: At) -> Option<Standing> {
    limits.filter(|limit| limit.of == of).map(|limit| limit.standing(at)).min_by_key(|standing| standing.remaining)
}
