//! Budgets beside and around the calls: reserved before an attempt is journalled, read from the ledger, kept true by it.
//!
//! What was spent is known before anything is listened to ([`restore`]), before a reload is in force ([`learn`]), and
//! for keys that nobody has used yet at their first call. Where the ledger cannot be read, calls that a hard budget would
//! have to judge are refused until it can. What other processes spend (one that is being replaced, one that died) is
//! read every two seconds, where they have written anything; and now and then all is held against the rows.
//!
//! Attempts that the gateway makes of its own accord (probes, shadows) are the operator's: their rows belong to no caller, and
//! no caller's budget pays for them. A hedge is the caller's like any attempt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::state::Shared;
use crate::config::Snapshot;
use crate::config::snapshot::Key;
use crate::exchange::{Attempt, Refusal};
use crate::policy::Moment;
use crate::policy::budget::{self, Mark, Period, Reservation, Short, Span, Spending, Why};
use crate::policy::price::Amount;
use crate::store::ledger::{Asked, Error, Foreign, Spent};
use crate::telemetry::events;

/// How long the start waits for the ledger.
const START: Duration = Duration::from_secs(30);
/// How long a call waits for what was spent by a key that nobody has used yet.
const FIRST: Duration = Duration::from_secs(2);
/// How often it is asked whether other processes have written.
const TURN: Duration = Duration::from_secs(2);
/// How often all is held against the rows, and how many times longer than that took it is left alone at least.
const WHOLE: Duration = Duration::from_secs(60);
const REST: u32 = 100;
/// How long what was appended may take into the ledger before it is read.
const FLUSH: Duration = Duration::from_secs(1);

/// Reserves an attempt in the budgets of its caller.
///
/// # Errors
/// One has no room for it.
pub fn reserve(key: &Key, attempt: &mut Attempt) -> Result<(), Box<Short>> {
    if !key.budgeted || attempt.terms.call.count || attempt.reservation.is_some() {
        return Ok(());
    }
    attempt.reservation = budget::reserve(key.budgets(), attempt.begun.unix_ms, attempt.reserve())?;
    Ok(())
}

/// The same for a call's first attempt, which can wait until it is known what was spent.
///
/// # Errors
/// The refusal that the caller is told.
pub async fn first(shared: &Arc<Shared>, key: &Key, attempt: &mut Attempt) -> Result<(), Refusal> {
    let mut short = match reserve(key, attempt) {
        Ok(()) => return Ok(()),
        Err(short) => short,
    };
    if short.why == Why::Unknown {
        let shared = shared.clone();
        let read = tokio::task::spawn_blocking(move || learn(&shared, false));
        if let Ok(Ok(Ok(()))) = timeout(FIRST, read).await {
            match reserve(key, attempt) {
                Ok(()) => return Ok(()),
                Err(again) => short = again,
            }
        }
    }
    Err(refusal(short, attempt.begun.unix_ms))
}

/// Reserves the part that a caller may be charged of an answer that others are told too.
///
/// # Errors
/// The refusal that the caller is told.
pub fn part(key: &Key, most: Amount, began: Moment) -> Result<Option<Reservation>, Refusal> {
    if !key.budgeted || most == Amount::default() {
        return Ok(None);
    }
    budget::reserve(key.budgets(), began.unix_ms, most).map_err(|short| refusal(short, began.unix_ms))
}

/// What a caller is told whose budget has no room. `now` is Unix milliseconds.
pub fn refusal(short: Box<Short>, now: u64) -> Refusal {
    let retry_after = match (short.why, &short.anew) {
        (Why::Reserved | Why::Unknown, _) => Some(Duration::from_secs(1)),
        (_, Some((anew, _))) => Some(Duration::from_millis(anew.saturating_sub(now))),
        (_, None) => None,
    };
    Refusal::OverBudget { short, retry_after }
}

