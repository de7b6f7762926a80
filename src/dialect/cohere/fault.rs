//! Errors: `{"message":"..."}`, with an `id` at times, to a [`Fault`]; and answers that broke off.
//!
//! There is no code: the status tells most, and the sentence what the status does not (API reference "Errors", seen
//! 2026-11-21, and recorded answers).

use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Raw, Text, clip};

shape! {
    struct Body { message "message": Raw<'a>, error "error": Raw<'a>, detail "detail": Raw<'a>, kind "error_type": Text<'a> }
}

/// Longest provider text that a fault keeps, in characters.
const LONGEST: usize = 2_048;

/// What sentences tell, in lower case, where the status leaves it open.
const PHRASES: [(&str, FaultKind); 9] = [
    ("too many tokens", FaultKind::ContextLength),
    ("context length", FaultKind::ContextLength),
    ("maximum context", FaultKind::ContextLength),
    ("trial key", FaultKind::QuotaExhausted),
    ("billing", FaultKind::QuotaExhausted),
    ("payment method", FaultKind::QuotaExhausted),
    ("invalid api token", FaultKind::Authentication),
    ("make sure the correct model id", FaultKind::NotFound),
    ("blocked", FaultKind::ContentFilter),
];

/// Reads an error answer, whatever it is.
pub(super) fn read(status: u16, body: &[u8]) -> Fault {
    match json::read::<Body<'_>>(body) {
        Ok(body) => tell(Some(status), body),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let message = match text.trim() {
                "" => "the answer had no body",
                text => clip(text, LONGEST),
            };
            Fault { status: Some(status), ..Fault::new(by_status(status), message) }
        }
    }
}

/// Reads an error that came as an event of a stream whose own status was 200.
pub(super) fn event(data: &str) -> Fault {
    tell(None, json::read(data.as_bytes()).unwrap_or_default())
}

/// An answer that ended with a word for failure, `kind` and `error` beside it where the provider said more.
pub(super) fn broken(word: Option<&str>, kind: Option<&str>, error: Option<&Raw<'_>>) -> Fault {
    let message = error.map_or_else(
        || format!("the provider broke the answer off: {}", clip(word.unwrap_or("no reason given"), 80)),
        |error| plain(error),
    );
    // The model wrote what is no call: the request was good, and another model may do better.
    let told = if word == Some("TIMEOUT") { FaultKind::Timeout } else { FaultKind::Server };
    Fault { code: kind.or(word).map(|code| clip(code, 128).to_owned()), ..Fault::new(told, clip(&message, LONGEST)) }
}

fn tell(status: Option<u16>, body: Body<'_>) -> Fault {
    let said = [&body.message, &body.error, &body.detail].into_iter().flatten().find(|raw| !raw.is_null());
    let message = said.map_or_else(|| "the provider gave no reason".to_owned(), plain);
    let kind = kind(status, &message);
    let code = body.kind.map(|code| clip(&code, 128).to_owned());
    Fault { status, code, ..Fault::new(kind, clip(&message, LONGEST)) }
}

/// A sentence; an object that has one is asked for it.
fn plain(raw: &Raw<'_>) -> String {
    match raw.read::<Text<'_>>() {
        Ok(text) => text.to_string(),
        Err(_) => match raw.read::<Body<'_>>().ok().and_then(|body| body.message?.read::<String>().ok()) {
            Some(text) => text,
            None => clip(raw.get(), LONGEST).to_owned(),
        },
    }
}

fn by_status(status: u16) -> FaultKind {
    match status {
        // Cohere's own: the input was blocked.
        498 => FaultKind::ContentFilter,
        // Also its own: the client was thought to be gone.
        499 => FaultKind::Conflict,
        status => FaultKind::from_status(status),
    }
}

fn kind(status: Option<u16>, message: &str) -> FaultKind {
    if matches!(status, None | Some(400 | 402 | 403 | 404 | 422 | 429)) {
        let message = message.to_ascii_lowercase();
        let fits = |kind: FaultKind| match status {
            Some(429) => kind == FaultKind::QuotaExhausted,
            Some(404) => kind == FaultKind::NotFound,
            _ => true,
        };
        let told = PHRASES.iter().find(|(phrase, kind)| fits(*kind) && message.contains(phrase));
        if let Some((_, kind)) = told {
            return *kind;
        }
    }
    by_status(status.unwrap_or(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_sentence_tell_the_kind() {
        for (status, message, wanted) in [
            (400, "invalid request: message must be at least 1 token long", FaultKind::BadRequest),
            (400, "too many tokens: size limit exceeded by 12 tokens", FaultKind::ContextLength),
            (401, "invalid api token", FaultKind::Authentication),
            (403, "no", FaultKind::Permission),
            (404, "model 'x' not found, make sure the correct model ID was used", FaultKind::NotFound),
            (422, "unprocessable", FaultKind::BadRequest),
            (429, "too many tokens, please slow down", FaultKind::RateLimited),
            (429, "You are using a Trial key, which is limited to 1000 API calls / month", FaultKind::QuotaExhausted),
            (498, "blocked input", FaultKind::ContentFilter),
            (500, "internal server error", FaultKind::Server),
            (503, "overloaded", FaultKind::Overloaded),
            (504, "timeout", FaultKind::Timeout),
        ] {
            let fault = read(status, format!(r#"{{"id":"1","message":"{message}"}}"#).as_bytes());
            assert_eq!((fault.kind, fault.message.as_str(), fault.status), (wanted, message, Some(status)));
        }
    }

    #[test]
    fn anything_else_is_told_by_its_status() {
        assert_eq!(read(502, b"<html>bad gateway</html>").kind, FaultKind::Server);
        assert_eq!(read(500, b"").message, "the answer had no body");
        assert_eq!(read(400, br#"{"message":{"message":"deep"}}"#).message, "deep");
        assert_eq!(read(400, b"{}").message, "the provider gave no reason");
        assert_eq!(event(r#"{"type":"error","message":"m"}"#).kind, FaultKind::Server);
        assert_eq!(broken(Some("TIMEOUT"), None, None).kind, FaultKind::Timeout);
    }
}
