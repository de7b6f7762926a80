//! Errors: `google.rpc.Status` to a [`Fault`].
//!
//! The same shape comes as the body of an error answer, wrapped in an array of one (streams without `alt=sse`), and as
//! a frame of a stream that has begun. Google's canonical status says less than the text does: a bad key is an
//! `INVALID_ARGUMENT`, and so is a prompt that is too long (Gemini API, "Troubleshooting guide", seen 2026-11-21).

use std::time::Duration;

use crate::dialect::{ErrorClass, ErrorShape};
use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Number, Raw, Text, clip};
use crate::wire::writer;

shape! {
    struct Body { error "error": Status<'a> }
}

shape! {
    struct Status {
        code "code": Number<'a>,
        message "message": Text<'a>,
        status "status": Text<'a>,
        details "details": Vec<Detail<'a>>,
    }
}

shape! {
    /// One of `ErrorInfo` (reason), `RetryInfo` (delay), `QuotaFailure` (violations), `BadRequest` (fields).
    struct Detail {
        reason "reason": Text<'a>,
        delay "retryDelay" | "retry_delay": Text<'a>,
        violations "violations": Vec<Violation<'a>>,
        fields "fieldViolations" | "field_violations": Vec<Violation<'a>>,
    }
}

shape! {
    struct Violation {
        quota "quotaId" | "quota_id": Text<'a>,
        field "field": Text<'a>,
    }
}

/// Longest provider text that a fault keeps, in characters.
const LONGEST: usize = 2_048;
/// No wait longer than this is believed.
const LONGEST_WAIT: f64 = 86_400.0;

/// Reads an error answer, whatever it is.
pub(super) fn read(status: u16, body: &[u8]) -> Fault {
    let found = json::read::<Body<'_>>(body).ok().and_then(|body| body.error).or_else(|| {
        let list = json::read::<Vec<Body<'_>>>(body).ok()?;
        list.into_iter().find_map(|body| body.error)
    });
    match found {
        Some(error) => fault(Some(status), error),
        None => {
            let text = String::from_utf8_lossy(body);
            let message = match text.trim() {
                "" => "the answer had no body",
                text => clip(text, LONGEST),
            };
            Fault { status: Some(status), ..Fault::new(FaultKind::from_status(status), message) }
        }
    }
}

/// Reads the `error` member of a frame of a stream whose own status was 200.
pub(super) fn frame(error: &Raw<'_>) -> Fault {
    match error.read::<Status<'_>>() {
        Ok(status) => fault(None, status),
        Err(_) => Fault::new(FaultKind::Server, clip(error.get(), LONGEST)),
    }
}

/// Writes an error for a caller. SDKs raise by the code, in a stream by that of the body, and the body must begin with
/// `error` (google-genai, Python 3.4 and JavaScript 2.32, seen 2026-11-21); details are those of `google.rpc`.
pub(super) fn write(error: &ErrorShape<'_>, out: &mut Vec<u8>) {
    let status = match error.class {
        ErrorClass::InvalidRequest | ErrorClass::TooLarge => "INVALID_ARGUMENT",
        ErrorClass::Authentication => "UNAUTHENTICATED",
        ErrorClass::Permission => "PERMISSION_DENIED",
        ErrorClass::NotFound => "NOT_FOUND",
        ErrorClass::Method => "UNIMPLEMENTED",
        ErrorClass::Billing | ErrorClass::RateLimit => "RESOURCE_EXHAUSTED",
        ErrorClass::Internal => "INTERNAL",
        ErrorClass::Upstream | ErrorClass::Overloaded => "UNAVAILABLE",
        ErrorClass::RequestTimeout | ErrorClass::Timeout => "DEADLINE_EXCEEDED",
    };
    let reason = match (error.code, error.class) {
        (_, ErrorClass::Authentication) if error.code.is_none_or(|code| code == "invalid_api_key") => {
            Some("API_KEY_INVALID".to_owned())
        }
        (code, _) => code.map(str::to_ascii_uppercase),
    };
    let kind =
        |o: &mut writer::Object<'_>, kind: &str| o.string("@type", &format!("type.googleapis.com/google.rpc.{kind}"));
    writer::object(out, |o| {
        o.object("error", |o| {
            o.number("code", u64::from(error.status));
            o.string("message", error.message);
            o.string("status", status);
            o.array("details", |a| {
                if let Some(reason) = &reason {
                    a.object(|o| {
                        kind(o, "ErrorInfo");
                        o.string("reason", reason);
                        o.string("domain", "portolan");
                    });
                }
                if let Some(param) = error.param {
                    a.object(|o| {
                        kind(o, "BadRequest");
                        o.array("fieldViolations", |a| {
                            a.object(|o| {
                                o.string("field", param);
                                o.string("description", error.message);
                            });
                        });
                    });
                }
                a.object(|o| {
                    kind(o, "RequestInfo");
                    o.string("requestId", error.request_id);
                });
            });
        });
    });
}

