//! Attempts: choosing the next one, sending it, and what to do when it fails.

use std::time::Duration;

use http::HeaderMap;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::Instant;

use super::context::{Ctx, Dispatched};
use super::peer::Peer;
use super::state::{Served, Shared};
use super::{budgets, downstream, heads, hedge, limiting, relaying, reply, stop, waiting};
use crate::config::Snapshot;
use crate::config::snapshot::{Key, Unpriced};
use crate::dialect::Asked;
use crate::exchange::{Attempt, Call, Candidate, Held, Making, Refusal, Step, Unfit};
use crate::ir::{Fault, FaultKind};
use crate::store::failpoint;
use crate::telemetry::access_log::Finished;
use crate::telemetry::events;

/// What is to be done next.
enum Next {
    /// This attempt, prepared, after a pause.
    Attempt(Box<Attempt>, Duration),
    /// Nothing before that moment (monotonic microseconds; `u64::MAX`: before a call is over).
    Wait(u64),
}

/// The next attempt that can be made.
fn next(ctx: &mut Ctx) -> Result<Next, Refusal> {
    let mut unfit: Option<Refusal> = None;
    loop {
        let now = ctx.shared.now();
        let (Some(plan), Some(call)) = (&mut ctx.plan, &ctx.call) else {
            return Err(Refusal::Bug { what: "an attempt without a plan" });
        };
        let (candidate, held, wait) = match plan.next(now, &mut || fastrand::u64(..)) {
            Step::Try { candidate, held, wait } => (candidate, held, wait),
            Step::Wait { until } => return Ok(Next::Wait(until)),
            // Where no target could be given the request at all, the first reason is the caller's to read.
            Step::Over(refusal) => return Err(unfit.unwrap_or(refusal)),
        };
        if let Err(refusal) = priced(&ctx.served.snapshot, ctx.key.as_deref(), call, &candidate) {
            unfit.get_or_insert(refusal);
            plan.unfit();
            continue;
        }
        let making = Making {
            snapshot: &ctx.served.snapshot,
            caller: ctx.dialect,
            call,
            strict: ctx.key.as_ref().is_some_and(|key| key.strict),
            bounded: ctx.key.as_ref().is_some_and(|key| key.budgeted),
            group: ctx.key.as_ref().and_then(|key| key.group.as_ref()),
            request_id: &ctx.request_id,
            number: ctx.attempts + 1,
            id: ctx.shared.new_id(now),
            now,
        };
        match Attempt::going_on(&making, ctx.resume.as_ref(), candidate, held) {
            Ok(attempt) => return Ok(Next::Attempt(Box::new(attempt), wait)),
            Err(Unfit::Request(refusal)) => return Err(refusal),
            Err(Unfit::Target(refusal)) => {
                unfit.get_or_insert(refusal);
                plan.unfit();
            }
        }
    }
}

/// What nobody knows the price of must not be paid for from a hard budget, and what nobody knows the charge of never from
/// what was paid in.
///
/// # Errors
/// It would be.
pub fn priced(snapshot: &Snapshot, key: Option<&Key>, call: &Call, candidate: &Candidate) -> Result<(), Refusal> {
    let Candidate { model, target, .. } = candidate;
    let refused = || match snapshot.unpriced {
        Unpriced::Judged => {
            key.is_some_and(|key| key.budgeted && key.budgets().any(|budget| budget.hard && budget.prepaid.is_none()))
        }
        Unpriced::Refused => true,
        Unpriced::Served => false,
    };
    let charged = || match key.filter(|key| key.prepaid) {
        None => true,
        Some(Key { group: None, .. }) => target.price.is_some(),
        Some(Key { group: Some(group), .. }) => model.charge(snapshot, group, target).is_some(),
    };
    if !call.count && ((target.price.is_none() && refused()) || !charged()) {
        return Err(Refusal::Unpriced { model: target.target.id.clone() });
    }
    Ok(())
}