/// Reads what was spent before anything is listened to. Where that takes too long or fails, hard budgets refuse until it is
/// known.
pub fn restore(shared: &Arc<Shared>) {
    publish(&shared.served().snapshot);
    if shared.live.spendings().unknown().is_empty() {
        return;
    }
    let by = std::time::Instant::now() + START;
    // What dead processes have left is drained first.
    if !shared.ledger.flush(START) {
        tracing::warn!("the ledger is behind: what is spent of budgets may rise when it has caught up");
    }
    loop {
        match learn(shared, true) {
            Ok(()) => return,
            Err(error) if std::time::Instant::now() >= by => {
                return events::BudgetsUnknown { error: &error }.emit(&shared.metrics);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Reads for the budgets of which it is not known what was spent. `start`: nothing was dispatched by this process yet.
/// Blocks.
///
/// # Errors
/// The ledger cannot be read.
pub fn learn(shared: &Shared, start: bool) -> Result<(), Error> {
    let unknown = shared.live.spendings().unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    // What this process dispatches from now on counts by itself.
    let now = shared.now().unix_ms;
    let since = if start { 0 } else { now };
    if !start {
        shared.ledger.flush(FLUSH);
    }
    for (group, members) in grouped(unknown, now) {
        let spent = shared.ledger.spent(&group.asked(since, u64::MAX))?;
        for (spending, _) in members {
            let of = spent.get(&spending.level().id).copied().unwrap_or_default();
            spending.begin(group.span, of.others, since, now);
        }
    }
    Ok(())
}

/// Tells the states of all budgets of a snapshot how much they are.
pub fn publish(snapshot: &Snapshot) {
    let keys = snapshot.keys.values().chain(&snapshot.anonymous).filter(|key| key.budgeted);
    keys.flat_map(|key| key.budgets()).for_each(budget::Budget::publish);
}

/// Budgets that one question to the ledger answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    kind: &'static str,
    /// What is asked for are charges.
    charges: bool,
    span: Span,
    since: Option<u64>,
    born: u64,
}

impl Group {
    fn asked(&self, since: u64, born: u64) -> Asked {
        Asked { kind: self.kind, charges: self.charges, span: self.span, since, born }
    }
}

fn grouped(spendings: Vec<Arc<Spending>>, now: u64) -> HashMap<Group, Vec<(Arc<Spending>, Mark)>> {
    let mut groups: HashMap<Group, Vec<_>> = HashMap::new();
    for spending in spendings {
        let mark = spending.mark(now);
        let charges = spending.window().period == Period::Prepaid;
        let group = Group { kind: spending.level().kind, charges, span: mark.span, since: mark.since, born: mark.born };
        groups.entry(group).or_default().push((spending, mark));
    }
    groups
}

/// Holds all budgets against the rows of the ledger. Blocks.
fn check(shared: &Shared) -> Result<(), Error> {
    let now = shared.now().unix_ms;
    let groups = grouped(shared.live.spendings().all(), now);
    shared.ledger.flush(FLUSH);
    for (group, members) in groups {
        let Some(since) = group.since else { continue };
        let spent = shared.ledger.spent(&group.asked(since, group.born))?;
        for (spending, mark) in members {
            let Spent { all, others } = spent.get(&spending.level().id).copied().unwrap_or_default();
            let drift = spending.learn(mark, others, all);
            if drift != 0 {
                events::BudgetDrifted { budget: &spending.name(), nano: drift }.emit(&shared.metrics);
            }
        }
    }
    Ok(())
}

/// Keeps budgets true, and their metrics.
pub struct Keeper {
    pub shared: Arc<Shared>,
}

#[async_trait]
impl BackgroundService for Keeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(TURN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut due) = (None, Instant::now() + WHOLE);
        let mut swapped = self.shared.swapped.subscribe();
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                // Calls that go on by an older snapshot know nothing of budgets that are new.
                Ok(()) = swapped.changed() => due = due.min(Instant::now() + TURN),
                _ = ticks.tick() => {}
            }
            if self.shared.live.spendings().all().is_empty() {
                continue;
            }
            let shared = self.shared.clone();
            let all = Instant::now() >= due;
            let turn = tokio::task::spawn_blocking(move || turn(&shared, seen, all)).await;
            match turn {
                Ok(Ok((foreign, took))) => {
                    seen = Some(foreign);
                    if let Some(took) = took {
                        due = Instant::now() + WHOLE.max(took * REST);
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "what is spent of budgets cannot be read"),
                Err(_) => {}
            }
        }
    }
}

/// Reads what is not known yet, and all where others have written since or it is time; says what the others had written, and
/// how long the latter took.
fn turn(shared: &Shared, seen: Option<Foreign>, all: bool) -> Result<(Foreign, Option<Duration>), Error> {
    shared.live.spendings().forget();
    learn(shared, false)?;
    let foreign = shared.ledger.foreign()?;
    let begun = std::time::Instant::now();
    let took = if all || seen != Some(foreign) {
        check(shared)?;
        Some(begun.elapsed())
    } else {
        None
    };
    Ok((foreign, took))
}
