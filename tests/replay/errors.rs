//! Every recorded error answer, and every error event in a stream, becomes a fault of the right kind that says what the
//! provider said, and an error that the SDKs of each caller's dialect
//! raise.

use portolan::dialect::Asked;
use portolan::exchange::Refusal;
use portolan::ir::{Fault, FaultKind, Losses};
use serde_json::Value;

use super::plain::string;
use super::recordings::{Exchange, Speech};
use super::tally::Tally;
use super::through::Way;

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    for exchange in recordings.iter().filter(|exchange| exchange.speech() != Speech::Completions) {
        if exchange.aside().is_some() {
            // Counted where its answers are.
            continue;
        }
        let speech = exchange.speech();
        if !exchange.is_good() {
            let body = exchange.whole().unwrap();
            let fault = speech.dialect().outbound.unwrap().fault(exchange.response.status, body.as_bytes());
            tell(&mut tally, &exchange.id, &fault, judge(&fault, Some(exchange.response.status), body));
        }
        for (id, bytes) in exchange.byte_streams() {
            let theirs = super::answers::read_bytes(exchange, &bytes);
            let Some(error) = theirs.error else { continue };
            let id = format!("{id} (event)");
            let passed = Way::to_chat(speech.dialect()).stream(&bytes, &[]);
            match &passed.fault {
                None => tally.count(&id, vec!["the error event was not seen".to_owned()], &Losses::default()),
                Some(fault) => tell(&mut tally, &id, fault, judge(fault, None, &error.to_string())),
            }
        }
    }
    tally
}

/// Counts a fault for a caller of each dialect.
fn tell(tally: &mut Tally, id: &str, fault: &Fault, problems: Vec<String>) {
    for to in Speech::CALLERS {
        let problems = problems.iter().cloned().chain(retold(fault, to)).collect();
        tally.count(&format!("{id} to {}", to.name()), problems, &Losses::default());
    }
}

/// What is wrong with a fault, seen what the provider sent.
fn judge(fault: &Fault, status: Option<u16>, body: &str) -> Vec<String> {
    use FaultKind::*;
    let allowed: &[FaultKind] = match status {
        // Several providers say 400 for a model they do not have, a key they do not know, or an empty purse.
        Some(400) => &[BadRequest, ContextLength, ContentFilter, NotFound, Authentication, QuotaExhausted, TooLarge],
        Some(401) => &[Authentication],
        // AWS says 403 for a token that has expired.
        Some(403) => &[Authentication, Permission, QuotaExhausted, ContentFilter],
        Some(404) => &[NotFound],
        Some(422) => &[BadRequest, NotFound, ContextLength],
        Some(429) => &[RateLimited, QuotaExhausted],
        Some(500..=599) => &[Server, Overloaded, Timeout, ContextLength],
        // Inside a stream there is no status; only that it is no puzzle.
        None => &[BadRequest, Server, Overloaded, RateLimited, QuotaExhausted, ContentFilter, ContextLength],
        Some(other) => panic!("a status that this test does not know: {other}"),
    };
    let mut problems = Vec::new();
    if !allowed.contains(&fault.kind) {
        problems.push(format!("status {status:?} became {:?}: {body}", fault.kind));
    }
    if status.is_some() && fault.status != status {
        problems.push(format!("status {status:?} became {:?}", fault.status));
    }
    let said = message(&serde_json::from_str(body).unwrap_or(Value::Null));
    let start: String = said.chars().take(200).collect();
    if fault.message.trim().is_empty() || !fault.message.contains(start.trim()) {
        problems.push(format!("the provider said `{start}`, the fault says `{}`", fault.message));
    }
    problems
}

/// The provider's sentence, wherever its kind of error has it.
fn message(error: &Value) -> String {
    match error {
        Value::Array(list) => message(list.first().unwrap_or(&Value::Null)),
        Value::String(text) => text.clone(),
        _ => match [&error["error"], &error["message"], &error["detail"]].into_iter().find(|value| !value.is_null()) {
            Some(Value::Array(list)) => string(&list[0]["msg"]),
            Some(inner) => message(inner),
            None => String::new(),
        },
    }
}

/// What is wrong with the error that a caller gets, as a body and as an event of a stream.
fn retold(fault: &Fault, to: Speech) -> Vec<String> {
    let refusal = Refusal::Failed { fault: fault.clone(), tried: Vec::new() };
    let inbound = to.dialect().inbound.unwrap();
    let event = String::from_utf8(refusal.event(inbound, &Asked::default(), "id")).unwrap();
    let (name, data) = super::plain::events(&event).remove(0);
    let body = String::from_utf8(refusal.body(inbound, "id")).unwrap();
    let status = refusal.status();
    let mut problems = Vec::new();
    for (text, is_event) in [(body, false), (data, true)] {
        let json: Value = serde_json::from_str(&text).expect("our error is JSON");
        let error = match (to, is_event) {
            // An event of a response is its own error.
            (Speech::Responses, true) if json["error"].is_null() => &json,
            _ => &json["error"],
        };
        let is_null_or_string = |name: &str| error.get(name).is_some_and(|value| value.is_null() || value.is_string());
        let shaped = match to {
            Speech::Messages => {
                json["type"] == "error" && is_of_anthropic(&error["type"], status) && (!is_event || name == "error")
            }
            // A provider's own 5xx is relayed as the status, and is 502 in words.
            Speech::Gemini => {
                let code = error["code"].as_u64().unwrap_or(0);
                (code == u64::from(status) || code >= 500 && status >= 500) && error["status"].is_string()
            }
            Speech::Responses if is_event => json["type"] == "error" && is_null_or_string("code"),
            _ => error["type"].is_string() && is_null_or_string("param") && is_null_or_string("code"),
        };
        let told = string(&error["message"]);
        // What speaks of the request is told in the provider's words.
        let start: String = fault.message.trim().chars().take(60).collect();
        let theirs = matches!(fault.kind, FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter);
        if told.is_empty() || !shaped || theirs && !told.contains(&start) {
            problems.push(format!("not an error of {}: {text}", to.name()));
        }
    }
    if !(400..600).contains(&status) {
        problems.push(format!("status {status}"));
    }
    problems
}

/// Anthropic's words for errors, each with its status (documentation "Errors", seen 2026-11-21); a status without a word
/// of its own is told as the nearest.
fn is_of_anthropic(word: &Value, status: u16) -> bool {
    let words: &[&str] = match status {
        400 | 405 | 422 => &["invalid_request_error"],
        401 => &["authentication_error"],
        402 => &["billing_error"],
        403 => &["permission_error"],
        404 => &["not_found_error"],
        413 => &["request_too_large"],
        429 => &["rate_limit_error"],
        503 => &["overloaded_error", "api_error"],
        504 | 408 => &["timeout_error", "api_error"],
        _ => &["api_error"],
    };
    words.iter().any(|known| word == known)
}
