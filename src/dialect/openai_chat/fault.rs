//! Errors of providers: whatever came, a fault comes out.
//!
//! OpenAI's shape is `{"error":{message,type,param,code}}`; its relatives also send `{"error":"text"}`, Mistral
//! `{"object":"error","message":...}` and `{"detail":[...]}` (FastAPI), some `{"message":...}` or `{"code":..,"msg":..}`,
//! their front ends plain text or HTML. Codes are trusted before words, words before the status: several providers
//! send 400 for a model they do not have, or 429 for an empty purse (shapes seen 2026-11-21).

use crate::dialect::{ErrorClass, ErrorShape};
use crate::ir::{Fault, FaultKind};
use crate::shape;
use crate::wire::json::{self, Kind, Raw, Text, clip};
use crate::wire::writer;

/// Characters of a provider's message that are kept.
const MESSAGE: usize = 2_000;
/// Characters of a provider's code that are kept.
const CODE: usize = 120;

shape! {
    struct Body {
        error "error": Raw<'a>,
        message "message" | "msg" | "error_message" | "error_msg": Raw<'a>,
        detail "detail": Raw<'a>,
        kind "type": Raw<'a>,
        code "code" | "error_code": Raw<'a>,
        status "status": Raw<'a>,
        param "param": Raw<'a>,
        metadata "metadata": Raw<'a>,
    }
}

shape! {
    struct Metadata { raw "raw": Raw<'a> }
}

shape! {
    /// One mistake in FastAPI's list.
    struct Detail { message "msg": Raw<'a>, place "loc": Vec<Raw<'a>> }
}

/// Reads an error answer.
pub fn read(status: u16, body: &[u8]) -> Fault {
    let mut fault = match json::read::<Raw<'_>>(body) {
        Ok(raw) => from_json(Some(status), &raw),
        Err(_) => from_text(status, &String::from_utf8_lossy(body)),
    };
    fault.status = Some(status);
    fault
}

/// Reads an error that came in a frame of a stream, or in place of an answer: there is no status.
pub fn in_stream(raw: &Raw<'_>) -> Fault {
    from_json(None, raw)
}

/// Writes an error for a caller, in the shape that OpenAI's SDKs raise as typed exceptions (they go by the status).
pub fn write(error: &ErrorShape<'_>, out: &mut Vec<u8>) {
    let (kind, code) = match error.class {
        ErrorClass::InvalidRequest | ErrorClass::NotFound => ("invalid_request_error", None),
        ErrorClass::Authentication => ("invalid_request_error", Some("invalid_api_key")),
        ErrorClass::Billing => ("insufficient_quota", Some("insufficient_quota")),
        ErrorClass::Permission => ("invalid_request_error", Some("permission_denied")),
        ErrorClass::Method => ("invalid_request_error", Some("method_not_supported")),
        ErrorClass::TooLarge => ("invalid_request_error", Some("request_too_large")),
        ErrorClass::RateLimit if error.code == Some("insufficient_quota") => ("insufficient_quota", None),
        ErrorClass::RateLimit => ("requests", Some("rate_limit_exceeded")),
        ErrorClass::RequestTimeout | ErrorClass::Timeout => ("server_error", Some("timeout")),
        ErrorClass::Overloaded => ("server_error", Some("overloaded")),
        ErrorClass::Internal | ErrorClass::Upstream => ("server_error", None),
    };
    writer::object(out, |o| {
        o.object("error", |o| {
            o.string("message", error.message);
            o.string("type", kind);
            for (name, value) in [("param", error.param), ("code", error.code.or(code))] {
                match value {
                    Some(value) => o.string(name, value),
                    None => o.null(name),
                }
            }
            o.string("request_id", error.request_id);
        });
    });
}

fn from_text(status: u16, text: &str) -> Fault {
    let text = text.trim();
    // A page of a front end: its title says all there is.
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map(|(title, _)| title);
    let message = match title {
        Some(title) => title.trim(),
        None if text.starts_with('<') => "an HTML page",
        None => text,
    };
    let message =
        if message.is_empty() { format!("status {status} without a body") } else { clip(message, MESSAGE).to_owned() };
    Fault::new(judge(Some(status), &[], &message), message)
}

fn from_json(status: Option<u16>, raw: &Raw<'_>) -> Fault {
    let mut found = Found::default();
    found.read(raw, 0);
    // Streams and some gateways put the status into the body.
    let stated = found.words.iter().find_map(|word| word.parse::<u16>().ok().filter(|n| (400..=599).contains(n)));
    let message = match found.message.trim() {
        "" => clip(raw.get(), MESSAGE),
        message => clip(message, MESSAGE),
    };
    let words: Vec<&str> = found.words.iter().map(String::as_str).collect();
    let mut fault = Fault::new(judge(status.or(stated), &words, message), message);
    fault.code = found.words.first().cloned();
    fault.param = found.param;
    fault
}

