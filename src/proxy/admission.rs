//! From a request's head to a plan: who asks, what is wanted, whereto. Everything that can be answered without a
//! provider is answered here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, header};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::context::Ctx;
use super::downstream;
use super::gate::{Gate, KeepAlive};
use super::{bearers, dedup, explaining, intake, limiting, reply, shadow};
use crate::dialect::{anthropic, openai_responses};
use crate::exchange::paths::{self, Access, Found, Operation};
use crate::exchange::{self, Call, Circumstances, Plan, Refusal, Said, framing, models};
use crate::store::failpoint;
use crate::store::ledger::{self, GroupBy};
use crate::store::usage::{self, Eyes};
use crate::telemetry::events;

/// How the headers begin that are twins of our own members of a request.
const CONTROLS: &str = "x-portolan-";

/// Bodies up to this size are read before a refusal, so that the connection stays usable.
const DRAINED: usize = 64 * 1024;

/// Pingora's `request_filter`: `true` when the call has been answered.
pub async fn request(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    if let Some(credential) = bearers::credential(session, ctx) {
        // Boxed: calls with keys should not carry what that takes.
        let admitted = Box::pin(bearers::admit(ctx, &credential)).await;
        ctx.bearer = Some(admitted);
    }
    match admit(session, ctx).await {
        Ok(Next::Proxy) => Ok(false),
        Ok(Next::Answered) => Ok(true),
        Err(Some(refusal)) => {
            if matches!(refusal, Refusal::BodyIncomplete | Refusal::BodyTimeout | Refusal::Framing { .. }) {
                // Where its body ends is not known, and so not where another request would begin.
                session.set_keepalive(None);
            } else {
                drain(session).await;
            }
            // What it took is given back before the caller can come again.
            ctx.allotment = None;
            let sent = refuse(session, &refusal, ctx).await;
            ctx.refusal = Some(refusal);
            sent.map(|()| true)
        }
        Err(None) => {
            Error::e_explain(ErrorType::ConnectionClosed, "the client is gone").map_err(|mut error: Box<Error>| {
                error.as_down();
                error
            })
        }
    }
}

enum Next {
    Proxy,
    Answered,
}

async fn admit(session: &mut Session, ctx: &mut Ctx) -> Result<Next, Option<Refusal>> {
    let head = session.req_header();
    if let Some(h1) = session.downstream_session.as_http1()
        && let Some(what) = framing::wrong(&h1.get_headers_raw_bytes(), &head.headers, head.version)
    {
        return Err(Some(Refusal::Framing { what }));
    }
    let path = head.uri.path();
    let versioned = head.headers.contains_key("anthropic-version");
    ctx.dialect = paths::dialect_of(path, versioned);
    let limits = &ctx.served.snapshot.limits;
    if head.headers.len() > limits.headers {
        return Err(Some(Refusal::HeadTooLarge { limit: limits.headers }));
    }
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits.header_bytes {
        return Err(Some(Refusal::HeadTooLarge { limit: limits.header_bytes }));
    }
    let Found { route, name } = paths::find(&head.method, path)?;
    // One path for two dialects: only Anthropic's SDKs send this header.
    let shared = matches!(route.operation, Operation::Models | Operation::Model);
    ctx.dialect = if shared && versioned { anthropic::DIALECT } else { route.dialect };
    ctx.operation = Some(route.operation);

    if route.access == Access::Public {
        return health(session, ctx, route.operation).await;
    }
    let snapshot = ctx.served.snapshot.clone();
    let headers = &head.headers;
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        // Which one counts is not for us to guess.
        return Err(Some(Refusal::BadKey));
    }
    let key = match ctx.bearer.take() {
        Some(admitted) => admitted?,
        None => {
            let secret = exchange::credential(&|name| text(headers, name), head.uri.query());
            exchange::admit(&snapshot, &ctx.shared.directory, secret, ctx.started.unix_ms / 1_000)?
        }
    };
    let from = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    exchange::permit(&key, route.operation.function(), from)?;
    ctx.key = Some(key.clone());

    let Some(inbound) = ctx.dialect.inbound else {
        return Err(Some(Refusal::Bug { what: "a path of a dialect without a caller's face" }));
    };
    if !matches!(route.operation, Operation::Generate | Operation::Stream | Operation::Count) {
        limiting::small(ctx)?;
    }
    let mut out = Vec::new();
    match route.operation {
        Operation::Models => {
            models::list(&snapshot, &key, inbound, &mut out);
            answer(session, ctx, out).await
        }
        Operation::Model => {
            let model = snapshot.model(&name).filter(|model| key.may_use(&model.name));
            match model {
                Some(model) => models::show(&snapshot, &key, model, inbound, &mut out),
                None => return Err(Some(Refusal::UnknownModel { model: name.into_owned(), asleep: None })),
            }
            answer(session, ctx, out).await
        }
        Operation::Response | Operation::ResponseInput | Operation::DeleteResponse | Operation::CancelResponse => {
            let (id, operation) = (name.into_owned(), route.operation);
            let body = super::responses::manage(operation, &id, &key.id, &ctx.shared).await?;
            answer(session, ctx, body).await
        }
        Operation::Usage => used(session, ctx, &key.id).await,
        Operation::Generate | Operation::Stream | Operation::Count => {
            let stream = route.operation == Operation::Stream;
            let events = head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
            let model = name.into_owned();
            generate(
                session,
                ctx,
                &Said {
                    reads: inbound.reads(),
                    model: &model,
                    stream,
                    array: stream && !events,
                    count: route.operation == Operation::Count,
                },
            )
            .await
        }
        Operation::Live | Operation::Ready => Err(Some(Refusal::Bug { what: "a health path that demands a key" })),
    }
}

