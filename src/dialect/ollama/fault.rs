//! Errors: `{"error":"..."}` to a [`Fault`], as an error answer or as a line of a stream. There is no code: the status
//! tells most, the sentence the rest.

use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Raw, Text, clip};

shape! {
    struct Body { error "error": Raw<'a>, message "message": Raw<'a> }
}

/// Longest provider text that a fault keeps, in characters.
const LONGEST: usize = 2_048;

/// What sentences tell, in lower case.
const PHRASES: [(&str, FaultKind); 6] = [
    ("exceeded max context length", FaultKind::ContextLength),
    ("exceeds the context", FaultKind::ContextLength),
    ("server busy", FaultKind::Overloaded),
    ("usage limit", FaultKind::QuotaExhausted),
    ("try pulling it first", FaultKind::NotFound),
    ("not found", FaultKind::NotFound),
];

/// Reads an error answer, whatever it is.
pub(super) fn read(status: u16, body: &[u8]) -> Fault {
    let told = json::read::<Body<'_>>(body).ok();
    let said = told.as_ref().and_then(|body| body.error.as_ref().or(body.message.as_ref()));
    let message = match said {
        Some(raw) => plain(raw),
        None => match String::from_utf8_lossy(body).trim() {
            "" => "the answer had no body".to_owned(),
            text => text.to_owned(),
        },
    };
    Fault { status: Some(status), ..Fault::new(kind(Some(status), &message), clip(&message, LONGEST)) }
}

/// Reads the `error` of a line of a stream whose own status was 200.
pub(super) fn line(error: &Raw<'_>) -> Fault {
    let message = plain(error);
    Fault::new(kind(None, &message), clip(&message, LONGEST))
}

fn plain(raw: &Raw<'_>) -> String {
    match raw.read::<Text<'_>>() {
        Ok(text) => text.to_string(),
        Err(_) => match raw.read::<Body<'_>>().ok().and_then(|body| body.message?.read::<String>().ok()) {
            Some(text) => text,
            None => raw.get().to_owned(),
        },
    }
}

fn kind(status: Option<u16>, message: &str) -> FaultKind {
    let lower = clip(message, LONGEST).to_ascii_lowercase();
    // Words refine statuses that say little.
    if matches!(status, None | Some(400 | 404 | 429 | 500 | 503))
        && let Some((_, kind)) = PHRASES.iter().find(|(phrase, kind)| {
            lower.contains(phrase) && (*kind != FaultKind::NotFound || matches!(status, None | Some(404)))
        })
    {
        return *kind;
    }
    FaultKind::from_status(status.unwrap_or(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_sentence_tell_the_kind() {
        for (status, message, wanted) in [
            (400, "registry.ollama.ai/library/x does not support tools", FaultKind::BadRequest),
            (400, "prompt too long; exceeded max context length by 7 tokens", FaultKind::ContextLength),
            (401, "unauthorized", FaultKind::Authentication),
            (404, "model 'x' not found", FaultKind::NotFound),
            (429, "you've reached your hourly usage limit", FaultKind::QuotaExhausted),
            (500, "model requires more system memory than is available", FaultKind::Server),
            (500, "tensor not found", FaultKind::Server),
            (503, "server busy, please try again. maximum pending requests exceeded", FaultKind::Overloaded),
        ] {
            let fault = read(status, format!(r#"{{"error":"{message}"}}"#).as_bytes());
            assert_eq!((fault.kind, fault.message.as_str(), fault.status), (wanted, message, Some(status)));
        }
        assert_eq!(read(502, b"<html>").kind, FaultKind::Server);
        assert_eq!(read(500, b"").message, "the answer had no body");
        assert_eq!(read(400, br#"{"error":{"message":"deep"}}"#).message, "deep");
        assert_eq!(line(&Raw::literal(r#""an error was encountered""#)).kind, FaultKind::Server);
    }
}
