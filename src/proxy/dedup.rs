//! Identical calls of one key that are under way at once: one goes to a provider, the others are told its answer.
//!
//! The first one leads: it goes its own way, with failover, hedges and all, and the stand-in for its client passes on what
//! is written ([`super::flight`]). If its client leaves while others follow, the call goes on without one. If it fails
//! before anything was told, those who follow try once more, where again one leads; and then each for itself.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::time::timeout;

use super::budgets;
use super::context::Ctx;
use super::flight::{Bill, End, Flight, Follower, Joined, Piece};
use super::reply::REQUEST_ID;
use crate::exchange::Refusal;
use crate::exchange::call::DEDUP;
use crate::exchange::identity::{Identity, is_settled};
use crate::exchange::record::{self, Charged, Intent, Settlement};
use crate::policy::budget::Reservation;
use crate::policy::coalesce::Cost;
use crate::telemetry::events;

/// Calls that a follower joins until it goes alone.
const ROUNDS: usize = 2;
/// How long the leader's end is waited for when its answer has been told.
const BILL: Duration = Duration::from_secs(30);
/// The provider of rows that are charged, and that no provider charges.
const NOBODY: &str = "@dedup";

/// Joins an identical call, where its model wants that and there is one. `true`: the call has been answered. If it is the
/// first of its kind, others may join it from now on.
///
/// # Errors
/// The call is refused; `None`: the client is gone.
pub async fn join(session: &mut Session, ctx: &mut Ctx) -> Result<bool, Option<Refusal>> {
    let Some(rules) = ctx.plan.as_ref().and_then(|plan| plan.dedup()).cloned() else { return Ok(false) };
    let (Some(call), Some(key), Some(plan)) = (&ctx.call, &ctx.key, &ctx.plan) else { return Ok(false) };
    let headers = &session.req_header().headers;
    let wish = headers.get(DEDUP).and_then(|value| value.to_str().ok()).map(str::trim);
    let wanted = match wish {
        Some("on") => true,
        Some("off") => false,
        _ => rules.any || is_settled(call),
    };
    if call.count || !wanted {
        return Ok(false);
    }
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let identity = Identity::of(call, key, ctx.dialect.name, plan.whereto(), named);
    let model = plan.asked().to_owned();
    let metrics = ctx.shared.metrics.clone();
    let count = |role: &str| metrics.dedup.with_label_values(&[&model, role]).inc();
    for _ in 0..ROUNDS {
        match ctx.shared.flights.join(identity, &rules, ctx.shared.now().mono) {
            Joined::Lead(lead) => {
                count("leader");
                ctx.flight = Some(lead.flight().clone());
                ctx.lead = Some(lead);
                return Ok(false);
            }
            Joined::Alone => break,
            Joined::Follow(follower) => match listen(session, ctx, follower).await {
                Heard::Whole => {
                    count("follower");
                    return Ok(true);
                }
                Heard::Broken => {
                    count("broken");
                    return Err(None);
                }
                Heard::Failed => count("retried"),
                Heard::Draining => return Err(Some(Refusal::Draining)),
                Heard::OverBudget(refusal) => return Err(Some(refusal)),
                Heard::Gone => return Err(None),
            },
        }
    }
    count("alone");
    Ok(false)
}

/// How following ended.
enum Heard {
    Whole,
    /// After something was told.
    Broken,
    /// Before anything was.
    Failed,
    Draining,
    /// Its part may cost more than there is.
    OverBudget(Refusal),
    /// The client has left.
    Gone,
}

/// Tells the caller what another one is told.
async fn listen(session: &mut Session, ctx: &mut Ctx, mut follower: Follower) -> Heard {
    let mut cut = ctx.shared.cut.subscribe();
    let mut headed = false;
    let mut reservation = None;
    loop {
        let piece = tokio::select! {
            biased;
            piece = follower.next() => piece,
            _ = session.downstream_session.read_body_or_idle(true) => {
                return leave(ctx, follower, headed.then_some(reservation), "client_gone");
            }
            _ = cut.wait_for(|over| *over) => {
                leave(ctx, follower, headed.then_some(reservation), "draining");
                return if headed { Heard::Broken } else { Heard::Draining };
            }
        };
        let written = match piece {
            Piece::Head(head) => {
                match ctx.key.as_ref().map(|key| budgets::part(key, follower.flight().most(), ctx.started)) {
                    Some(Ok(part)) => reservation = part,
                    Some(Err(refusal)) => {
                        follower.decline();
                        return Heard::OverBudget(refusal);
                    }
                    None => {}
                }
                headed = true;
                super::limiting::worked(ctx);
                let Ok(head) = own_head(head, ctx, &follower) else { return Heard::Broken };
                session.write_response_header(Box::new(head), false).await
            }
            Piece::Body(body) => {
                if ctx.outcome.ttft_us == 0 {
                    ctx.outcome.ttft_us = ctx.shared.now().since(ctx.started);
                }
                session.write_response_body(Some(body), false).await
            }
            Piece::End(End::Whole) => {
                super::limiting::over(ctx);
                let written = session.write_response_body(None, true).await;
                let outcome = if written.is_ok() { "ok" } else { "client_gone" };
                charge(ctx, follower.flight().clone(), reservation, outcome);
                return if written.is_ok() { Heard::Whole } else { Heard::Gone };
            }
            Piece::End(End::Failed) => return Heard::Failed,
            Piece::End(End::Broken) => {
                leave(ctx, follower, headed.then_some(reservation), "truncated");
                return Heard::Broken;
            }
        };
        if written.is_err() {
            return leave(ctx, follower, headed.then_some(reservation), "client_gone");
        }
    }
}