async fn generate(session: &mut Session, ctx: &mut Ctx, said: &Said<'_>) -> Result<Next, Option<Refusal>> {
    let snapshot = ctx.served.snapshot.clone();
    if *ctx.shared.stopping.borrow() {
        // A call that still came over a kept connection is served, and its connection is not kept any longer.
        session.set_keepalive(None);
    }
    ctx.in_flight = Some(ctx.shared.enter());
    let (body, share) = intake::body(session, &snapshot.limits, &ctx.shared.buffered).await?;
    ctx.share = Some(share);
    let headers = &session.req_header().headers;
    // Few callers send any: a name that cannot be there is not looked up.
    let controls = headers.keys().any(|name| name.as_str().starts_with(CONTROLS));
    let header = |name: &str| if controls || !name.starts_with(CONTROLS) { text(headers, name) } else { None };
    let mut call = Call::read(body, said, &snapshot.limits, &header)?;
    if ctx.dialect == openai_responses::DIALECT {
        call = super::responses::begin(call, said, session, ctx).await?;
    }
    let call = Arc::new(call);
    let Some(key) = ctx.key.clone() else { return Err(Some(Refusal::Bug { what: "a call without a key" })) };
    let mut decided = {
        let headers = &session.req_header().headers;
        let circumstances = Circumstances { dialect: ctx.dialect.name, header: &|name| text(headers, name) };
        exchange::decide(&snapshot, &key, &call, &circumstances, snapshot.explain.is_some(), ctx.started)
    };
    if let Ok(decision) = &mut decided {
        exchange::degrade(&snapshot, &key, &call, decision, ctx.started);
    }
    explaining::begin(ctx, &call, &mut decided);
    let decision = decided?;
    for (rule, failure) in &decision.failed {
        events::RuleFailed { request: &ctx.request_id, rule: &rule.name, failure: failure.name() }
            .emit(&ctx.shared.metrics);
    }
    if let Some(judged) = &decision.class {
        events::ClassJudged { class: judged.class.as_deref(), shadow: judged.shadow }.emit(&ctx.shared.metrics);
    }
    for rule in &decision.rules {
        events::RuleMet { rule: &rule.name }.emit(&ctx.shared.metrics);
    }
    let mut plan = Plan::make(&snapshot, &key, &call, decision, ctx.started, &mut || fastrand::u64(..))?;
    if ctx.explanation.is_some() {
        plan.watch();
    }
    ctx.call = Some(call);
    ctx.plan = Some(plan);
    limiting::planned(ctx)?;
    // Boxed: few models want it, and the calls of others should not carry what that takes.
    if ctx.plan.as_ref().is_some_and(|plan| plan.dedup().is_some()) && Box::pin(dedup::join(session, ctx)).await? {
        ctx.outcome.name = "ok";
        return Ok(Next::Answered);
    }
    // The first attempt is prepared here, so that a request that no target can take is refused without a connection
    // being spent, and with the caller's own kept.
    let attempt = match super::dispatch::first(session, ctx).await {
        Ok(attempt) => attempt,
        Err(Some(Refusal::Uncounted)) => return estimate(session, ctx).await,
        Err(refusal) => return Err(refusal),
    };
    failpoint::panics("admission");
    shadow::begin(session, ctx);
    let total_by = ctx.shared.instant(ctx.plan.as_ref().map_or(0, |plan| plan.deadline));
    ctx.prepared = Some(attempt);

    let read_on = ctx.served.snapshot.read_on.map(|bounds| (bounds, ctx.shared.read_on.clone()));
    let gate = Gate::new(total_by, keep_alive(ctx), read_on);
    ctx.gate = Some(gate.clone());
    downstream::install(session, gate, ctx.shared.cut.subscribe(), ctx.lead.take());
    Ok(Next::Proxy)
}

