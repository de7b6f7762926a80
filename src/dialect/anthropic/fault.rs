//! Errors: `{"type":"error","error":{"type","message"}}` to a [`Fault`], as an error answer or as an event of a stream.
//!
//! The type tells most, but `invalid_request_error` is also what an empty account and a prompt that is too long are told
//! (recorded answers and guide "Errors", seen 2026-11-21). Providers that only speak this dialect have words of their
//! own; those are judged by the status.

use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Raw, Text, clip};

shape! {
    struct Body { error "error": Raw<'a>, kind "type": Text<'a>, message "message": Text<'a> }
}

shape! {
    struct Told { kind "type": Text<'a>, message "message": Text<'a> }
}

/// Longest provider text that a fault keeps, in characters.
const LONGEST: usize = 2_048;

const KINDS: [(&str, FaultKind); 11] = [
    ("invalid_request_error", FaultKind::BadRequest),
    ("authentication_error", FaultKind::Authentication),
    ("billing_error", FaultKind::QuotaExhausted),
    ("permission_error", FaultKind::Permission),
    ("not_found_error", FaultKind::NotFound),
    ("conflict_error", FaultKind::Conflict),
    ("request_too_large", FaultKind::TooLarge),
    ("rate_limit_error", FaultKind::RateLimited),
    ("api_error", FaultKind::Server),
    ("overloaded_error", FaultKind::Overloaded),
    ("timeout_error", FaultKind::Timeout),
];

/// Reads an error answer, whatever it is.
pub(super) fn read(status: u16, body: &[u8]) -> Fault {
    match json::read::<Body<'_>>(body) {
        Ok(Body { error: Some(error), .. }) => tell(Some(status), &error),
        Ok(Body { kind, message: Some(message), .. }) => fault(Some(status), kind.as_deref(), &message),
        _ => {
            let text = String::from_utf8_lossy(body);
            let message = match text.trim() {
                "" => "the answer had no body",
                text => clip(text, LONGEST),
            };
            Fault { status: Some(status), ..Fault::new(FaultKind::from_status(status), message) }
        }
    }
}

/// Reads the `error` member of an event of a stream whose own status was 200.
pub(super) fn event(error: &Raw<'_>) -> Fault {
    tell(None, error)
}

fn tell(status: Option<u16>, error: &Raw<'_>) -> Fault {
    match error.read::<Told<'_>>() {
        Ok(told) => {
            fault(status, told.kind.as_deref(), told.message.as_deref().unwrap_or("the provider gave no reason"))
        }
        // Some write the sentence alone.
        Err(_) => {
            let text =
                error.read::<Text<'_>>().map_or_else(|_| clip(error.get(), LONGEST).into(), |text| text.to_string());
            fault(status, None, &text)
        }
    }
}

fn fault(status: Option<u16>, code: Option<&str>, message: &str) -> Fault {
    Fault {
        status,
        code: code.map(|code| clip(code, 128).to_owned()),
        param: param(message),
        ..Fault::new(kind(status, code, message), clip(message, LONGEST))
    }
}

fn kind(status: Option<u16>, code: Option<&str>, message: &str) -> FaultKind {
    let by_status = FaultKind::from_status(status.unwrap_or(500));
    let told = KINDS.iter().find(|(word, _)| code == Some(*word)).map_or(by_status, |(_, kind)| *kind);
    let says = |words: &str| contains(message, words);
    match told {
        FaultKind::BadRequest | FaultKind::TooLarge if says("prompt is too long") || says("exceed context limit") => {
            FaultKind::ContextLength
        }
        FaultKind::BadRequest if says("exceeds the context window") || says("exceeds the maximum number of tokens") => {
            FaultKind::ContextLength
        }
        FaultKind::BadRequest | FaultKind::RateLimited | FaultKind::Permission if says("credit balance is too low") => {
            FaultKind::QuotaExhausted
        }
        // A limit that an account set on its own spending.
        FaultKind::BadRequest if says("reached your specified api usage limits") => FaultKind::QuotaExhausted,
        FaultKind::BadRequest if says("content filtering policy") => FaultKind::ContentFilter,
        kind => kind,
    }
}

