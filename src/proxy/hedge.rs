//! Hedged calls: where a target is late, another is asked beside it, and the first to have content answers.
//!
//! The second attempt runs in a task of its own ([`super::side`]); the stand-in for the client's session listens for it as
//! it waits for the first one. If the second has content first, the proxy loop is ended with an error of ours, its
//! attempt is settled as outpaced, and [`serve`] gives the caller the second one's answer. If the first has content
//! first, or the caller leaves, the [`Race`] is dropped and the second attempt with it. If the first fails, the second is
//! waited for before any other is made.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::context::Ctx;
use super::side::{Adopted, Errand, Exchange, Unanswered};
use super::state::Served;
use super::{budgets, dispatch, downstream, heads, relaying};
use crate::exchange::{Aside, Attempt, Making, Plan};
use crate::policy::route::hedge::{Hedge, Hedges};
use crate::telemetry::Metrics;

/// Where the second attempt is made, once it is: model and place in the plan, and its number.
#[derive(Default)]
pub struct Begun(OnceLock<((usize, usize), u32)>);

impl Begun {
    pub fn get(&self) -> Option<((usize, usize), u32)> {
        self.0.get().copied()
    }
}

/// A second attempt that may come.
pub struct Race {
    came: oneshot::Receiver<Exchange>,
    begun: Arc<Begun>,
    task: AbortHandle,
    metrics: Arc<Metrics>,
    model: String,
    /// It came, or will not come any more.
    over: bool,
}

impl Race {
    /// Whether the second attempt was begun and is not over.
    pub fn is_on(&self) -> bool {
        !self.over && self.begun.get().is_some()
    }

    /// The second attempt's answer once it has content; nothing where there will be none.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Box<Exchange>>> {
        Pin::new(&mut self.came).poll(context).map(|came| {
            self.over = true;
            came.ok().map(Box::new)
        })
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        // The attempt settles itself where it is dropped.
        self.task.abort();
        if self.is_on() {
            self.metrics.hedges.with_label_values(&[&self.model, "lost"]).inc();
        }
    }
}

/// What a second attempt is made from.
struct Second {
    errand: Errand,
    plan: Plan,
    rules: Arc<Hedge>,
    hedges: Arc<Hedges>,
    number: u32,
    begun: Arc<Begun>,
}

/// Lets a second attempt begin if the current one is late, where its model wants that.
pub fn arm(session: &Session, ctx: &mut Ctx) {
    let Some((rules, hedges)) = ctx.plan.as_ref().and_then(Plan::hedge).cloned() else { return };
    let (Some(gate), Some(call), Some(key), Some(plan), Some(current)) =
        (&ctx.gate, &ctx.call, &ctx.key, &ctx.plan, &ctx.current)
    else {
        return;
    };
    if call.count || ctx.hedge.as_ref().is_some_and(|begun| begun.get().is_some()) || gate.is_racing() {
        return;
    }
    if ctx.hedge.is_none() {
        hedges.earn(&rules);
    }
    let Some(delay) = rules.delay(&current.attempt.candidate.target.vitals, call.stream) else { return };
    let begun = Arc::new(Begun::default());
    let second = Second {
        errand: Errand {
            shared: ctx.shared.clone(),
            served: ctx.served.clone(),
            id: ctx.id,
            request_id: ctx.request_id.clone(),
            dialect: ctx.dialect,
            call: call.clone(),
            key: key.clone(),
            headers: heads::carried(&session.req_header().headers),
            cooling: plan.cooling(),
            deadline: ctx.shared.instant(plan.deadline),
            explanation: ctx.explanation.clone(),
            allotment: ctx.allotment.clone(),
        },
        plan: plan.clone(),
        rules,
        hedges,
        number: current.attempt.number + 1,
        begun: begun.clone(),
    };
    let (model, metrics) = (current.attempt.candidate.model.name.clone(), ctx.shared.metrics.clone());
    let (tell, came) = oneshot::channel();
    let task = tokio::spawn(async move {
        sleep(delay).await;
        let served = second.errand.served.clone();
        let (model, metrics) = (second.plan.asked().to_owned(), second.errand.shared.metrics.clone());
        match ask(second, &served).await {
            // Whoever waited may have left at this very moment: then it is dropped here.
            Ok(exchange) => drop(tell.send(exchange)),
            Err(why) => metrics.hedges.with_label_values(&[&model, why]).inc(),
        }
    });
    gate.race(Race { came, begun: begun.clone(), task: task.abort_handle(), metrics, model, over: false });
    ctx.hedge = Some(begun);
}

