//! An answer on its way back: its head, its chunks, its end.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::context::{Ctx, Dispatched, ErrorBody};
use super::dispatch;
use super::reply::{self, REQUEST_ID};
use super::state::{Served, Shared};
use super::{heads, limiting};
use crate::dialect::{Asked, anthropic};
use crate::exchange::call::DEDUP;
use crate::exchange::{Aside, Attempt, Candidate, Form, Plan, Refusal, Relay, Sent, allowance, estimate};
use crate::ir::{Fault, FaultKind};
use crate::policy::price;
use crate::provider::secret::{conceal, conceal_bytes, repeats};
use crate::store::failpoint;

/// Most of an error answer that is read.
const MOST_ERROR: usize = 256 * 1024;

/// Pingora's `upstream_response_filter`: good or bad, by the status.
pub fn upstream_head(head: &ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(current) = &mut ctx.current else { return Ok(()) };
    if head.status.is_informational() {
        return Ok(());
    }
    if let Err(fault) = judge(head, current, &ctx.shared) {
        return Err(fail(ctx, fault));
    }
    if let Some(relay) = &mut current.attempt.relay
        && let Some(resume) = ctx.resume.take()
    {
        *relay = Relay::resumed(&current.attempt.terms, Sent::by(content_type(head)), resume);
        return Ok(());
    }
    if let (Some(relay), Some(plan)) = (&mut current.attempt.relay, &ctx.plan) {
        relay.heed(plan.declines(ctx.shared.now()), &current.attempt.terms);
    }
    Ok(())
}

/// Takes the head of a provider's answer: from here on there is a relay, or an error body to collect.
///
/// # Errors
/// It is no head of an answer.
pub fn judge(head: &ResponseHeader, current: &mut Dispatched, shared: &Shared) -> Result<(), Fault> {
    let attempt = &mut current.attempt;
    attempt.status = head.status.as_u16();
    if attempt.candidate.target.learns
        && let Some(held) = &attempt.held
    {
        let said = |name: &str| head.headers.get(name)?.to_str().ok();
        let now = shared.now();
        let (requests, tokens) = allowance::read(&said, now.unix_ms);
        held.learn(now.mono, requests, tokens);
    }
    if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        // We asked for identity; what is packed all the same cannot be read for usage, so it is no answer.
        let told = "The provider sent an encoded body though none was asked for.";
        return Err(Fault::new(FaultKind::Garbage, told));
    }
    if head.status.is_success() {
        attempt.relay = Some(Relay::new(&attempt.terms, Sent::by(content_type(head))));
    } else {
        current.error = Some(ErrorBody { head: Some(Box::new(head.clone())), ..ErrorBody::default() });
    }
    Ok(())
}

/// Pingora's `response_filter`: the answer's head for the caller. It is held until the first good byte.
pub fn head(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    ctx.count_hedge();
    let Some(current) = &ctx.current else { return Ok(()) };
    let attempt = &current.attempt;
    // An error answer: its head is made when its body is known.
    let Some(relay) = &attempt.relay else { return Ok(()) };
    let mut headers = current.headers(&head.headers, relay.form(&attempt.terms));
    name_call(&mut headers, ctx);
    limiting::tell(&mut headers, ctx);
    *head = heads::answer(head.status, headers);
    Ok(())
}

/// Pingora's `response_body_filter`: one chunk.
pub fn chunk(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    failpoint::panics("relaying");
    let Some(current) = &mut ctx.current else { return Ok(()) };
    if let Some(error) = &mut current.error {
        error.collect(body.take());
        return if end { error_answer(body, ctx) } else { Ok(()) };
    }
    let released = current.attempt.committed();
    match current.relay(body.take(), end, &ctx.shared) {
        Ok(bytes) => *body = bytes,
        Err(fault) => return Err(fail(ctx, fault)),
    }
    if current.attempt.facts().is_some_and(|facts| facts.broken_off)
        && let Some(gate) = &ctx.gate
    {
        gate.cut();
    }
    handed(body.as_ref(), released, ctx);
    Ok(())
}

