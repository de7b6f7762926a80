//! The limits of a call's key: taken before anything is dispatched, told in the head of every answer, given back whatever
//! way the call ends.

use http::HeaderMap;
use pingora::http::ResponseHeader;

use super::context::Ctx;
use super::state::Shared;
use crate::exchange::allotment::{self, Left};
use crate::exchange::{Allotment, Refusal, allowance};
use crate::policy::limit::{Ask, At};
use crate::telemetry::events;

/// Takes for a call that is answered from memory.
///
/// # Errors
/// A limit does not let it through.
pub fn small(ctx: &mut Ctx) -> Result<(), Refusal> {
    take(ctx, |_| allotment::small())
}

/// Takes for a call that was planned.
///
/// # Errors
/// As [`small`].
pub fn planned(ctx: &mut Ctx) -> Result<(), Refusal> {
    take(ctx, |ctx| match (&ctx.key, &ctx.call, &ctx.plan, ctx.dialect.inbound) {
        (Some(key), Some(call), Some(plan), Some(inbound)) => allotment::ask(key, call, plan, inbound),
        _ => allotment::small(),
    })
}

fn take(ctx: &mut Ctx, ask: impl FnOnce(&Ctx) -> Ask) -> Result<(), Refusal> {
    let Some(key) = ctx.key.clone().filter(|key| key.limited) else { return Ok(()) };
    match Allotment::take(&key, ask(ctx), at(&ctx.shared)) {
        Ok(taken) => {
            ctx.allotment = taken;
            Ok(())
        }
        Err(refusal) => {
            if let Refusal::Limited { kind, id, name, .. } = &refusal {
                let (request, key, level) = (&*ctx.request_id, key.id.as_str(), kind.name());
                events::LimitRefused { request, key, level, id, limit: name }.emit(&ctx.shared.metrics);
            }
            Err(refusal)
        }
    }
}

/// How the gateway stands.
fn at(shared: &Shared) -> At {
    let load = if shared.lines.waiting() == 0 { shared.in_flight() as u64 } else { u64::MAX };
    At { now: shared.now(), load }
}

/// Tells the caller what is left, where it has limits.
pub fn tell(headers: &mut HeaderMap, ctx: &Ctx) {
    if let Some(key) = ctx.key.as_ref().filter(|key| key.limited) {
        let at = at(&ctx.shared);
        allowance::tell(headers, &Left::of(key, at), ctx.dialect, at.now.unix_ms);
    }
}

/// The same in a head of Pingora's own.
pub fn tell_in(head: &mut ResponseHeader, ctx: &Ctx) {
    if ctx.key.as_ref().is_none_or(|key| !key.limited) {
        return;
    }
    for name in head.headers.keys().filter(|name| allowance::tells(name.as_str())).cloned().collect::<Vec<_>>() {
        head.remove_header(&name);
    }
    let mut headers = HeaderMap::new();
    tell(&mut headers, ctx);
    for (name, value) in &headers {
        // Fails only for what no header can hold.
        let _ = head.insert_header(name, value);
    }
}

/// The call is answered without an attempt, and counts as one all the same.
pub fn worked(ctx: &Ctx) {
    if let Some(allotment) = &ctx.allotment {
        allotment.worked();
    }
}

/// The call's own way is over.
pub fn over(ctx: &Ctx) {
    if let Some(allotment) = &ctx.allotment {
        allotment.over(ctx.shared.now());
    }
}
