//! Every recorded error answer, and every error event in a stream, becomes a fault of the right kind that says what the
//! provider said, and an error that OpenAI's SDKs raise.

use portolan::dialect::Asked;
use portolan::exchange::Refusal;
use portolan::ir::{Fault, FaultKind, Losses};
use serde_json::Value;

use super::plain::string;
use super::recordings::{Exchange, Speech};
use super::tally::Tally;
use super::through;

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    for exchange in recordings {
        if !exchange.is_good() {
            let body = exchange.whole().unwrap();
            let fault = exchange.speech().dialect().outbound.unwrap().fault(exchange.response.status, body.as_bytes());
            let mut problems = judge(&fault, Some(exchange.response.status), body);
            problems.extend(retold(&fault));
            tally.count(&exchange.id, problems, &Losses::default());
        }
        for (id, text) in exchange.streams() {
            let theirs = super::answers::read_stream(exchange, text);
            let Some(error) = theirs.error else { continue };
            let passed = through::stream(exchange.speech().dialect(), text.as_bytes(), &[]);
            let problems = match &passed.fault {
                None => vec!["the error event was not seen".to_owned()],
                Some(fault) => {
                    let mut problems = judge(fault, None, &error.to_string());
                    problems.extend(retold(fault));
                    problems
                }
            };
            tally.count(&format!("{id} (event)"), problems, &Losses::default());
        }
    }
    tally
}

/// What is wrong with a fault, seen what the provider sent.
fn judge(fault: &Fault, status: Option<u16>, body: &str) -> Vec<String> {
    use FaultKind::*;
    let allowed: &[FaultKind] = match status {
        // Several providers say 400 for a model they do not have, a key they do not know, or an empty purse.
        Some(400) => &[BadRequest, ContextLength, ContentFilter, NotFound, Authentication, QuotaExhausted, TooLarge],
        Some(401) => &[Authentication],
        Some(403) => &[Permission, QuotaExhausted, ContentFilter],
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

/// What is wrong with the error that a caller of Chat Completions gets, as a body and as an event.
fn retold(fault: &Fault) -> Vec<String> {
    let refusal = Refusal::Failed { fault: fault.clone(), tried: 1 };
    let inbound = Speech::Chat.dialect().inbound.unwrap();
    let event = String::from_utf8(refusal.event(inbound, &Asked::default(), "id")).unwrap();
    let (_, data) = super::plain::events(&event).remove(0);
    let mut problems = Vec::new();
    for text in [String::from_utf8(refusal.body(inbound, "id")).unwrap(), data] {
        let error = serde_json::from_str::<Value>(&text).expect("our error is JSON")["error"].clone();
        let told = string(&error["message"]);
        let is_null_or_string = |name: &str| error.get(name).is_some_and(|value| value.is_null() || value.is_string());
        if told.is_empty() || !error["type"].is_string() || !is_null_or_string("param") || !is_null_or_string("code") {
            problems.push(format!("not an error of OpenAI's: {text}"));
        }
    }
    if !(400..600).contains(&refusal.status()) {
        problems.push(format!("status {}", refusal.status()));
    }
    problems
}