/// What is to be done with bytes that are on their way to the caller; `released`: some were before.
pub fn handed(bytes: Option<&Bytes>, released: bool, ctx: &mut Ctx) {
    let Some(facts) = ctx.current.as_ref().and_then(|current| current.attempt.facts()) else { return };
    let (whole, committed) = (facts.whole, facts.committed);
    if let (Some(keeping), Some(bytes)) = (&mut ctx.keeping, bytes) {
        keeping.keeper.see(bytes);
    }
    if let (Some(listener), Some(bytes)) = (&mut ctx.shadow, bytes) {
        listener.hear(bytes);
    }
    // Before the last bytes go out: the caller may come back with the answer's id at once.
    if whole
        && let (Some(keeping), Some(key)) = (ctx.keeping.take(), &ctx.key)
        && let Some(kept) = keeping.keeper.kept(keeping.input, keeping.previous)
    {
        ctx.shared.responses.keep(&key.id, kept, ctx.shared.now().unix_ms / 1_000);
    }
    if let (true, Some(allotment), Some(call), Some(current)) = (whole, &ctx.allotment, &ctx.call, &ctx.current) {
        allotment.whole(&current.attempt, call, ctx.shared.now());
    }
    if let (true, Some(gate), Some(current)) = (whole, &ctx.gate, &ctx.current)
        && current.attempt.terms.call.stream
    {
        gate.set_whole(current.attempt.fault.is_none());
    }
    if committed && bytes.is_some() && !released {
        late_headers(ctx);
    }
}

impl Dispatched {
    /// Takes the next chunk of a good answer, and gives what it becomes for the caller.
    ///
    /// # Errors
    /// The answer is bad, and nothing of it has been handed out.
    pub fn relay(&mut self, chunk: Option<Bytes>, end: bool, shared: &Shared) -> Result<Option<Bytes>, Fault> {
        let attempt = &mut self.attempt;
        let Some(relay) = &mut attempt.relay else { return Ok(chunk) };
        let before = relay.facts().content;
        let out = match relay.chunk(chunk, end, &attempt.terms) {
            Ok(out) => out,
            Err(mut fault) => {
                self.conceal(&mut fault);
                return Err(fault);
            }
        };
        if !before && relay.facts().content {
            attempt.first = Some(shared.now());
        }
        let Some(mut fault) = out.fault else { return Ok(out.bytes) };
        // What tells of it may be on its way as it came.
        self.conceal(&mut fault);
        let bytes = out.bytes.map(|bytes| match conceal_bytes(&bytes, self.secrets()) {
            Cow::Owned(clean) => clean.into(),
            Cow::Borrowed(_) => bytes.clone(),
        });
        self.attempt.fault.get_or_insert(fault);
        Ok(bytes)
    }

    /// The fault that an error answer tells. A credential that the provider refuses rests. `now` is in Unix seconds.
    pub fn told(&self, head: Option<&ResponseHeader>, raw: &[u8], shared: &Shared, served: &Served, now: u64) -> Fault {
        // Before it is read: what is cut of a long sentence may end in the middle of a secret.
        let raw = conceal_bytes(raw, self.secrets());
        let mut fault = self.attempt.terms.outbound.fault(self.attempt.status, &raw);
        fault.status = Some(self.attempt.status);
        if let Some(head) = head {
            fault.retry_after = retry_after(head, now).or(fault.retry_after);
        }
        self.conceal(&mut fault);
        if fault.kind == FaultKind::Authentication {
            dispatch::renew_grant(self, shared, served);
        }
        fault
    }

    /// Takes our own credentials out of what a provider says, should it repeat them.
    fn conceal(&self, fault: &mut Fault) {
        let texts = [Some(&mut fault.message), fault.code.as_mut(), fault.param.as_mut()];
        for text in texts.into_iter().flatten() {
            if let Cow::Owned(clean) = conceal(text, self.secrets()) {
                *text = clean;
            }
        }
    }

    /// The headers of the answer, made from the provider's.
    fn headers(&self, upstream: &HeaderMap, form: Form) -> HeaderMap {
        let mut headers = heads::response(upstream, form);
        if headers.values().any(|value| repeats(value.as_bytes(), self.secrets())) {
            let kept = headers.iter().filter(|(_, value)| !repeats(value.as_bytes(), self.secrets()));
            headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        }
        headers
    }
}