/// The first attempt of a call, which is never paused before; it may have to wait for room.
///
/// # Errors
/// There is none to be made; `None`: the client is gone.
pub async fn first(session: &mut Session, ctx: &mut Ctx) -> Result<Box<Attempt>, Option<Refusal>> {
    let mut place = None;
    // Boxed: few calls wait, and the others should not carry what that takes.
    if waiting::is_crowded(ctx) {
        Box::pin(waiting::room(session, ctx, ctx.started.mono, &mut place)).await?;
    }
    loop {
        match next(ctx)? {
            Next::Attempt(mut attempt, _) => {
                if let Some(key) = &ctx.key {
                    let told = |refusal| over_budget(&ctx.shared, &ctx.request_id, key, refusal);
                    budgets::first(&ctx.shared, key, &mut attempt).await.map_err(told)?;
                }
                if let Some(place) = place {
                    place.served();
                }
                return Ok(attempt);
            }
            Next::Wait(until) => Box::pin(waiting::room(session, ctx, until, &mut place)).await?,
        }
    }
}

/// Pingora's `upstream_peer`: the next attempt, journalled, and where it connects to.
pub async fn peer(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    loop {
        if ctx.prepared.is_none() && ctx.hedge.is_some() {
            // Boxed: few calls come here, and the others should not carry what that takes.
            Box::pin(hedge::wait(session, ctx)).await?;
            if ctx.attempts > 0 && !ctx.more {
                let refusal = exhausted(ctx);
                return Err(stop(ctx, refusal));
            }
        }
        let mut attempt = match ctx.prepared.take() {
            Some(attempt) => attempt,
            None => match next(ctx).map_err(|refusal| stop(ctx, refusal))? {
                Next::Attempt(attempt, wait) => {
                    pause(session, ctx, wait, std::future::pending()).await?;
                    attempt
                }
                Next::Wait(until) => {
                    let wait = Duration::from_micros(until.saturating_sub(ctx.shared.now().mono));
                    pause(session, ctx, wait, std::future::pending()).await?;
                    continue;
                }
            },
        };
        let renewed = attempt.number <= ctx.attempts;
        // The first one was prepared this very moment.
        if ctx.attempts > 0 {
            attempt.started = ctx.shared.now();
        }
        let target = attempt.candidate.target.clone();
        let timeouts = target.timeouts;
        if !renewed {
            attempt.begun = attempt.started;
            journal(ctx, &mut attempt)?;
            if ctx.attempts > 0 {
                events::FellBack {
                    request: &ctx.request_id,
                    model: &attempt.candidate.model.name,
                    to: &target.target.id,
                }
                .emit(&ctx.shared.metrics);
            }
            ctx.attempts = attempt.number;
        }
        let mut current = Dispatched::new(attempt, renewed);
        match reach(&mut current, &ctx.shared, &ctx.served).await {
            Ok(mut peer) => {
                let first_by = if current.attempt.terms.call.stream { timeouts.first_byte } else { timeouts.answer };
                // While Pingora writes a body it reads nothing, and no clock of the stand-in runs: a provider that
                // takes nothing must not hold the call for longer than one that answers nothing.
                let write = peer.options.write_timeout.map_or(first_by, |longest| longest.min(first_by));
                peer.options.write_timeout = Some(write);
                if let Some(gate) = &ctx.gate {
                    gate.begin(Instant::now() + first_by, timeouts.idle);
                    gate.send(current.attempt.body.count());
                }
                ctx.current = Some(current);
                // Two answers to what is to be gone on with would be one too many.
                if ctx.resume.is_none() {
                    hedge::arm(session, ctx);
                }
                return Ok(peer);
            }
            // An attempt that cannot even begin has failed like any other.
            Err(fault) => {
                ctx.current = Some(current);
                if !ctx.attempt_failed(fault) {
                    let refusal = exhausted(ctx);
                    return Err(stop(ctx, refusal));
                }
            }
        }
    }
}

