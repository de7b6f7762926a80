//! Shadows: a share of a model's calls is sent to another model too, whose answer nobody gets; it is compared with the one
//! that the caller got, and what they have in common is counted.
//!
//! A shadow runs beside its call in a task of its own ([`super::side`]), claims only what has room, is dropped where too
//! many are under way, and can neither slow nor fail the call. It is metered under a key that no caller has. Of both
//! answers so much is kept as comparing takes, for as long as the longer of them lasts.

use std::sync::Arc;

use bytes::Bytes;
use pingora::proxy::Session;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::context::Ctx;
use super::heads;
use super::intake::Share;
use super::side::{Errand, Exchange, Unanswered};
use super::state::{Served, Shared};
use crate::config::snapshot::Key;
use crate::dialect::Dialect;
use crate::exchange::compare::{Gist, finish_name};
use crate::exchange::{Aside, Attempt, Call, Candidate, Held, Making, Plan};
use crate::policy::Moment;
use crate::policy::route::shadow::{Shadow, Slot};

/// Whose rows of the ledger shadows are. No key is called so.
pub const KEY: &str = "@shadow";
/// Most of an answer that is kept for comparing.
const MOST: usize = 256 << 10;

/// An answer as it was told, as far as it is worth comparing.
#[derive(Default)]
pub struct Heard {
    parts: Vec<Bytes>,
    size: usize,
}

impl Heard {
    pub fn hear(&mut self, bytes: &Bytes) {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= MOST {
            self.parts.push(bytes.clone());
        } else {
            self.parts.clear();
        }
    }

    fn gist(&self, dialect: Dialect, stream: bool) -> Option<Gist> {
        (self.size <= MOST && self.size > 0).then(|| Gist::read(dialect, &self.parts, stream)).flatten()
    }
}

/// What became of one of the two.
#[derive(Default)]
struct Told {
    /// `ok`, or what was wrong.
    outcome: &'static str,
    heard: Heard,
    first_us: u64,
    total_us: u64,
    input: u64,
    output: u64,
    /// Nano-dollars.
    cost: u64,
}

/// The call's own side of it: listens to what the caller is told, and tells the shadow in the end.
pub struct Listener {
    heard: Heard,
    tell: oneshot::Sender<Told>,
}

impl Listener {
    pub fn hear(&mut self, bytes: &Bytes) {
        self.heard.hear(bytes);
    }
}

/// Sends a call to its model's shadow too, where it is one of the share that is.
pub fn begin(session: &Session, ctx: &mut Ctx) {
    let Some(shadow) = ctx.plan.as_ref().and_then(Plan::shadow).cloned() else { return };
    let (Some(plan), Some(call), Some(key)) = (&ctx.plan, &ctx.call, &ctx.key) else { return };
    if call.count || !plan.is_shadowed(&shadow, &mut || fastrand::u64(..)) {
        return;
    }
    let metrics = ctx.shared.metrics.clone();
    let count = |result: &str| metrics.shadows.with_label_values(&[plan.asked(), &shadow.to, result]).inc();
    let Some(slot) = shadow.slot() else { return count("dropped") };
    let Ok(share) = Share::of(&ctx.shared.buffered, call.body.len(), ctx.served.snapshot.limits.buffered_bytes) else {
        return count("dropped");
    };
    let now = ctx.shared.now();
    let model = ctx.served.snapshot.model(&shadow.to).cloned();
    let Some((candidate, held)) = model.and_then(|model| plan.shade(model, now, &mut || fastrand::u64(..))) else {
        return count("nowhere");
    };
    // The caller's tags are for the caller's cost.
    let mut copied = Call::clone(call);
    copied.controls.tags = vec![("for".to_owned(), key.id.clone())];
    let errand = Errand {
        shared: ctx.shared.clone(),
        served: ctx.served.clone(),
        id: ctx.id,
        request_id: ctx.request_id.clone(),
        dialect: ctx.dialect,
        call: Arc::new(copied),
        key: Arc::new(Key::own(KEY)),
        headers: heads::carried(&session.req_header().headers),
        cooling: plan.cooling(),
        deadline: Instant::now() + plan.total,
        explanation: ctx.explanation.clone(),
        allotment: None,
    };
    let (tell, told) = oneshot::channel();
    let cast =
        Cast { errand, shadow, candidate, held, told, model: plan.asked().to_owned(), _slot: slot, _share: share };
    let mut cut = ctx.shared.cut.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            () = cast.run(now) => {}
            // What is under way settles itself as it is dropped.
            _ = cut.wait_for(|over| *over) => {}
        }
    });
    ctx.shadow = Some(Listener { heard: Heard::default(), tell });
}

/// The call is over: its shadow is told how it was.
pub fn end(ctx: &mut Ctx) {
    let Some(listener) = ctx.shadow.take() else { return };
    let usage = ctx.outcome.usage.unwrap_or_default();
    let outcome = match &ctx.refusal {
        Some(refusal) => refusal.name(),
        None if ctx.outcome.name.is_empty() => "unfinished",
        None => ctx.outcome.name,
    };
    let over = ctx.outcome.settled.unwrap_or_else(|| ctx.shared.now());
    // The shadow may have been cut.
    let _ = listener.tell.send(Told {
        outcome,
        heard: listener.heard,
        first_us: ctx.outcome.ttft_us,
        total_us: over.since(ctx.started),
        input: usage.input,
        output: usage.output,
        cost: ctx.outcome.cost,
    });
}