impl ErrorBody {
    /// Takes a piece of it in, as far as it is worth reading; says whether more is.
    pub fn collect(&mut self, chunk: Option<Bytes>) -> bool {
        let chunk = chunk.unwrap_or_default();
        if self.size < MOST_ERROR && !chunk.is_empty() {
            self.size += chunk.len();
            self.parts.push(chunk);
        }
        self.size < MOST_ERROR
    }
}

/// The end of a call, at `logging`: settles what is still open.
pub fn finish(ctx: &mut Ctx, gone: bool) {
    failpoint::panics("settling");
    ctx.count_hedge();
    let Some(current) = &mut ctx.current else { return };
    if let Some(fault) = current.attempt.fault.clone() {
        // The provider failed inside the answer, and the caller was told so in its stream.
        let fallback = Refusal::Failed { fault: fault.clone(), tried: Vec::new() };
        ctx.attempt_failed(fault);
        let refusal = ctx.plan.as_ref().map_or(fallback, Plan::exhausted);
        ctx.refusal.get_or_insert(refusal);
        return;
    }
    let whole = current.attempt.facts().is_some_and(|facts| facts.whole);
    let committed = current.attempt.committed();
    // What it was given to read costs, though nobody heard what came of it.
    current.attempt.abandoned |= gone && !whole && current.sent;
    match (whole, gone) {
        (true, true) if ctx.gone => ctx.attempt_over("client_gone", committed),
        (true, _) => {
            if current.attempt.relay.as_ref().is_some_and(Relay::is_resumed) {
                ctx.continued("ok");
            }
            ctx.outcome.name = "ok";
            ctx.attempt_over("ok", true);
        }
        (false, true) => ctx.attempt_over("client_gone", committed),
        (false, false) => {
            ctx.attempt_failed(Fault::new(FaultKind::Truncated, "The answer ended before it was complete."));
        }
    }
}

/// Headers of a failure that name the call's attempts.
pub fn name_attempts(head: &mut ResponseHeader, ctx: &Ctx) {
    // Fails only for values that are no header values; these are digits and names from the configuration.
    let _ = head.insert_header("x-portolan-attempts", ctx.attempts);
    if let Some(story) = ctx.plan.as_ref().and_then(Plan::story) {
        let _ = head.insert_header("x-portolan-route", story);
    }
}

fn name_call(headers: &mut HeaderMap, ctx: &Ctx) {
    let Some(current) = &ctx.current else { return };
    let attempt = &current.attempt;
    let Candidate { model, target, .. } = &attempt.candidate;
    let [provider, target] = &target.said;
    for (name, value) in [(&names::MODEL, &model.said), (&names::PROVIDER, provider), (&names::TARGET, target)] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    // Fails only for what no header can hold, and these are ids of ours and names of members.
    if let Ok(id) = HeaderValue::from_str(&ctx.request_id) {
        headers.entry(own_request_id(ctx)).or_insert_with(|| id.clone());
        headers.insert(&names::REQUEST, id);
    }
    if !attempt.losses.is_empty()
        && let Ok(losses) = HeaderValue::from_str(&attempt.losses.header())
    {
        headers.insert(&names::LOSS, losses);
    }
    headers.insert(&names::CACHE, HeaderValue::from_static("off"));
    headers.insert(&names::ROUTE, route(ctx, attempt));
    let attempts = if ctx.attempts == 1 { HeaderValue::from_static("1") } else { ctx.attempts.into() };
    headers.insert(&names::ATTEMPTS, attempts);
    if ctx.flight.is_some() {
        headers.insert(DEDUP, HeaderValue::from_static("leader"));
    }
}

/// The header in which the caller's SDK looks for the id that it shows in its exceptions.
fn own_request_id(ctx: &Ctx) -> &'static HeaderName {
    if ctx.dialect == anthropic::DIALECT { &names::ANTHROPIC_REQUEST } else { &names::OPENAI_REQUEST }
}

/// Names of headers that each answer has.
mod names {
    use http::HeaderName;