/// Finds where an attempt connects to, and what proves there who we are.
///
/// # Errors
/// It cannot even begin.
pub async fn reach(current: &mut Dispatched, shared: &Shared, served: &Served) -> Result<Box<HttpPeer>, Fault> {
    let target = current.attempt.candidate.target.clone();
    let (provider, timeouts) = (&target.target.provider, &target.timeouts);
    let Some(way) = served.way(&provider.id).cloned() else {
        return Err(Fault::new(FaultKind::Connect, "There is no way to this provider."));
    };
    let place = current.attempt.held.as_ref().map_or(0, Held::credential);
    current.credential = provider.credentials.get(place).map(|credential| credential.header.clone());
    if provider.source.is_some() {
        if let Some(holder) = served.holder(&provider.id).cloned() {
            current.grant = holder.grant(shared, timeouts.connect).await;
        }
        if current.grant.is_none() {
            let told = "The gateway has no valid token for this provider.";
            return Err(Fault::new(FaultKind::Authentication, told));
        }
    }
    let Ok(Peer { peer, place }) = way.upstream.peer(timeouts, current.renewed).await else {
        return Err(Fault::new(FaultKind::Connect, "The provider's host name does not resolve."));
    };
    if let Some(held) = &mut current.attempt.held {
        held.sent();
    }
    current.to = Some((way, place));
    Ok(peer)
}

/// Pingora's `upstream_request_filter`: the attempt's own head in place of the caller's.
pub fn head(session: &Session, head: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(current) = &mut ctx.current else { return Ok(()) };
    failpoint::panics("dispatch");
    current.sent = true;
    let version = head.version;
    let now = ctx.shared.now().unix_ms / 1_000;
    if let Some(own) = own_head(current, &session.req_header().headers, now)? {
        *head = own;
        head.set_version(version);
    }
    Ok(())
}

/// The head of an attempt; nothing for one that has nowhere to go. `now` is in Unix seconds.
///
/// # Errors
/// As [`heads::request`].
pub fn own_head(current: &Dispatched, caller: &HeaderMap, now: u64) -> Result<Option<RequestHeader>> {
    let Dispatched { attempt, to: Some((way, place)), credential, grant, .. } = current else { return Ok(None) };
    let mut head = heads::request(attempt, way, place, credential.as_ref(), caller)?;
    if let Some(grant) = grant {
        heads::prove(&mut head, attempt, &place.node, grant, now)?;
    }
    Ok(Some(head))
}

/// Pingora's `fail_to_connect`.
pub fn connect_failed(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    let fault = unconnected(&error);
    if let Some(current) = &ctx.current {
        let target = &current.attempt.candidate.target.target.id;
        events::ConnectFailed { request: &ctx.request_id, target, cause: &error.to_string() }.emit();
    }
    decide(ctx, &mut error, fault);
    error
}

/// Why there is no connection.
pub fn unconnected(error: &Error) -> Fault {
    let kind = match error.etype() {
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => FaultKind::Tls,
        ErrorType::ConnectTimedout => FaultKind::Timeout,
        _ => FaultKind::Connect,
    };
    let message = match kind {
        FaultKind::Tls => "No TLS connection to the provider could be made.",
        FaultKind::Timeout => "The connection to the provider was not made in time.",
        _ => "The provider could not be reached.",
    };
    Fault::new(kind, message)
}