/// The member at fault: messages begin with its path, as `messages.0.content: ...` or `tools.0.custom.name: ...`.
fn param(message: &str) -> Option<String> {
    let (path, _) = message.split_once(": ")?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let known = ["max_tokens", "messages", "metadata", "model", "output_config", "service_tier", "stop_sequences"];
    let known =
        known.iter().chain(&["stream", "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p"]);
    let first = path.split('.').next().unwrap_or(path);
    (path.len() <= 200 && path.chars().all(word) && known.into_iter().any(|name| *name == first))
        .then(|| path.to_owned())
}

/// Whether `text` has the words, which are in lower case, in any case.
fn contains(text: &str, words: &str) -> bool {
    text.as_bytes().windows(words.len()).any(|window| window.eq_ignore_ascii_case(words.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, kind: &str, message: &str, wanted: FaultKind) {
        let body =
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#);
        let fault = read(status, body.as_bytes());
        assert_eq!(fault.kind, wanted, "{body}");
        assert_eq!((fault.status, fault.code.as_deref(), fault.message.as_str()), (Some(status), Some(kind), message));
    }

    #[test]
    fn types_tell_the_kind() {
        let invalid = "invalid_request_error";
        check(400, invalid, "messages: at least one message is required", FaultKind::BadRequest);
        check(400, invalid, "prompt is too long: 205000 tokens > 200000 maximum", FaultKind::ContextLength);
        let both = "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000";
        check(400, invalid, both, FaultKind::ContextLength);
        let credit = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing";
        check(400, invalid, credit, FaultKind::QuotaExhausted);
        check(400, invalid, "Output blocked by content filtering policy", FaultKind::ContentFilter);
        check(401, "authentication_error", "invalid x-api-key", FaultKind::Authentication);
        check(402, "billing_error", "see billing", FaultKind::QuotaExhausted);
        check(403, "permission_error", "no", FaultKind::Permission);
        check(404, "not_found_error", "model: claude-x", FaultKind::NotFound);
        check(413, "request_too_large", "Request exceeds the maximum size", FaultKind::TooLarge);
        check(429, "rate_limit_error", "slow down", FaultKind::RateLimited);
        check(500, "api_error", "Internal server error", FaultKind::Server);
        check(504, "timeout_error", "too slow", FaultKind::Timeout);
        check(529, "overloaded_error", "Overloaded", FaultKind::Overloaded);
        check(503, "strange_error", "no upstream", FaultKind::Overloaded);
    }

    #[test]
    fn the_member_at_fault_is_named() {
        let of = |message: &str| fault(Some(400), None, message).param;
        assert_eq!(of("temperature: range: 0..1").as_deref(), Some("temperature"));
        assert_eq!(
            of("tools.0.custom.input_schema.type: Field required").as_deref(),
            Some("tools.0.custom.input_schema.type")
        );
        assert_eq!(of("Overloaded: try later"), None);
        assert_eq!(of("prompt is too long: 5"), None);
    }

    #[test]
    fn anything_else_is_told_by_its_status() {
        assert_eq!(read(502, b"<html>bad gateway</html>").kind, FaultKind::Server);
        assert_eq!(read(500, b"").message, "the answer had no body");
        assert_eq!(read(529, br#"{"error":"busy"}"#).message, "busy");
        assert_eq!(read(401, br#"{"message":"no key"}"#).kind, FaultKind::Authentication);
        assert_eq!(
            event(&Raw::literal(r#"{"type":"overloaded_error","message":"Overloaded"}"#)).kind,
            FaultKind::Overloaded
        );
        assert_eq!(event(&Raw::literal("{}")).kind, FaultKind::Server);
    }
}