/// A shadow on its way.
struct Cast {
    errand: Errand,
    shadow: Arc<Shadow>,
    candidate: Candidate,
    held: Held,
    told: oneshot::Receiver<Told>,
    /// The model that the caller asked for.
    model: String,
    _slot: Slot,
    _share: Share,
}

impl Cast {
    async fn run(self, now: Moment) {
        let Cast { errand, shadow, candidate, held, told, model, _slot, _share } = self;
        let (shared, served) = (errand.shared.clone(), errand.served.clone());
        let (dialect, stream, deadline) = (errand.dialect, errand.call.stream, errand.deadline);
        let target = candidate.target.target.id.clone();
        let shade = ask(errand, candidate, held, &served, now).await;
        let result = if shade.outcome == "ok" { "ok" } else { "failed" };
        shared.metrics.shadows.with_label_values(&[&model, &shadow.to, result]).inc();
        shared.metrics.shadow_cost.with_label_values(&[&model, &shadow.to]).inc_by(shade.cost as f64 / 1e9);
        // The call may go on for longer than its shadow, but not for ever.
        let Ok(Ok(main)) = timeout_at(deadline, told).await else { return };
        compare(&shared, &main, &shade, [&model, &shadow.to, &target], dialect, stream);
    }
}

/// Makes the attempt and hears its answer to the end.
async fn ask(errand: Errand, candidate: Candidate, held: Held, served: &Served, now: Moment) -> Told {
    let shared = errand.shared.clone();
    let since = |end: Option<Moment>| end.map_or(0, |end| end.since(now));
    let failed = |outcome| Told { outcome, total_us: shared.now().since(now), ..Told::default() };
    let making = Making {
        snapshot: &served.snapshot,
        caller: errand.dialect,
        call: &errand.call,
        strict: false,
        bounded: false,
        group: None,
        request_id: &errand.request_id,
        number: 1,
        id: shared.new_id(now),
        now,
    };
    let Ok(mut attempt) = Attempt::prepare(&making, candidate, held) else { return failed("unfit") };
    attempt.aside = Some(Aside::Shadow);
    let mut exchange = match Exchange::begin(errand, Box::new(attempt)).await {
        Ok(exchange) => exchange,
        Err(Unanswered::Failed(fault)) => return failed(fault.kind.name()),
        Err(Unanswered::Unmetered) => return failed("unmetered"),
    };
    let first_us = since(exchange.attempt().and_then(|attempt| attempt.first));
    let mut heard = Heard::default();
    loop {
        match exchange.more().await {
            Ok(Some(bytes)) => heard.hear(&bytes),
            Ok(None) => break,
            Err(fault) => return Told { heard, ..failed(fault.kind.name()) },
        }
    }
    match exchange.drain().await {
        Ok(settled) => {
            let usage = settled.usage.unwrap_or_default();
            let total_us = shared.now().since(now);
            let (input, output, cost) = (usage.input, usage.output, settled.cost);
            Told { outcome: "ok", heard, first_us, total_us, input, output, cost }
        }
        Err(fault) => Told { heard, ..failed(fault.kind.name()) },
    }
}

/// Counts what the two have in common.
fn compare(shared: &Shared, main: &Told, shade: &Told, labels: [&str; 3], dialect: Dialect, stream: bool) {
    let metrics = &shared.metrics;
    let [model, to, target] = labels;
    metrics.shadow_outcomes.with_label_values(&[model, to, main.outcome, shade.outcome]).inc();
    if main.outcome != "ok" || shade.outcome != "ok" {
        return;
    }
    for (side, told) in [("main", main), ("shadow", shade)] {
        let seconds = |micros: u64| micros as f64 / 1e6;
        metrics.shadow_time.with_label_values(&[model, to, side, "total"]).observe(seconds(told.total_us));
        if told.first_us != 0 {
            metrics.shadow_time.with_label_values(&[model, to, side, "first"]).observe(seconds(told.first_us));
        }
        for (kind, tokens) in [("input", told.input), ("output", told.output)] {
            metrics.shadow_tokens.with_label_values(&[model, to, side, kind]).inc_by(tokens);
        }
    }
    let likeness = match (main.heard.gist(dialect, stream), shade.heard.gist(dialect, stream)) {
        (Some(one), Some(other)) => {
            let finishes = [model, to, finish_name(one.finish), finish_name(other.finish)];
            metrics.shadow_finishes.with_label_values(&finishes).inc();
            one.likeness(&other).name()
        }
        // Too long, or of a form that is not read here.
        _ => "unread",
    };
    metrics.shadow_answers.with_label_values(&[model, to, likeness]).inc();
    tracing::debug!(model, to, target, likeness, "a shadow was compared");
}