/// Pingora's `error_while_proxy`: what the failure was, and whether another try may be made.
pub fn attempt_failed(session: &Session, ctx: &mut Ctx, mut error: Box<Error>, reused: bool) -> Box<Error> {
    if *error.etype() == downstream::HEDGED {
        hedge::outpaced(ctx);
        error.as_in();
        error.set_retry(false);
        return error;
    }
    if ctx.gate.as_ref().is_some_and(|gate| gate.is_left()) {
        // Nothing is tried again for nobody; `logging` settles.
        ctx.decided = None;
        error.as_down();
        error.set_retry(false);
        return error;
    }
    if let Some(go_on) = ctx.decided.take() {
        error.set_retry(go_on);
        return error;
    }
    if !spoken(session, ctx)
        && let Some(relay) = ctx.current.as_mut().and_then(|current| current.attempt.relay.as_mut())
    {
        relay.take_back();
    }
    let own_clock =
        [downstream::FIRST_BYTE_TIMEOUT, downstream::IDLE_TIMEOUT, downstream::EMPTY_ANSWER, downstream::BROKEN_OFF]
            .contains(error.etype());
    let over = own_clock || [downstream::DEADLINE, downstream::DRAINING].contains(error.etype());
    if over && ended(session, ctx) {
        // The caller has all of the stream; only the connection behind it was not closed in time.
        ctx.complete = true;
        ctx.outcome.name = "ok";
        ctx.attempt_over("ok", true);
        error.as_up();
        error.set_retry(false);
        return error;
    }
    if *error.etype() == downstream::DEADLINE || *error.etype() == downstream::DRAINING {
        let refusal = if *error.etype() == downstream::DRAINING {
            Refusal::Draining
        } else {
            ctx.plan.as_ref().map_or(Refusal::Bug { what: "a deadline without a plan" }, |plan| plan.over_time())
        };
        let outcome = refusal.name();
        let committed = ctx.current.as_ref().is_some_and(|current| current.attempt.committed());
        ctx.refusal.get_or_insert(refusal);
        ctx.attempt_over(outcome, committed);
        error.as_in();
        error.set_retry(false);
        return error;
    }
    if *error.esource() == ErrorSource::Downstream && !own_clock {
        // The client is gone; `logging` settles.
        error.set_retry(false);
        return error;
    }
    if ctx.refusal.is_some() {
        error.set_retry(false);
        return error;
    }
    let told = ctx.current.as_mut().and_then(|current| current.attempt.fault.take());
    let empty = *error.etype() == downstream::EMPTY_ANSWER;
    let told = told.or_else(|| if empty { relaying::bare_error(ctx) } else { None });
    let answered = ctx.current.as_ref().is_some_and(|current| current.attempt.status != 0);
    if told.is_none() && !own_clock && !answered && untaken(&error, reused) && renew(ctx) {
        error.set_retry(true);
        return error;
    }
    let committed = spoken(session, ctx);
    let fault = told.unwrap_or_else(|| classify(&error, answered));
    error.as_up();
    decide(ctx, &mut error, fault);
    if committed && ctx.resume.is_none() {
        error.set_retry(false);
    }
    error
}

/// Pingora's `fail_to_proxy`: the answer of another attempt, or why there is none. Returns the status told, 0 for none.
pub async fn call_failed(session: &mut Session, error: &Error, ctx: &mut Ctx) -> u16 {
    let Some(won) = ctx.gate.as_ref().and_then(|gate| gate.won()) else { return told(session, error, ctx).await };
    match Box::pin(hedge::serve(session, ctx, *won)).await {
        Ok(()) => 200,
        Err(error) => {
            let error = attempt_failed(session, ctx, error, false);
            ctx.gone = *error.esource() == ErrorSource::Downstream;
            told(session, &error, ctx).await
        }
    }
}

/// Tells the caller why there is no answer, in whatever way is still open.
async fn told(session: &mut Session, error: &Error, ctx: &mut Ctx) -> u16 {
    if ctx.complete {
        let _ = session.write_response_body(None, true).await;
        return session.response_written().map_or(0, |head| head.status.as_u16());
    }
    if ctx.refusal.is_none() && *error.esource() == ErrorSource::Downstream {
        return 0;
    }
    let refusal = match ctx.refusal.take() {
        Some(refusal) => refusal,
        None => exhausted(ctx),
    };
    let status = refusal.status();
    if session.response_written().is_none() {
        // Pingora closes the client's connection after a failed proxy loop; the answer says so. Only the client's own
        // session can: the stand-in has no say in keep-alive, and Pingora writes that header itself.
        if let Some(gate) = ctx.gate.take() {
            downstream::restore(session, &gate);
        }
        session.set_keepalive(None);
        if let Ok((mut head, body)) = reply::refusal_parts(&refusal, ctx.dialect, &ctx.request_id) {
            super::relaying::name_attempts(&mut head, ctx);
            limiting::over(ctx);
            limiting::tell_in(&mut head, ctx);
            if session.write_response_header(head, false).await.is_ok() {
                let _ = session.write_response_body(Some(body), true).await;
            }
        }
    } else if let Some(inbound) = ctx.dialect.inbound {
        let streaming = ctx.call.as_ref().is_some_and(|call| call.stream);
        if streaming {
            // The stream has begun: a typed error event, and then an end that no client takes for a good one.
            let asked = ctx.call.as_ref().map(|call| call.asked(&ctx.request_id)).unwrap_or_default();
            let asked = Asked { silent: !spoken(session, ctx), ..asked };
            let last_words = ctx.broken.as_mut().and_then(|attempt| attempt.last_words(&refusal));
            let event = last_words.unwrap_or_else(|| refusal.event(inbound, &asked, &ctx.request_id));
            let _ = session.write_response_body(Some(event.into()), false).await;
        }
    }
    ctx.refusal = Some(refusal);
    status
}