/// It follows no more: whoever was told something is charged for it.
fn leave(ctx: &Ctx, follower: Follower, headed: Option<Option<Reservation>>, outcome: &'static str) -> Heard {
    if let Some(reservation) = headed {
        charge(ctx, follower.flight().clone(), reservation, outcome);
    }
    Heard::Gone
}

/// The leader's head, with what is the follower's own.
fn own_head(mut head: Box<ResponseHeader>, ctx: &Ctx, follower: &Follower) -> pingora::Result<ResponseHeader> {
    let leaders = head.headers.get(REQUEST_ID).cloned();
    for name in [REQUEST_ID, "x-request-id", "request-id"] {
        // The provider's own id is the provider's own.
        if name == REQUEST_ID || (leaders.is_some() && head.headers.get(name) == leaders.as_ref()) {
            head.insert_header(name, &*ctx.request_id)?;
        }
    }
    head.insert_header(DEDUP, HeaderValue::from_static("follower"))?;
    match follower.flight().rules.cost {
        Cost::Each => {}
        Cost::Leader if head.headers.contains_key("x-portolan-cost-usd") => {
            head.insert_header("x-portolan-cost-usd", HeaderValue::from_static("0"))?;
        }
        // How many it will be divided by is not known yet.
        Cost::Leader | Cost::Split => {
            head.remove_header("x-portolan-cost-usd");
        }
    }
    super::limiting::tell_in(&mut head, ctx);
    Ok(*head)
}

/// Writes a follower's row when the leader's cost is known.
fn charge(ctx: &Ctx, flight: Arc<Flight>, mut reservation: Option<Reservation>, outcome: &'static str) {
    let (Some(call), Some(key), allotment) = (ctx.call.clone(), ctx.key.clone(), ctx.allotment.clone()) else { return };
    let (shared, request, began, running) = (ctx.shared.clone(), ctx.id, ctx.started, ctx.shared.sides.enter());
    let dialect = ctx.dialect;
    tokio::spawn(async move {
        let _running = running;
        let Ok(bill) = timeout(BILL, flight.bill()).await else { return };
        let Bill { cost, shares, .. } = *bill;
        let charge = bill.charge.as_ref().map(|(charge, ..)| *charge);
        let policy = flight.rules.cost;
        let each = policy == Cost::Each;
        let now = shared.now();
        let attempt = shared.new_id(now);
        let tags = std::iter::once(("side", "dedup")).chain(key.and_caller(&call.controls.tags));
        let target = format!("{NOBODY}/{}", bill.target);
        let named = |name: &Option<String>| name.clone().unwrap_or_default().into();
        let intent = Intent {
            attempt,
            request,
            at: began.unix_ms,
            number: 1,
            key: key.id.as_str().into(),
            project: key.project.as_deref().map(Into::into),
            asked: call.model.as_str().into(),
            model: bill.model.as_str().into(),
            provider: if each { NOBODY.into() } else { bill.provider.as_str().into() },
            target: if each { target.as_str().into() } else { bill.target.as_str().into() },
            stream: call.stream,
            price_version: bill.price_version.as_str().into(),
            reserve: reservation.as_ref().map_or(0, |reservation| reservation.amount().cost),
            input_estimate: call.input_estimate,
            config_version: bill.config_version.as_str().into(),
            tags: record::tags(tags),
            team: named(&key.team),
            organisation: named(&key.organisation),
            user: named(&key.user),
            region: bill.region.as_str().into(),
            dialect: dialect.name.into(),
            route: "dedup".into(),
            rates: (&*bill.rates).into(),
            charge: bill.charge.as_ref().map(|(_, version, rates)| {
                let reserve = reservation.as_ref().map_or(0, |reservation| reservation.amount().charge);
                Box::new(Charged { reserve, version: version.as_str().into(), rates: (&**rates).into() })
            }),
        };
        let share = match (policy, charge) {
            (Cost::Split, None) => format!("part {shares} of {cost}"),
            (Cost::Split, Some(charge)) => format!("part {shares} of {cost} {charge}"),
            _ => String::new(),
        };
        let settlement = Settlement {
            attempt,
            begun: began.unix_ms,
            at: now.unix_ms,
            outcome: outcome.into(),
            status: bill.status,
            // The provider has counted these tokens once: they stand in the leader's row.
            usage: bill.usage.filter(|_| each),
            estimated: each && bill.estimated,
            cost: policy.of_follower(cost, shares),
            charge: charge.map(|charge| policy.of_follower(charge, shares)),
            unpriced: each && bill.unpriced,
            latency_us: now.since(began),
            ttft_us: 0,
            served: true,
            losses: "".into(),
            share: share.into(),
        };
        if let Some(reservation) = &mut reservation {
            reservation.dispatched();
        }
        let journal = &shared.journal;
        if let Err(error) = journal.append_intent(&intent).and_then(|()| journal.append_settlement(&settlement)) {
            events::JournalFailed { what: "settlement", error: &error }.emit(&shared.metrics);
        }
        if let Some(allotment) = allotment {
            allotment.used(settlement.usage.as_ref(), settlement.cost, false, now);
        }
        if let Some(reservation) = reservation {
            reservation.settle(settlement.amount());
        }
        if policy == Cost::Split {
            shared.metrics.cost.with_label_values(&[&bill.provider, &bill.model]).inc_by(settlement.cost as f64 / 1e9);
        }
    });
}
