//! Errors in Anthropic's shape (page "Errors", seen 2026-11-21). Its SDKs choose the exception by the status, and in a
//! stream raise one for an event named `error`; programs look at `error.type`.

use crate::dialect::{ErrorClass, ErrorShape};
use crate::wire::writer;

/// What Anthropic says of a prompt that does not fit. It has no code for that, so clients that shorten their
/// conversation by themselves (Claude Code) look for these words.
const TOO_LONG: &str = "prompt is too long";

/// Writes an error body, which is the data of an error event as well.
pub(super) fn write(error: &ErrorShape<'_>, out: &mut Vec<u8>) {
    let kind = match error.class {
        ErrorClass::InvalidRequest | ErrorClass::Method => "invalid_request_error",
        ErrorClass::Authentication => "authentication_error",
        ErrorClass::Billing => "billing_error",
        ErrorClass::Permission => "permission_error",
        ErrorClass::NotFound => "not_found_error",
        ErrorClass::TooLarge => "request_too_large",
        ErrorClass::RateLimit => "rate_limit_error",
        ErrorClass::RequestTimeout | ErrorClass::Timeout => "timeout_error",
        ErrorClass::Internal | ErrorClass::Upstream => "api_error",
        ErrorClass::Overloaded => "overloaded_error",
    };
    let unsaid = error.code == Some("context_length_exceeded") && !error.message.contains(TOO_LONG);
    writer::object(out, |o| {
        o.string("type", "error");
        o.object("error", |o| {
            o.string("type", kind);
            if unsaid {
                o.string("message", &format!("{TOO_LONG}: {}", error.message));
            } else {
                o.string("message", error.message);
            }
        });
        o.string("request_id", error.request_id);
    });
}