/// What the access log and the metrics are told of a call.
pub fn finished<'c>(session: &'c Session, ctx: &'c Ctx, status: u16, gone: bool) -> Finished<'c> {
    let name = match (&ctx.refusal, gone) {
        (Some(refusal), _) => refusal.name(),
        (None, true) => "client_gone",
        (None, false) if !ctx.outcome.name.is_empty() => ctx.outcome.name,
        (None, false) => "ok",
    };
    let over = ctx.outcome.settled.unwrap_or_else(|| ctx.shared.now());
    Finished {
        request: &ctx.request_id,
        method: session.req_header().method.as_str(),
        path: session.req_header().uri.path(),
        metered: ctx.call.is_some(),
        key: ctx.key.as_ref().map(|key| key.id.as_str()),
        asked: ctx.call.as_ref().map(|call| call.model.as_str()),
        series: ctx.outcome.series.as_deref(),
        dialect: ctx.dialect.name,
        stream: ctx.call.as_ref().is_some_and(|call| call.stream),
        attempts: ctx.attempts,
        status,
        outcome: name,
        usage: ctx.outcome.usage,
        cost: ctx.outcome.cost,
        unpriced: ctx.outcome.unpriced,
        ttft_us: ctx.outcome.ttft_us,
        total_us: over.since(ctx.started),
        bytes: session.body_bytes_sent(),
    }
}

/// Whether the caller has been given content, and not only a head and signs of life.
fn spoken(session: &Session, ctx: &Ctx) -> bool {
    session.response_written().is_some() && !ctx.gate.as_ref().is_some_and(|gate| gate.early())
}

/// Whether the caller has been given a stream to its end.
fn ended(session: &Session, ctx: &Ctx) -> bool {
    let Some(attempt) = ctx.current.as_ref().map(|current| &current.attempt) else { return false };
    let whole = attempt.facts().is_some_and(|facts| facts.whole && facts.committed);
    whole && attempt.fault.is_none() && attempt.terms.call.stream && spoken(session, ctx)
}

fn decide(ctx: &mut Ctx, error: &mut Box<Error>, fault: Fault) {
    let go_on = ctx.attempt_failed(fault);
    error.set_retry(go_on);
}

fn exhausted(ctx: &Ctx) -> Refusal {
    match &ctx.plan {
        Some(plan) => plan.exhausted(),
        None => Refusal::Bug { what: "a failure before any plan" },
    }
}

/// Whether the provider never took a request on, so that sending it once more is no second attempt; `reused`: it went
/// over a pooled connection, which may have been closed already.
///
/// Over HTTP/2 the provider says so itself: streams above the last one that a GOAWAY names, and those reset with
/// REFUSED_STREAM, were not processed (RFC 9113, section 8.7); any other reset may have cost money.
fn untaken(error: &Error, reused: bool) -> bool {
    match error.root_cause().downcast_ref::<h2::Error>() {
        Some(told) if told.is_remote() => told.is_go_away() || told.reason() == Some(h2::Reason::REFUSED_STREAM),
        Some(told) => reused && told.is_io(),
        None => reused && !matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout),
    }
}

/// The same attempt once more, on a connection of its own.
fn renew(ctx: &mut Ctx) -> bool {
    match ctx.current.take() {
        Some(current) if !current.renewed => {
            ctx.prepared = Some(current.attempt);
            true
        }
        other => {
            ctx.current = other;
            false
        }
    }
}

