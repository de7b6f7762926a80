//! Errors: Bedrock's answers and exceptions to a [`Fault`].
//!
//! An error answer says its type in the header `x-amzn-errortype`, and in its body at best as `__type`; so status and
//! sentence must tell ("Troubleshooting API error codes" in the user guide, and recorded answers, seen 2026-11-21). A model
//! that is not there is a 400 with a sentence here: that is the target's fault, not the request's, and another may help.

use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Number, Text, clip};

shape! {
    struct Body {
        message "message" | "Message" | "errorMessage": Text<'a>,
        kind "__type" | "code": Text<'a>,
        status "originalStatusCode": Number<'a>,
        original "originalMessage": Text<'a>,
    }
}

/// Longest provider text that a fault keeps, in characters.
const LONGEST: usize = 2_048;

/// Types of error in small letters, without `exception`.
const KINDS: [(&str, FaultKind); 22] = [
    ("validation", FaultKind::BadRequest),
    ("accessdenied", FaultKind::Permission),
    ("resourcenotfound", FaultKind::NotFound),
    ("throttling", FaultKind::RateLimited),
    ("toomanyrequests", FaultKind::RateLimited),
    ("servicequotaexceeded", FaultKind::QuotaExhausted),
    ("internalserver", FaultKind::Server),
    ("internalfailure", FaultKind::Server),
    ("internalerror", FaultKind::Server),
    ("serviceunavailable", FaultKind::Overloaded),
    ("modelnotready", FaultKind::Overloaded),
    ("modeltimeout", FaultKind::Timeout),
    ("modelerror", FaultKind::Server),
    ("modelstreamerror", FaultKind::Server),
    ("conflict", FaultKind::Conflict),
    ("expiredtoken", FaultKind::Authentication),
    ("unrecognizedclient", FaultKind::Authentication),
    ("invalidsignature", FaultKind::Authentication),
    ("incompletesignature", FaultKind::Authentication),
    ("missingauthenticationtoken", FaultKind::Authentication),
    ("invalidclienttokenid", FaultKind::Authentication),
    ("signaturedoesnotmatch", FaultKind::Authentication),
];

/// Sentences of a 403 that speak of the credential itself.
const CREDENTIAL: [&str; 5] =
    ["security token", "signature", "invalid api key", "authentication token", "invalid bearer token"];

/// Sentences of a 400 that speak of the model, not of the request.
const NO_MODEL: [&str; 4] = [
    "model identifier is invalid",
    "on-demand throughput",
    "provided model doesn't exist",
    "reached the end of its life",
];

/// Sentences about prompts that are too long, of one maker or another.
const TOO_LONG: [&str; 8] = [
    "input is too long",
    "prompt is too long",
    "exceed context limit",
    "exceeds the maximum number of tokens",
    "maximum context length",
    "exceeds the context window",
    "too many input tokens",
    "input tokens exceeded",
];

/// Reads an error answer, whatever it is.
pub(super) fn read(status: u16, body: &[u8]) -> Fault {
    match json::read::<Body<'_>>(body) {
        Ok(Body { message, kind, .. }) if message.is_some() || kind.is_some() => {
            fault(Some(status), kind.as_deref(), message.as_deref().unwrap_or("the provider gave no reason"))
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let message = match text.trim() {
                "" => "the answer had no body",
                text => clip(text, LONGEST),
            };
            fault(Some(status), None, message)
        }
    }
}

/// Whether the name of an event is that of a failure.
pub(super) fn is_name(event: &str) -> bool {
    ["Exception", "Error", "Failure", "Fault"].iter().any(|ending| event.ends_with(ending)) || known(event).is_some()
}

/// Reads an exception or error of a stream whose own status was 200.
pub(super) fn event(name: &str, data: &str) -> Fault {
    let body = json::read::<Body<'_>>(data.as_bytes()).unwrap_or_default();
    let message = body.message.as_deref().or(body.original.as_deref());
    let message = message.unwrap_or(if data.is_empty() { "the provider gave no reason" } else { data });
    let status = body.status.as_ref().and_then(Number::as_u64).and_then(|status| u16::try_from(status).ok());
    let mut fault = fault(None, Some(name), message);
    // What the model itself said, behind Bedrock, tells more than that it failed.
    if let (FaultKind::Server, Some(status @ 400..=599)) = (fault.kind, status) {
        fault.kind = FaultKind::from_status(status);
    }
    fault
}

fn fault(status: Option<u16>, code: Option<&str>, message: &str) -> Fault {
    // `com.amazon.coral.service#ExpiredTokenException`, `ValidationException:http://...`
    let code = code.map(|code| code.rsplit('#').next().unwrap_or(code));
    let code = code.map(|code| code.split(':').next().unwrap_or(code));
    Fault {
        status,
        code: code.map(|code| clip(code, 128).to_owned()),
        ..Fault::new(kind(status, code, message), clip(message, LONGEST))
    }
}

