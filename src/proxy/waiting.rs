//! Waits for room at providers, in a line for each model, as long as the caller does.
//!
//! Calls that may go to other targets than the rest, for their regions or attributes, have a line of their own: nobody
//! waits behind a call for what that call alone cannot have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora::proxy::Session;
use tokio::sync::Notify;

use super::context::Ctx;
use super::dispatch;
use super::state::Shared;
use crate::exchange::{Plan, Refusal};
use crate::policy::queue::{Arrival, Queue, Ticket};

/// How often the first in the line looks for itself: a bound for what nobody tells of.
const LOOK: Duration = Duration::from_secs(1);
/// Lines that are kept while nobody stands in them: an empty one remembers who was served, and how fast.
const KEPT: usize = 1_024;

/// By model, and by the targets of it that calls may go to ([`Plan::line`]).
type ByLine = HashMap<(String, u64), Queue<Arc<Waker>>>;

/// The lines of this process.
#[derive(Default)]
pub struct Lines {
    waiting: AtomicUsize,
    lines: Mutex<ByLine>,
}

/// What wakes a call that waits.
#[derive(Default)]
struct Waker {
    notify: Notify,
    /// It is to go: the line is full, and its tenant fills it.
    pushed_out: AtomicBool,
}

impl Lines {
    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// There may be room: the first of each line looks.
    pub fn wake(&self) {
        if self.waiting() == 0 {
            return;
        }
        for queue in self.lock().values() {
            if let Some((_, waker)) = queue.first() {
                waker.notify.notify_one();
            }
        }
    }

    /// Whether calls like this one wait already.
    fn is_crowded(&self, plan: &Plan) -> bool {
        self.waiting() != 0 && self.lock().get(&plan.line()).is_some_and(|queue| !queue.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, ByLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place in a line; it leaves with the value.
pub struct Place {
    shared: Arc<Shared>,
    line: (String, u64),
    ticket: Ticket,
    waker: Arc<Waker>,
    /// Monotonic microseconds.
    since: u64,
    served: bool,
}

impl Place {
    /// The call has its target.
    pub fn served(mut self) {
        self.served = true;
    }

    fn is_first(&self) -> bool {
        let lines = self.shared.lines.lock();
        lines.get(&self.line).and_then(Queue::first).is_some_and(|(ticket, _)| ticket == self.ticket)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.shared.now().mono;
        let mut lines = self.shared.lines.lock();
        if let Some(queue) = lines.get_mut(&self.line) {
            if self.served {
                queue.serve(self.ticket, now);
            } else {
                queue.leave(self.ticket);
            }
            if let Some((_, waker)) = queue.first() {
                waker.notify.notify_one();
            }
        }
        drop(lines);
        self.shared.lines.waiting.fetch_sub(1, Relaxed);
    }
}

/// Whether a new call has to go behind others.
pub fn is_crowded(ctx: &Ctx) -> bool {
    ctx.plan.as_ref().is_some_and(|plan| ctx.shared.lines.is_crowded(plan))
}

/// Comes back when it is the call's turn to look for room, which may be there from `until` on (monotonic microseconds;
/// `u64::MAX`: when a call is over).
///
/// # Errors
/// There will be none in time; `None`: the client is gone.
pub async fn room(
    session: &mut Session,
    ctx: &mut Ctx,
    until: u64,
    place: &mut Option<Place>,
) -> Result<(), Option<Refusal>> {
    // Room may have come between the look and the place in the line: who is first there looks again at once.
    let (mut look, mine) = match place {
        Some(place) => (false, place),
        None => {
            let entered = enter(ctx, until)?;
            (until == u64::MAX, place.insert(entered))
        }
    };
    let longest = ctx.served.snapshot.queue.wait;
    loop {
        let now = ctx.shared.now();
        let Some(plan) = &ctx.plan else { return Err(Some(Refusal::Bug { what: "a wait without a plan" })) };
        let waited = Duration::from_micros(now.mono.saturating_sub(mine.since));
        if mine.waker.pushed_out.load(Relaxed) || waited >= longest {
            return Err(Some(plan.resting(until.max(now.mono + 1_000_000), true, now)));
        }
        let first = mine.is_first();
        if first && (look || until <= now.mono) || plan.left(now).is_zero() {
            return Ok(());
        }
        let mut wait = plan.left(now).min(longest - waited);
        if first {
            let due = if until == u64::MAX { LOOK } else { Duration::from_micros(until - now.mono) };
            wait = wait.min(due);
        }
        let waker = mine.waker.clone();
        dispatch::pause(session, ctx, wait, waker.notify.notified()).await.map_err(|_| ctx.refusal.take())?;
        look = true;
    }
}

/// Takes a place in the line.
fn enter(ctx: &Ctx, until: u64) -> Result<Place, Option<Refusal>> {
    let shared = &ctx.shared;
    let now = shared.now();
    let (Some(plan), Some(key)) = (&ctx.plan, &ctx.key) else {
        return Err(Some(Refusal::Bug { what: "a wait without a call" }));
    };
    let rules = ctx.served.snapshot.queue;
    let wait = Duration::from_micros(until.saturating_sub(now.mono));
    if until != u64::MAX && wait > plan.left(now).min(rules.wait) {
        return Err(Some(plan.resting(until, true, now)));
    }
    let arrival = Arrival {
        tenant: &key.id,
        weight: key.weight,
        urgency: plan.urgency(),
        cost: plan.tokens(),
        now: now.mono,
        deadline: plan.deadline,
    };
    let waker = Arc::new(Waker::default());
    let line = plan.line();
    let pushed = {
        let mut lines = shared.lines.lock();
        if lines.len() >= KEPT {
            // Callers choose regions and attributes, and reloads rename models: lines that nobody comes to any more.
            lines.retain(|_, queue| !queue.is_empty());
        }
        lines.entry(line.clone()).or_default().push(&rules, &arrival, waker.clone())
    };
    match pushed {
        Ok((ticket, pushed_out)) => {
            if let Some(other) = pushed_out {
                other.pushed_out.store(true, Relaxed);
                other.notify.notify_one();
            }
            shared.lines.waiting.fetch_add(1, Relaxed);
            Ok(Place { shared: shared.clone(), line, ticket, waker, since: now.mono, served: false })
        }
        Err(full) => {
            let retry_after = if until == u64::MAX { full.retry_after } else { full.retry_after.max(wait) };
            Err(Some(Refusal::Resting { retry_after, limited: true }))
        }
    }
}