/// Why an attempt broke; `answered`: a head had come.
pub fn classify(error: &Error, answered: bool) -> Fault {
    // A stream that the provider ended, by the rules of HTTP/2.
    let ended = error.root_cause().downcast_ref::<h2::Error>().is_some_and(h2::Error::is_remote);
    let (kind, message) = match error.etype() {
        kind if *kind == downstream::FIRST_BYTE_TIMEOUT => {
            (FaultKind::Timeout, "The provider did not begin its answer in time.")
        }
        kind if *kind == downstream::IDLE_TIMEOUT => {
            (FaultKind::Timeout, "The provider's stream stood still for too long.")
        }
        kind if *kind == downstream::EMPTY_ANSWER => (FaultKind::Garbage, "The provider's answer has no body."),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            (FaultKind::Timeout, "The provider did not answer in time.")
        }
        ErrorType::InvalidHTTPHeader | ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade if !ended => {
            (FaultKind::Garbage, "The provider's answer is not valid HTTP.")
        }
        _ if answered => (FaultKind::Truncated, "The provider's answer ended before it was complete."),
        _ => (FaultKind::Connect, "The provider closed the connection without an answer."),
    };
    Fault::new(kind, message)
}

/// Reserves an attempt, where that is not done, and tells the journal of it.
fn journal(ctx: &mut Ctx, attempt: &mut Attempt) -> Result<()> {
    let (Some(call), Some(key)) = (&ctx.call, &ctx.key) else {
        return Err(stop(ctx, Refusal::Bug { what: "an attempt without a caller" }));
    };
    if let Err(short) = budgets::reserve(key, attempt) {
        let refusal = budgets::refusal(short, attempt.begun.unix_ms);
        let refusal = over_budget(&ctx.shared, &ctx.request_id, key, refusal);
        // What was tried and failed is told; that there is no room for more is in the log.
        let refusal = if ctx.attempts > 0 { exhausted(ctx) } else { refusal };
        return Err(stop(ctx, refusal));
    }
    if call.count {
        // Free of charge: there is nothing to meter.
        return Ok(());
    }
    let rules = ctx.plan.as_ref().map_or(&[][..], |plan| &plan.decision().rules);
    let intent = attempt.intent(ctx.id, key, ctx.dialect, call, rules);
    if let Err(error) = ctx.shared.journal.append_intent(&intent) {
        events::JournalFailed { what: "intent", error: &error }.emit(&ctx.shared.metrics);
        return Err(stop(ctx, Refusal::LedgerUnavailable));
    }
    if let Some(reservation) = &mut attempt.reservation {
        reservation.dispatched();
    }
    if let Some(flight) = &ctx.flight {
        flight.reserved(attempt.reserve());
    }
    Ok(())
}

/// Notes that a budget had no room.
fn over_budget(shared: &Shared, request: &str, key: &Key, refusal: Refusal) -> Refusal {
    if let Refusal::OverBudget { short, .. } = &refusal {
        events::OverBudget { request, key: &key.id, short }.emit(&shared.metrics);
    }
    refusal
}

/// Waits so long, or until it is woken, unless the client goes away or the deadline passes meanwhile.
pub async fn pause(
    session: &mut Session,
    ctx: &mut Ctx,
    wait: Duration,
    woken: impl Future<Output = ()>,
) -> Result<()> {
    if wait.is_zero() {
        return Ok(());
    }
    if let Some(gate) = &ctx.gate {
        gate.rest();
    }
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        () = woken => Ok(()),
        gone = session.downstream_session.read_body_or_idle(true) => match gone {
            Ok(_) => Ok(()),
            Err(error) => Err(interrupted(ctx, error)),
        },
    }
}

/// What ended a wait for something else than the client.
pub fn interrupted(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    if *error.etype() == downstream::DEADLINE {
        let refusal =
            ctx.plan.as_ref().map_or(Refusal::Bug { what: "a pause without a plan" }, |plan| plan.over_time());
        return stop(ctx, refusal);
    }
    if *error.etype() == downstream::DRAINING {
        return stop(ctx, Refusal::Draining);
    }
    error.as_down();
    error.set_retry(false);
    error
}

/// A provider's credential was refused: it is renewed, where it can be.
pub fn renew_grant(current: &Dispatched, shared: &Shared, served: &Served) {
    let provider = &current.attempt.candidate.target.target.provider;
    if let (Some(grant), Some(holder)) = (&current.grant, served.holder(&provider.id)) {
        holder.refused(grant, shared.now().unix_ms);
    }
}