    pub static REQUEST: HeaderName = HeaderName::from_static(super::REQUEST_ID);
    pub static MODEL: HeaderName = HeaderName::from_static("x-portolan-model");
    pub static PROVIDER: HeaderName = HeaderName::from_static("x-portolan-provider");
    pub static TARGET: HeaderName = HeaderName::from_static("x-portolan-target");
    pub static CACHE: HeaderName = HeaderName::from_static("x-portolan-cache");
    pub static ROUTE: HeaderName = HeaderName::from_static("x-portolan-route");
    pub static ATTEMPTS: HeaderName = HeaderName::from_static("x-portolan-attempts");
    pub static LOSS: HeaderName = HeaderName::from_static("x-portolan-loss");
    pub static OPENAI_REQUEST: HeaderName = HeaderName::from_static("x-request-id");
    pub static ANTHROPIC_REQUEST: HeaderName = HeaderName::from_static("request-id");
}

/// Why this target.
fn route(ctx: &Ctx, attempt: &Attempt) -> HeaderValue {
    let why = attempt.candidate.why;
    let Some(plan) = &ctx.plan else { return HeaderValue::from_static(why.strategy.name()) };
    let again = match attempt.aside {
        _ if attempt.number == 1 => None,
        Some(Aside::Hedge) => Some("hedge"),
        _ if plan.repeated() => Some("fallback;repeated"),
        _ => Some("fallback"),
    };
    match why.line(&attempt.candidate.model, plan.decision(), again) {
        Cow::Borrowed(line) => HeaderValue::from_static(line),
        Cow::Owned(line) => {
            HeaderValue::try_from(line).unwrap_or_else(|_| HeaderValue::from_static(why.strategy.name()))
        }
    }
}