/// Makes the second attempt.
///
/// # Errors
/// Why there is none, as the metric calls it.
async fn ask(second: Second, served: &Served) -> Result<Exchange, &'static str> {
    let Second { errand, plan, rules, hedges, number, begun } = second;
    let now = errand.shared.now();
    let beside = plan.beside(now, rules.fallback, &mut || fastrand::u64(..));
    let Some((candidate, held, place)) = beside else { return Err("nowhere") };
    if dispatch::priced(&served.snapshot, Some(&errand.key), &errand.call, &candidate).is_err() {
        return Err("nowhere");
    }
    let making = Making {
        snapshot: &served.snapshot,
        caller: errand.dialect,
        call: &errand.call,
        strict: errand.key.strict,
        bounded: errand.key.budgeted,
        group: errand.key.group.as_ref(),
        request_id: &errand.request_id,
        number,
        id: errand.shared.new_id(now),
        now,
    };
    let Ok(mut attempt) = Attempt::prepare(&making, candidate, held) else { return Err("nowhere") };
    attempt.aside = Some(Aside::Hedge);
    if budgets::reserve(&errand.key, &mut attempt).is_err() {
        return Err("over_budget");
    }
    let reserve = attempt.reserve();
    let Some(taken) = hedges.take(&rules, now.unix_ms, reserve.cost) else { return Err("capped") };
    attempt.taken = Some(taken);
    // Only set here, and once.
    let _ = begun.0.set((place, number));
    Exchange::begin(errand, Box::new(attempt)).await.map_err(|unanswered| match unanswered {
        Unanswered::Failed(_) => "failed",
        Unanswered::Unmetered => "nowhere",
    })
}

/// Waits for the second attempt where the first has failed already; comes back well if that failed too.
///
/// # Errors
/// The second attempt has an answer ([`downstream::HEDGED`]), or the wait is over for other reasons.
pub async fn wait(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let Some(gate) = ctx.gate.clone().filter(|gate| gate.is_hedged()) else { return Ok(()) };
    gate.wait_for_race();
    match session.downstream_session.read_body_or_idle(true).await {
        Err(error) if *error.etype() == downstream::OUT_OF_RACE => Ok(()),
        Err(mut error) if *error.etype() == downstream::HEDGED => {
            error.as_in();
            error.set_retry(false);
            Err(error)
        }
        Err(error) => Err(super::dispatch::interrupted(ctx, error)),
        Ok(_) => Ok(()),
    }
}

/// The first attempt was outpaced: it is over, and nobody waits for it any more.
pub fn outpaced(ctx: &mut Ctx) {
    let now = ctx.shared.now();
    if let Some(current) = &mut ctx.current {
        let attempt = &mut current.attempt;
        attempt.abandoned = true;
        // It has taken at least so long: a target is not quicker for being left early.
        let stream = attempt.terms.call.stream;
        attempt.candidate.target.vitals.outpaced(now.mono, stream, now.since(attempt.started));
    }
    ctx.attempt_over("outpaced", false);
}

/// Gives the caller the second attempt's answer.
///
/// # Errors
/// It broke, or the caller left.
pub async fn serve(session: &mut Session, ctx: &mut Ctx, won: Exchange) -> Result<()> {
    let labels = [ctx.plan.as_ref().map_or("", Plan::asked), "won"];
    ctx.shared.metrics.hedges.with_label_values(&labels).inc();
    let adopted =
        won.adopt().ok_or_else(|| Error::explain(ErrorType::InternalError, "an answer without an attempt"))?;
    let Adopted { current, mut line, ready, mut ended } = adopted;
    ctx.attempts = ctx.attempts.max(current.attempt.number);
    if let Some(flight) = &ctx.flight {
        flight.reserved(current.attempt.reserve());
    }
    ctx.current = Some(current);
    let headless = || Error::explain(ErrorType::InvalidHTTPHeader, "an answer without a head").into_up();
    let mut head = line.head().ok_or_else(headless)?;
    relaying::head(&mut head, ctx)?;
    relaying::handed(Some(&ready), false, ctx);
    if let Some(gate) = &ctx.gate {
        // Pingora closes the client's connection after a failed loop; the answer says so.
        gate.close_after();
    }
    let tasks = vec![HttpTask::Header(Box::new(head), false), HttpTask::Body(Some(ready), ended)];
    session.downstream_session.response_duplex_vec(tasks).await.map_err(Error::into_down)?;
    while !ended {
        let (mut body, end) = tokio::select! {
            biased;
            read = line.read() => read.map_err(Error::into_up)?,
            watched = session.downstream_session.read_body_or_idle(true) => {
                let left = || Error::explain(ErrorType::ConnectionClosed, "the client is gone").into_down();
                return Err(watched.err().map_or_else(left, Error::into_down));
            }
        };
        ended = end;
        relaying::chunk(&mut body, end, ctx)?;
        if end || body.as_ref().is_some_and(|body: &Bytes| !body.is_empty()) {
            let tasks = vec![HttpTask::Body(body, end)];
            session.downstream_session.response_duplex_vec(tasks).await.map_err(Error::into_down)?;
        }
    }
    line.release(&ctx.shared).await;
    Ok(())
}