#[derive(Default)]
struct Found {
    message: String,
    /// Code, type and status name, in this order.
    words: Vec<String>,
    param: Option<String>,
}

impl Found {
    fn read(&mut self, raw: &Raw<'_>, depth: u8) {
        if depth > 3 {
            return;
        }
        match raw.kind() {
            Kind::String => self.say(raw),
            // Google's endpoint wraps errors in a list.
            Kind::Array => {
                if let Some(first) = raw.read::<Vec<Raw<'_>>>().ok().and_then(|list| list.into_iter().next()) {
                    self.read(&first, depth + 1);
                }
            }
            Kind::Object => {
                let Ok(body) = raw.read::<Body<'_>>() else { return };
                if let Some(error) = body.error.as_ref().filter(|error| !error.is_null()) {
                    self.read(error, depth + 1);
                }
                if let Some(message) = &body.message
                    && self.message.is_empty()
                {
                    self.read(message, depth + 1);
                }
                if let Some(detail) = &body.detail {
                    self.detail(detail);
                }
                for word in [&body.code, &body.kind, &body.status].into_iter().flatten() {
                    self.word(word);
                }
                if let Some(param) = body.param.as_ref().and_then(plain) {
                    self.param.get_or_insert(param);
                }
                // OpenRouter: what the provider behind it said.
                let behind = body.metadata.as_ref().and_then(|m| m.read::<Metadata<'_>>().ok());
                if let Some(text) = behind.and_then(|m| m.raw.as_ref().and_then(plain)) {
                    self.message = format!("{}: {}", self.message, clip(&text, MESSAGE));
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, raw: &Raw<'_>) {
        if let (true, Some(text)) = (self.message.is_empty(), plain(raw)) {
            self.message = text;
        }
    }

    fn detail(&mut self, raw: &Raw<'_>) {
        if raw.kind() != Kind::Array {
            return self.read(raw, 3);
        }
        let Ok(list) = raw.read::<Vec<Raw<'_>>>() else { return };
        for item in list.iter().take(16) {
            let Ok(detail) = item.read::<Detail<'_>>() else { continue };
            let place: Vec<String> = detail.place.iter().flatten().filter_map(plain).collect();
            let place = place.join(".");
            let text = detail.message.as_ref().and_then(plain).unwrap_or_default();
            if !self.message.is_empty() {
                self.message.push_str("; ");
            }
            self.message.push_str(&if place.is_empty() { text } else { format!("{place}: {text}") });
            if !place.is_empty() {
                self.param.get_or_insert(place);
            }
        }
    }

    fn word(&mut self, raw: &Raw<'_>) {
        if let Some(word) = plain(raw).filter(|word| !word.is_empty() && word != "error") {
            self.words.push(clip(&word, CODE).to_owned());
        }
    }
}

/// A string, or a number as it is written.
fn plain(raw: &Raw<'_>) -> Option<String> {
    match raw.kind() {
        Kind::String => raw.read::<Text<'_>>().ok().map(|text| text.to_string()),
        Kind::Number => Some(raw.get().to_owned()),
        _ => None,
    }
}

/// Codes and types that tell the kind whatever the status says, in lower case.
const CODES: [(&str, FaultKind); 49] = [
    ("context_length_exceeded", FaultKind::ContextLength),
    ("context_window_exceeded", FaultKind::ContextLength),
    ("exceed_context_size_error", FaultKind::ContextLength),
    ("content_filter", FaultKind::ContentFilter),
    ("content_policy_violation", FaultKind::ContentFilter),
    ("responsibleaipolicyviolation", FaultKind::ContentFilter),
    ("data_inspection_failed", FaultKind::ContentFilter),
    ("datainspectionfailed", FaultKind::ContentFilter),
    ("moderation_blocked", FaultKind::ContentFilter),
    // Zhipu's numbers.
    ("1301", FaultKind::ContentFilter),
    ("1113", FaultKind::QuotaExhausted),
    ("1302", FaultKind::RateLimited),
    ("1303", FaultKind::RateLimited),
    ("1211", FaultKind::NotFound),
    ("insufficient_quota", FaultKind::QuotaExhausted),
    ("billing_hard_limit_reached", FaultKind::QuotaExhausted),
    ("billing_not_active", FaultKind::QuotaExhausted),
    ("exceeded_current_quota_error", FaultKind::QuotaExhausted),
    ("insufficient_balance", FaultKind::QuotaExhausted),
    ("insufficient_credits", FaultKind::QuotaExhausted),
    ("payment_required", FaultKind::QuotaExhausted),
    ("arrearage", FaultKind::QuotaExhausted),
    ("rate_limit_exceeded", FaultKind::RateLimited),
    ("rate_limit_error", FaultKind::RateLimited),
    ("rate_limit_reached_error", FaultKind::RateLimited),
    ("rate_limited", FaultKind::RateLimited),
    ("too_many_requests", FaultKind::RateLimited),
    ("limit_requests", FaultKind::RateLimited),
    ("resource_exhausted", FaultKind::RateLimited),
    ("invalid_api_key", FaultKind::Authentication),
    ("invalidapikey", FaultKind::Authentication),
    ("authentication_error", FaultKind::Authentication),
    ("invalid_authentication_error", FaultKind::Authentication),
    ("unauthenticated", FaultKind::Authentication),
    ("permission_error", FaultKind::Permission),
    ("permission_denied", FaultKind::Permission),
    ("access_denied", FaultKind::Permission),
    ("unsupported_country_region_territory", FaultKind::Permission),
    ("model_not_found", FaultKind::NotFound),
    ("model_not_exist", FaultKind::NotFound),
    ("invalid_model", FaultKind::NotFound),
    ("deploymentnotfound", FaultKind::NotFound),
    ("resource_not_found_error", FaultKind::NotFound),
    ("overloaded_error", FaultKind::Overloaded),
    ("engine_overloaded_error", FaultKind::Overloaded),
    ("server_overloaded", FaultKind::Overloaded),
    ("service_unavailable", FaultKind::Overloaded),
    ("unavailable", FaultKind::Overloaded),
    ("request_too_large", FaultKind::TooLarge),
];

/// Codes that say less than a status does; they decide where there is none.
const VAGUE: [(&str, FaultKind); 8] = [
    ("invalid_request_error", FaultKind::BadRequest),
    ("invalid_argument", FaultKind::BadRequest),
    ("tool_use_failed", FaultKind::BadRequest),
    ("not_found_error", FaultKind::NotFound),
    ("timeout", FaultKind::Timeout),
    ("server_error", FaultKind::Server),
    ("internal_server_error", FaultKind::Server),
    ("api_error", FaultKind::Server),
];

/// Words of a message that tell the kind where code and status do not, in lower case.
const PHRASES: [(&str, FaultKind); 26] = [
    ("maximum context length", FaultKind::ContextLength),
    ("context length", FaultKind::ContextLength),
    ("context window", FaultKind::ContextLength),
    ("context size", FaultKind::ContextLength),
    ("prompt is too long", FaultKind::ContextLength),
    ("input is too long", FaultKind::ContextLength),
    ("maximum prompt length", FaultKind::ContextLength),
    ("reduce the length of the", FaultKind::ContextLength),
    ("content management policy", FaultKind::ContentFilter),
    ("content filter", FaultKind::ContentFilter),
    ("inappropriate content", FaultKind::ContentFilter),
    ("insufficient balance", FaultKind::QuotaExhausted),
    ("insufficient credits", FaultKind::QuotaExhausted),
    ("insufficient_quota", FaultKind::QuotaExhausted),
    ("exceeded your current quota", FaultKind::QuotaExhausted),
    ("credit balance is too low", FaultKind::QuotaExhausted),
    ("requires more credits", FaultKind::QuotaExhausted),
    ("invalid api key", FaultKind::Authentication),
    ("incorrect api key", FaultKind::Authentication),
    ("api key not valid", FaultKind::Authentication),
    ("invalid model", FaultKind::NotFound),
    ("model not found", FaultKind::NotFound),
    ("model not exist", FaultKind::NotFound),
    ("not a valid model", FaultKind::NotFound),
    ("supported api model names", FaultKind::NotFound),
    ("the model `", FaultKind::NotFound),
];

fn judge(status: Option<u16>, words: &[&str], message: &str) -> FaultKind {
    let find = |table: &[(&str, FaultKind)]| {
        words.iter().find_map(|word| {
            let word = word.to_ascii_lowercase();
            table.iter().find(|(code, _)| *code == word).map(|(_, kind)| *kind)
        })
    };
    if let Some(kind) = find(&CODES) {
        return kind;
    }
    // A phrase refines statuses that say little; the others say it themselves.
    if matches!(status, None | Some(400 | 402 | 403 | 404 | 413 | 422 | 429 | 500)) {
        let message = message.to_ascii_lowercase();
        if let Some((_, kind)) = PHRASES.iter().find(|(phrase, kind)| {
            message.contains(phrase)
                && (*phrase != "the model `" || message.contains("does not exist"))
                && fits(status, *kind)
        }) {
            return *kind;
        }
    }
    match status {
        Some(422) => FaultKind::BadRequest,
        Some(status) => FaultKind::from_status(status),
        None => find(&VAGUE).unwrap_or(FaultKind::Server),
    }
}

/// Whether a phrase may overrule a status: at 429 only the empty purse is told from haste by words.
fn fits(status: Option<u16>, kind: FaultKind) -> bool {
    match status {
        Some(429 | 402) => kind == FaultKind::QuotaExhausted,
        Some(404) => kind == FaultKind::NotFound,
        Some(500) => kind == FaultKind::ContextLength,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        use FaultKind::*;
        let long = "x".repeat(5_000);
        let cases: [(u16, &str, FaultKind, Option<&str>, &str); 24] = [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 10 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                ContextLength,
                Some("context_length_exceeded"),
                "This model's maximum context length is 10 tokens.",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (5 tokens)","type":"exceed_context_size_error"}}"#,
                ContextLength,
                Some("400"),
                "request (9 tokens) exceeds the available context size (5 tokens)",
            ),
            (
                400,
                r#"{"error":{"message":"bad temperature","type":"invalid_request_error","param":"temperature","code":null}}"#,
                BadRequest,
                Some("invalid_request_error"),
                "bad temperature",
            ),
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
                Authentication,
                Some("invalid_api_key"),
                "Incorrect API key provided",
            ),
            (401, r#"{"detail":"Invalid API Key"}"#, Authentication, None, "Invalid API Key"),
            (
                401,
                r#"{"error":"Invalid username or password."}"#,
                Authentication,
                None,
                "Invalid username or password.",
            ),
            (401, r#"{"message":"Unauthorized","request_id":"1"}"#, Authentication, None, "Unauthorized"),
            (
                404,
                r#"{"error":{"code":"DeploymentNotFound","message":"no such deployment"}}"#,
                NotFound,
                Some("DeploymentNotFound"),
                "no such deployment",
            ),
            (
                400,
                r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}"#,
                NotFound,
                Some("1500"),
                "Invalid model: x",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"x/y is not a valid model ID"},"user_id":"u"}"#,
                NotFound,
                Some("400"),
                "x/y is not a valid model ID",
            ),
            (
                404,
                r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#,
                NotFound,
                Some("api_error"),
                "model \"m\" not found, try pulling it first",
            ),
            (
                422,
                r#"{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"}]}"#,
                BadRequest,
                None,
                "body.messages.0: field required",
            ),
            (
                400,
                r#"{"code":400,"message":"Temperature must be between 0 and 2","type":"Bad Request"}"#,
                BadRequest,
                Some("400"),
                "Temperature must be between 0 and 2",
            ),
            (
                429,
                r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down","provider_name":"p"}}}"#,
                RateLimited,
                Some("429"),
                "Provider returned error: slow down",
            ),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                QuotaExhausted,
                Some("insufficient_quota"),
                "You exceeded your current quota",
            ),
            (
                429,
                r#"{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}"#,
                RateLimited,
                Some("rate_limit_exceeded"),
                "Rate limit reached for requests",
            ),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
                QuotaExhausted,
                Some("invalid_request_error"),
                "Insufficient Balance",
            ),
            (
                400,
                r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","code":"content_filter"}}"#,
                ContentFilter,
                Some("content_filter"),
                "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            ),
            (500, "", Server, None, "status 500 without a body"),
            (502, "<html><head><title>502 Bad Gateway</title></head></html>", Server, None, "502 Bad Gateway"),
            (503, "upstream connect error", Overloaded, None, "upstream connect error"),
            (400, r#"{"code":"1211","msg":"unknown model"}"#, NotFound, Some("1211"), "unknown model"),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
                Authentication,
                Some("400"),
                "API key not valid. Please pass a valid API key.",
            ),
            (418, &long, BadRequest, None, &long[..2_000]),
        ];
        for (status, body, kind, code, message) in cases {
            let fault = read(status, body.as_bytes());
            assert_eq!((fault.kind, fault.code.as_deref(), fault.message.as_str()), (kind, code, message), "{body}");
            assert_eq!(fault.status, Some(status));
        }
        assert_eq!(read(400, br#"{"error":{"message":"m","param":"n"}}"#).param.as_deref(), Some("n"));
        assert_eq!(read(200, &[0xff, 0xfe]).kind, Garbage);
    }

    #[test]
    fn an_error_in_a_stream_has_no_status_but_a_kind() {
        let kind = |json| in_stream(&Raw::parse(json).unwrap()).kind;
        assert_eq!(kind(r#"{"code":502,"message":"Provider disconnected"}"#), FaultKind::Server);
        assert_eq!(kind(r#"{"code":429,"message":"Provider returned error"}"#), FaultKind::RateLimited);
        assert_eq!(
            kind(r#"{"message":"x","type":"invalid_request_error","code":"tool_use_failed"}"#),
            FaultKind::BadRequest
        );
        assert_eq!(kind(r#"{"message":"The server had an error","type":"server_error"}"#), FaultKind::Server);
        assert_eq!(kind(r#""overloaded""#), FaultKind::Server);
    }
}
