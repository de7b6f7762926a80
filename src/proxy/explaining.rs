//! What a call is told to operators of, gathered where they ask for it: `GET /admin/requests/{id}`.

use std::sync::Arc;

use super::context::Ctx;
use crate::exchange::explain::{Ended, Explanation};
use crate::exchange::{Call, Decision, Refusal};

/// Begins an explanation with the rules that were looked at, where explanations are kept.
pub fn begin(ctx: &mut Ctx, call: &Arc<Call>, decided: &mut Result<Decision, Refusal>) {
    if ctx.served.snapshot.explain.is_some() {
        let rules = decided.as_mut().map(|decision| std::mem::take(&mut decision.looked)).unwrap_or_default();
        ctx.explanation = Some(Arc::new(Explanation::new(call.clone(), rules)));
    }
}

/// Keeps what there is to tell of a call that is over.
pub fn keep(ctx: &mut Ctx, status: u16, outcome: &str) {
    let (Some(explanation), Some(bounds)) = (ctx.explanation.take(), &ctx.served.snapshot.explain) else { return };
    let over = ctx.outcome.settled.unwrap_or_else(|| ctx.shared.now());
    let ended = Ended {
        id: &ctx.request_id,
        started: ctx.started,
        config_version: &ctx.served.snapshot.version,
        key: ctx.key.as_ref().map(|key| key.id.as_str()),
        dialect: ctx.dialect.name,
        outcome,
        status,
        cost: ctx.outcome.cost,
        unpriced: ctx.outcome.unpriced,
        first_us: ctx.outcome.ttft_us,
        total_us: over.since(ctx.started),
    };
    let plan = ctx.plan.as_ref();
    let (decision, looks) = (plan.map(|plan| plan.decision()), plan.map_or(&[][..], |plan| plan.looks()));
    let mut out = Vec::with_capacity(2_048);
    explanation.write(&ended, decision, looks, &mut out);
    ctx.shared.explanations.keep(ctx.id.0, out, bounds);
}