/// What is known of a whole answer only when its body is: cost, and losses of the way back.
fn late_headers(ctx: &Ctx) {
    let (Some(gate), Some(current), Some(call)) = (&ctx.gate, &ctx.current, &ctx.call) else { return };
    let attempt = &current.attempt;
    let mut late: Vec<(&'static str, HeaderValue)> = Vec::new();
    if !call.stream
        && let Some(cost) = attempt.usage(call).and_then(|(usage, _)| attempt.terms.charge(&usage))
        && let Ok(value) = HeaderValue::try_from(price::cost_decimal(cost))
    {
        late.push(("x-portolan-cost-usd", value));
    }
    if let Some(facts) = attempt.facts().filter(|facts| !facts.losses.is_empty()) {
        let mut losses = attempt.losses.clone();
        for loss in facts.losses.iter() {
            losses.add(loss.how, loss.path.clone());
        }
        if let Ok(value) = HeaderValue::try_from(losses.header()) {
            late.push(("x-portolan-loss", value));
        }
    }
    if !late.is_empty() {
        gate.add_headers(late);
    }
}

/// What an error answer without a body says by its head; it ends before any chunk could come.
pub fn bare_error(ctx: &mut Ctx) -> Option<Fault> {
    let error = ctx.current.as_mut()?.error.take()?;
    read_error(&error, b"", ctx)
}

/// The fault that an error answer tells.
fn read_error(error: &ErrorBody, raw: &[u8], ctx: &Ctx) -> Option<Fault> {
    let now = ctx.started.unix_ms / 1_000;
    Some(ctx.current.as_ref()?.told(error.head.as_deref(), raw, &ctx.shared, &ctx.served, now))
}

/// An error answer is whole: another target may try, or the caller is told.
fn error_answer(body: &mut Option<Bytes>, ctx: &mut Ctx) -> Result<()> {
    let Some(error) = ctx.current.as_mut().and_then(|current| current.error.take()) else { return Ok(()) };
    let raw: Bytes = error.parts.concat().into();
    let Some(fault) = read_error(&error, &raw, ctx) else { return Ok(()) };
    let Some(current) = &ctx.current else { return Ok(()) };
    let same = current.attempt.terms.same_dialect;
    let leaks = repeats(&raw, current.secrets());
    let upstream = error.head.as_ref().map(|head| (head.status, current.headers(&head.headers, Form::AsItCame)));
    if ctx.attempt_failed(fault.clone()) {
        ctx.decided = Some(true);
        let mut retry = Error::explain(ErrorType::HTTPStatus(fault.status.unwrap_or(502)), "the provider refused");
        retry.as_up();
        retry.set_retry(true);
        return Err(retry);
    }
    // No other target: the caller is told, through the answer that is still held, so that the connection stays usable.
    let refusal = ctx.plan.as_ref().map_or(Refusal::Bug { what: "an answer without a plan" }, |plan| plan.exhausted());
    let own_account =
        matches!(fault.kind, FaultKind::Authentication | FaultKind::Permission | FaultKind::QuotaExhausted);
    if let Some(mut broken) = ctx.broken.take_if(|attempt| attempt.relay.as_ref().is_some_and(Relay::is_resumed)) {
        // The stream has begun: its end is told in it.
        *body = broken.last_words(&refusal).map(Bytes::from);
        ctx.refusal = Some(refusal);
        return Ok(());
    }
    let early = ctx.gate.as_ref().is_some_and(|gate| gate.early());
    if let Some(inbound) = ctx.dialect.inbound.filter(|_| early) {
        // The caller has a head already: the failure can only be told in its stream.
        let asked = ctx.call.as_ref().map(|call| call.asked(&ctx.request_id)).unwrap_or_default();
        let asked = Asked { silent: true, ..asked };
        *body = Some(refusal.event(inbound, &asked, &ctx.request_id).into());
        ctx.refusal = Some(refusal);
        return Ok(());
    }
    let uncounted = ctx.call.as_ref().filter(|call| call.count && fault.kind == FaultKind::NotFound);
    if let Some(counted) = uncounted.and_then(|call| estimate::answer(call, ctx.dialect.inbound?).ok()) {
        // The provider has no such path; that it has the model is for answers to find out.
        let (head, told) = reply::estimated(counted, &ctx.request_id)?;
        return tell(head, told, body, ctx);
    }
    let (head, told) = if same && !leaks && !own_account && !raw.is_empty() {
        let mut head = match upstream {
            Some((status, headers)) => Box::new(heads::answer(status, headers)),
            None => Box::new(ResponseHeader::build(502, None)?),
        };
        head.insert_header(REQUEST_ID, &*ctx.request_id)?;
        let own = own_request_id(ctx);
        if !head.headers.contains_key(own) {
            head.insert_header(own.clone(), &*ctx.request_id)?;
        }
        if let (None, Some(wait)) = (head.headers.get(header::RETRY_AFTER), refusal.retry_after()) {
            head.insert_header(header::RETRY_AFTER, wait.as_secs_f64().ceil() as u64)?;
        }
        (head, raw)
    } else {
        reply::refusal_parts(&refusal, ctx.dialect, &ctx.request_id)?
    };
    ctx.refusal = Some(refusal);
    tell(head, told, body, ctx)
}

/// Puts another answer in the place of the one that is held.
fn tell(mut head: Box<ResponseHeader>, told: Bytes, body: &mut Option<Bytes>, ctx: &Ctx) -> Result<()> {
    head.remove_header(&header::TRANSFER_ENCODING);
    head.insert_header(header::CONTENT_LENGTH, told.len())?;
    name_attempts(&mut head, ctx);
    limiting::over(ctx);
    limiting::tell_in(&mut head, ctx);
    if let Some(gate) = &ctx.gate {
        gate.replace_head(head);
    }
    *body = Some(told);
    Ok(())
}

/// Notes why the attempt is bad, and makes the error that takes Pingora's loop to `error_while_proxy`.
fn fail(ctx: &mut Ctx, fault: Fault) -> Box<Error> {
    if let Some(current) = &mut ctx.current {
        current.attempt.fault = Some(fault);
    }
    let mut error = Error::explain(ErrorType::InvalidHTTPHeader, "the provider's answer is bad");
    error.as_up();
    error
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3), or OpenAI's `retry-after-ms`.
pub fn retry_after(head: &ResponseHeader, now: u64) -> Option<Duration> {
    let value = |name: &str| head.headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) = value("retry-after-ms").and_then(|text| text.parse::<u64>().ok()) {
        return Some(Duration::from_millis(ms));
    }
    let text = value("retry-after")?;
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_secs(now)))
}

fn content_type(head: &ResponseHeader) -> Option<&str> {
    head.headers.get(header::CONTENT_TYPE)?.to_str().ok()
}