fn known(code: &str) -> Option<FaultKind> {
    let code = code.to_ascii_lowercase();
    let code = code.strip_suffix("exception").unwrap_or(&code);
    KINDS.iter().find(|(name, _)| *name == code).map(|(_, kind)| *kind)
}

fn kind(status: Option<u16>, code: Option<&str>, message: &str) -> FaultKind {
    let by_status = match status {
        // The model behind Bedrock failed, or was too slow.
        Some(424) => FaultKind::Server,
        Some(408) => FaultKind::Timeout,
        status => FaultKind::from_status(status.unwrap_or(500)),
    };
    let told = code.and_then(known).unwrap_or(by_status);
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    match told {
        FaultKind::BadRequest if says(&NO_MODEL) => FaultKind::NotFound,
        FaultKind::BadRequest | FaultKind::TooLarge if says(&TOO_LONG) => FaultKind::ContextLength,
        FaultKind::BadRequest if says(&["content filtering policy", "blocked by our content filters"]) => {
            FaultKind::ContentFilter
        }
        FaultKind::BadRequest | FaultKind::Permission if says(&CREDENTIAL) => FaultKind::Authentication,
        // A limit of the day is not met again soon.
        FaultKind::RateLimited if says(&["tokens per day", "requests per day"]) => FaultKind::QuotaExhausted,
        FaultKind::RateLimited if says(&["model is not ready"]) => FaultKind::Overloaded,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: FaultKind, code: Option<&str>) {
        let fault = read(status, body.as_bytes());
        assert_eq!((fault.kind, fault.code.as_deref(), fault.status), (kind, code, Some(status)), "{body}");
    }

    #[test]
    fn status_and_sentence_tell_the_kind() {
        let of = |message: &str| format!(r#"{{"message":"{message}"}}"#);
        let wrong = of("Malformed input request: #/messages/2/content/0: extraneous key [toolResult] is not permitted");
        check(400, &wrong, FaultKind::BadRequest, None);
        check(400, &of("The provided model identifier is invalid."), FaultKind::NotFound, None);
        let profile =
            "Invocation of model ID x with on-demand throughput isn't supported. Retry with an inference profile";
        check(400, &of(profile), FaultKind::NotFound, None);
        check(404, &of("This model version has reached the end of its life."), FaultKind::NotFound, None);
        check(400, &of("Input is too long for requested model."), FaultKind::ContextLength, None);
        check(403, &of("The security token included in the request is expired"), FaultKind::Authentication, None);
        check(403, &of("You don't have access to the model with the specified model ID."), FaultKind::Permission, None);
        check(429, &of("Too many requests, please wait before trying again."), FaultKind::RateLimited, None);
        check(429, &of("Too many tokens per day, please wait."), FaultKind::QuotaExhausted, None);
        check(429, &of("Model is not ready for inference."), FaultKind::Overloaded, None);
        check(424, &of("The model failed"), FaultKind::Server, None);
        check(408, &of("Model has timed out"), FaultKind::Timeout, None);
        check(503, &of("Service unavailable"), FaultKind::Overloaded, None);
        let coral = r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"bad"}"#;
        check(400, coral, FaultKind::Authentication, Some("UnrecognizedClientException"));
        check(502, "<html>", FaultKind::Server, None);
        check(500, "", FaultKind::Server, None);
        assert_eq!(read(500, b"").message, "the answer had no body");
    }

    #[test]
    fn exceptions_of_a_stream_are_told_by_their_names() {
        for (name, wanted) in [
            ("throttlingException", FaultKind::RateLimited),
            ("internalServerException", FaultKind::Server),
            ("validationException", FaultKind::BadRequest),
            ("serviceUnavailableException", FaultKind::Overloaded),
            ("modelStreamErrorException", FaultKind::Server),
            ("modelTimeoutException", FaultKind::Timeout),
            ("InternalFailure", FaultKind::Server),
            ("somethingNewException", FaultKind::Server),
        ] {
            assert!(is_name(name));
            let fault = event(name, r#"{"message":"m"}"#);
            assert_eq!((fault.kind, fault.code.as_deref(), fault.message.as_str()), (wanted, Some(name), "m"));
        }
        let behind = event("modelStreamErrorException", r#"{"originalStatusCode":429,"originalMessage":"busy"}"#);
        assert_eq!((behind.kind, behind.message.as_str()), (FaultKind::RateLimited, "busy"));
        assert_eq!(event("InternalError", "oh no").message, "oh no");
        for name in ["messageStart", "contentBlockDelta", "metadata", ""] {
            assert!(!is_name(name));
        }
    }
}