/// Signs of life for a caller that streams.
fn keep_alive(ctx: &Ctx) -> Option<KeepAlive> {
    let (call, inbound) = (ctx.call.as_ref()?, ctx.dialect.inbound?);
    let every = ctx.served.snapshot.keep_alive.filter(|_| call.stream)?;
    let content_type = if call.array { "application/json" } else { "text/event-stream" };
    let mut headers = HeaderMap::new();
    limiting::tell(&mut headers, ctx);
    Some(KeepAlive { text: inbound.keep_alive(), every, content_type, request_id: ctx.request_id.clone(), headers })
}

/// Answers a question for the number of tokens, where no provider of the model can.
async fn estimate(session: &mut Session, ctx: &mut Ctx) -> Result<Next, Option<Refusal>> {
    let (Some(call), Some(inbound)) = (ctx.call.clone(), ctx.dialect.inbound) else {
        return Err(Some(Refusal::Bug { what: "a count without a call" }));
    };
    let counted = exchange::estimate::answer(&call, inbound)?;
    let (mut head, body) = reply::estimated(counted, &ctx.request_id).map_err(|_| None)?;
    limiting::worked(ctx);
    limiting::tell_in(&mut head, ctx);
    reply::send(session, head, body).await.map_err(|_| None)?;
    Ok(Next::Answered)
}

async fn health(session: &mut Session, ctx: &mut Ctx, operation: Operation) -> Result<Next, Option<Refusal>> {
    let stopping = *ctx.shared.stopping.borrow();
    if operation == Operation::Live
        && let Some(number) =
            session.req_header().uri.query().and_then(|query| query.strip_prefix("probe=")?.parse().ok())
    {
        ctx.shared.probed.store(number, Relaxed);
    }
    let (status, body): (u16, &[u8]) = match operation {
        Operation::Ready if stopping => (503, br#"{"status":"draining"}"#),
        Operation::Ready if !ctx.shared.journal.healthy() => (503, br#"{"status":"ledger_unavailable"}"#),
        _ => (200, br#"{"status":"ok"}"#),
    };
    reply::json(session, status, body.to_vec(), &ctx.request_id).await.map_err(|_| None)?;
    Ok(Next::Answered)
}

async fn used(session: &mut Session, ctx: &mut Ctx, key: &str) -> Result<Next, Option<Refusal>> {
    // A caller's key may stand in the query too.
    let asked = usage::read(session.req_header().uri.query().unwrap_or_default(), &["key"]);
    let asked = asked.map_err(|usage::Mistake { parameter: path, message }| {
        Some(Refusal::Invalid(crate::wire::json::Invalid { path, message }))
    })?;
    let mut query = asked.within(GroupBy::Key, key);
    if query.group_by.is_empty() {
        query.group_by.push(GroupBy::Model);
    }
    let ledger = ctx.shared.ledger.clone();
    let currencies = ctx.served.snapshot.currencies.clone();
    let now = ctx.shared.now().unix_ms;
    let read = tokio::task::spawn_blocking(move || {
        ledger.flush(Duration::from_secs(1));
        ledger.report(&query).map(|report| usage::json(&report, &query, &currencies, Eyes::Customer, now))
    })
    .await;
    match read {
        Ok(Ok(body)) => answer(session, ctx, body).await,
        Ok(Err(error @ ledger::Error::TooWide)) => {
            let (path, message) = ("group_by".to_owned(), error.to_string());
            Err(Some(Refusal::Invalid(crate::wire::json::Invalid { path, message })))
        }
        _ => Err(Some(Refusal::LedgerUnavailable)),
    }
}

async fn answer(session: &mut Session, ctx: &Ctx, body: Vec<u8>) -> Result<Next, Option<Refusal>> {
    let (mut head, body) = reply::whole(200, body, &ctx.request_id).map_err(|_| None)?;
    limiting::worked(ctx);
    limiting::tell_in(&mut head, ctx);
    reply::send(session, head, body).await.map_err(|_| None)?;
    Ok(Next::Answered)
}

async fn refuse(session: &mut Session, refusal: &Refusal, ctx: &Ctx) -> Result<()> {
    let (mut head, body) = reply::refusal_parts(refusal, ctx.dialect, &ctx.request_id)?;
    limiting::tell_in(&mut head, ctx);
    reply::send(session, head, body).await
}

/// Reads what is left of a small body, so that the next request on this connection is not mistaken for it.
async fn drain(session: &mut Session) {
    let stated =
        session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let waits = session.get_header(header::EXPECT).is_some();
    if stated.is_some_and(|length| length <= DRAINED) && !waits && !session.is_body_done() {
        let _ = tokio::time::timeout(Duration::from_secs(1), session.drain_request_body()).await;
    }
}

/// A header's value, where it is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
