//! What a call takes of the limits of its key and of those the key belongs to, until it is known what it has used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Attempt, Call, Plan, Refusal, estimate};
use crate::config::snapshot::Key;
use crate::dialect::Inbound;
use crate::ir::Usage;
use crate::policy::Moment;
use crate::policy::limit::{self, Ask, At, Limit, Of, Part, Standing, Wait};
use crate::policy::price::Nano;
use crate::policy::tenancy::Level;

/// Tokens of a prompt from which on it is worth a look at what they are: a picture is many bytes and few tokens.
const LONG: u64 = 4_096;

/// Taken of all limits of all levels, and put right when the last one that has it is done: concurrency when the call's own
/// way is over, tokens and money when nothing works for it any more.
#[derive(Debug)]
pub struct Allotment {
    key: Arc<Key>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    parts: Box<[Part]>,
    asked: Ask,
    used: Ask,
    /// Some attempt was made, or an answer given.
    worked: bool,
    /// The last that is known of the time.
    now: Moment,
}

impl Allotment {
    /// Takes what a call asks for; nothing where no level has limits.
    ///
    /// # Errors
    /// Some limit does not let it through: the one that keeps it longest.
    pub fn take(key: &Arc<Key>, asked: Ask, at: At) -> Result<Option<Arc<Allotment>>, Refusal> {
        if !key.limited {
            return Ok(None);
        }
        match limit::take(limits(key), &asked, at) {
            Ok(parts) => {
                let state = State { parts, asked, used: Ask::default(), worked: false, now: at.now };
                Ok(Some(Arc::new(Allotment { key: key.clone(), state: Mutex::new(state) })))
            }
            Err(refused) => {
                let all = key.levels.iter().flat_map(|level| level.limits.iter().map(move |limit| (level, limit)));
                let found = { all }.nth(refused.place);
                Err(match found {
                    Some((level, limit)) => refusal(level, limit, refused.wait, asked.of(limit.of)),
                    None => Refusal::Bug { what: "a limit that is nowhere" },
                })
            }
        }
    }

    /// The call was not refused: it counts as one.
    pub fn worked(&self) {
        self.lock().worked = true;
    }

    /// An attempt has used so much. What one has cost that nobody waited for in the end counts as money, and not as tokens
    /// that the caller asked for.
    pub fn used(&self, usage: Option<&Usage>, cost: Nano, abandoned: bool, now: Moment) {
        let mut state = self.lock();
        if let Some(usage) = usage.filter(|_| !abandoned) {
            state.used.input_tokens = state.used.input_tokens.saturating_add(usage.input);
            state.used.output_tokens = state.used.output_tokens.saturating_add(usage.output);
        }
        state.used.spend = state.used.spend.saturating_add(cost);
        state.worked = true;
        state.now = now;
    }

    /// The answer is whole, and about to be handed out: what the last attempt will be settled with counts from now on, since
    /// the caller's next call may come before that.
    pub fn whole(&self, attempt: &Attempt, call: &Call, now: Moment) {
        let mut state = self.lock();
        let mut used = state.used;
        if let Some((usage, _)) = attempt.usage(call) {
            used.input_tokens = used.input_tokens.saturating_add(usage.input);
            used.output_tokens = used.output_tokens.saturating_add(usage.output);
            used.spend = used.spend.saturating_add(attempt.terms.cost(&usage).unwrap_or(0));
        }
        state.now = now;
        self.settle(&mut state, |of| matches!(of, Of::InputTokens | Of::OutputTokens | Of::Tokens | Of::Spend), &used);
        self.settle(&mut state, |of| of == Of::Concurrency, &Ask::default());
    }

    /// The call's own way is over.
    pub fn over(&self, now: Moment) {
        let mut state = self.lock();
        state.now = now;
        self.settle(&mut state, |of| of == Of::Concurrency, &Ask::default());
    }

    fn settle(&self, state: &mut State, which: impl Fn(Of) -> bool, used: &Ask) {
        let now = state.now;
        limit::settle(limits(&self.key), &mut state.parts, which, used, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Allotment {
    fn drop(&mut self) {
        let mut state = self.lock();
        let mut used = state.used;
        if state.worked {
            (used.requests, used.images, used.characters) =
                (state.asked.requests, state.asked.images, state.asked.characters);
        }
        self.settle(&mut state, |_| true, &used);
    }
}

/// All limits of a key's levels, the key's own first.
fn limits(key: &Key) -> impl Iterator<Item = &Limit> + Clone {
    key.levels.iter().flat_map(|level| level.limits.iter())
}

/// A call that is answered from memory.
pub fn small() -> Ask {
    Ask { requests: 1, ..Ask::default() }
}

/// What a call asks for, as far as its key's limits want to know.
pub fn ask(key: &Key, call: &Call, plan: &Plan, inbound: &dyn Inbound) -> Ask {
    if !key.limited {
        return Ask::default();
    }
    if call.count {
        return small();
    }
    let has = |wanted: &[Of]| limits(key).any(|limit| wanted.contains(&limit.of));
    let tokens = has(&[Of::InputTokens, Of::Tokens]);
    let mut ask = Ask { requests: 1, concurrency: 1, input_tokens: call.input_estimate, ..Ask::default() };
    if has(&[Of::Images, Of::Characters]) || (tokens && call.input_estimate > LONG) {
        match inbound.decode(&call.body) {
            Ok(request) => {
                let size = estimate::size(&request);
                ask.input_tokens = ask.input_tokens.min(size.tokens);
                (ask.images, ask.characters) = (size.images, size.characters);
            }
            // Whoever can read it will find text in it.
            Err(_) => ask.characters = call.input_estimate.saturating_mul(4),
        }
    }
    ask.output_tokens = match plan.output(call.max_output) {
        (most, true) => most,
        // A guess of ours is no reason to refuse what may well fit.
        (usual, false) => limits(key).fold(usual, |usual, limit| match limit.of {
            Of::OutputTokens => usual.min(limit.most),
            Of::Tokens => usual.min(limit.most.saturating_sub(ask.input_tokens)),
            _ => usual,
        }),
    };
    if has(&[Of::Spend]) {
        ask.spend = plan.worst_case(ask.input_tokens, ask.output_tokens);
    }
    ask
}

fn refusal(level: &Level, limit: &Limit, wait: Wait, asked: u64) -> Refusal {
    Refusal::Limited {
        kind: level.kind,
        id: level.id.clone(),
        of: limit.of,
        name: limit.name(),
        words: limit.words(),
        asked,
        wait: match wait {
            Wait::Micros(micros) => Some(Duration::from_micros(micros)),
            Wait::Unknown => Some(Duration::from_secs(1)),
            Wait::Never => None,
        },
    }
}

/// What is left of a key's limits, the tightest of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub requests: Option<Standing>,
    pub tokens: Option<Standing>,
    pub input_tokens: Option<Standing>,
    pub output_tokens: Option<Standing>,
}

impl Left {
    pub fn of(key: &Key, at: At) -> Left {
        let tightest = |of| limit::tightest(limits(key), of, at);
        Left {
            requests: tightest(Of::Requests),
            tokens: tightest(Of::Tokens),
            input_tokens: tightest(Of::InputTokens),
            output_tokens: tightest(Of::OutputTokens),
        }
    }
}