fn fault(status: Option<u16>, error: Status<'_>) -> Fault {
    let told = error.code.as_ref().and_then(Number::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = status.filter(|status| *status >= 400).or(told);
    let message = error.message.as_deref().unwrap_or("the provider gave no reason");
    let details = error.details.as_deref().unwrap_or_default();
    let reason = details.iter().find_map(|detail| detail.reason.as_deref());
    let quotas =
        || details.iter().flat_map(|detail| detail.violations.iter().flatten()).filter_map(|v| v.quota.as_deref());
    Fault {
        kind: kind(error.status.as_deref(), status, reason, message, quotas),
        status,
        code: error.status.as_deref().or(reason).map(str::to_owned),
        param: details
            .iter()
            .flat_map(|detail| detail.fields.iter().flatten())
            .find_map(|v| v.field.as_deref())
            .map(str::to_owned),
        message: clip(message, LONGEST).to_owned(),
        retry_after: details.iter().find_map(|detail| detail.delay.as_deref()).and_then(wait),
    }
}

fn kind<'a, I: Iterator<Item = &'a str>>(
    canonical: Option<&str>,
    status: Option<u16>,
    reason: Option<&str>,
    message: &str,
    quotas: impl Fn() -> I,
) -> FaultKind {
    let says = |words: &str| contains(message, words);
    match canonical {
        Some("INVALID_ARGUMENT" | "OUT_OF_RANGE") => {
            let key = matches!(reason, Some("API_KEY_INVALID" | "API_KEY_EXPIRED"));
            if key || says("API key not valid") || says("API key expired") || says("API key not found") {
                FaultKind::Authentication
            } else if reason == Some("CONTEXT_LENGTH_EXCEEDED") {
                // Ours, where one gateway stands behind another.
                FaultKind::ContextLength
            } else if says("token count") && (says("exceed") || says("maximum number of tokens")) {
                FaultKind::ContextLength
            } else if status == Some(413) || says("payload size exceeds") || says("request size exceeds") {
                FaultKind::TooLarge
            } else {
                FaultKind::BadRequest
            }
        }
        Some("RESOURCE_EXHAUSTED") => {
            // "Check your plan and billing details" stands in every answer of this kind, so only the quota itself
            // tells.
            let day = quotas().any(|quota| contains(quota, "PerDay") || contains(quota, "PerMonth"));
            if day || says("credits are depleted") || says("spending cap") || says("limit: 0,") {
                FaultKind::QuotaExhausted
            } else {
                FaultKind::RateLimited
            }
        }
        Some("UNAUTHENTICATED") => FaultKind::Authentication,
        // Preconditions are the account's: its place or its billing.
        Some("PERMISSION_DENIED" | "FAILED_PRECONDITION") => FaultKind::Permission,
        Some("NOT_FOUND") => FaultKind::NotFound,
        Some("ALREADY_EXISTS" | "ABORTED" | "CANCELLED") => FaultKind::Conflict,
        Some("UNAVAILABLE") => FaultKind::Overloaded,
        Some("DEADLINE_EXCEEDED") => FaultKind::Timeout,
        Some("INTERNAL" | "UNKNOWN" | "DATA_LOSS") => FaultKind::Server,
        Some("UNIMPLEMENTED") => FaultKind::BadRequest,
        _ => status.map_or(FaultKind::Server, FaultKind::from_status),
    }
}

fn contains(text: &str, words: &str) -> bool {
    let words = words.as_bytes();
    text.as_bytes().windows(words.len().max(1)).any(|window| window.eq_ignore_ascii_case(words))
}

/// A protobuf duration in JSON: `37s`, `20.5s`.
fn wait(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (0.0..=LONGEST_WAIT).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(status: u16, body: &str) -> FaultKind {
        read(status, body.as_bytes()).kind
    }

    #[test]
    fn quotas_tell_a_pause_from_an_end() {
        let minute = br#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"m","quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20.5s"}]}}"#;
        let fault = read(429, minute);
        assert_eq!((fault.kind, fault.retry_after), (FaultKind::RateLimited, Some(Duration::from_millis(20_500))));
        assert_eq!((fault.status, fault.code.as_deref()), (Some(429), Some("RESOURCE_EXHAUSTED")));
        let day = String::from_utf8_lossy(minute).replace("PerMinute", "PerDay");
        assert_eq!(kind_of(429, &day), FaultKind::QuotaExhausted);
    }

    #[test]
    fn the_text_tells_what_the_status_does_not() {
        let said = |message: &str| {
            kind_of(400, &format!(r#"{{"error":{{"code":400,"message":"{message}","status":"INVALID_ARGUMENT"}}}}"#))
        };
        assert_eq!(said("API key not valid. Please pass a valid API key."), FaultKind::Authentication);
        assert_eq!(
            said("The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."),
            FaultKind::ContextLength
        );
        assert_eq!(said("Request payload size exceeds the limit: 20971520 bytes."), FaultKind::TooLarge);
        assert_eq!(said("Please use a valid role: user, model."), FaultKind::BadRequest);
    }

    #[test]
    fn canonical_states_are_known() {
        for (status, word, kind) in [
            (401, "UNAUTHENTICATED", FaultKind::Authentication),
            (403, "PERMISSION_DENIED", FaultKind::Permission),
            (404, "NOT_FOUND", FaultKind::NotFound),
            (409, "ABORTED", FaultKind::Conflict),
            (413, "INVALID_ARGUMENT", FaultKind::TooLarge),
            (500, "INTERNAL", FaultKind::Server),
            (503, "UNAVAILABLE", FaultKind::Overloaded),
            (504, "DEADLINE_EXCEEDED", FaultKind::Timeout),
        ] {
            let body = format!(r#"[{{"error":{{"code":{status},"message":"m","status":"{word}"}}}}]"#);
            assert_eq!(kind_of(status, &body), kind, "{word}");
        }
    }

    #[test]
    fn anything_else_is_a_fault_too() {
        assert_eq!(kind_of(502, "<html>bad gateway</html>"), FaultKind::Server);
        assert_eq!(kind_of(503, ""), FaultKind::Overloaded);
        assert_eq!(kind_of(429, r#"{"error":"no"}"#), FaultKind::RateLimited);
        assert_eq!(kind_of(400, r#"{"error":{}}"#), FaultKind::BadRequest);
        let field = read(400, br#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT","details":[{"fieldViolations":[{"field":"contents[0].parts","description":"d"}]}]}}"#);
        assert_eq!(field.param.as_deref(), Some("contents[0].parts"));
        for delay in ["-1s", "1e9s", "NaNs", "soon"] {
            assert_eq!(wait(delay), None, "{delay}");
        }
    }
}
