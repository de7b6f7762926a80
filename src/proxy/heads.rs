//! Which headers cross, both ways: lists of what may, never of what may not.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr, Result};

use crate::exchange::{Attempt, Form};
use crate::provider::sigv4::Unsigned;
use crate::provider::{Grant, Node, Proof, Source};

/// Request headers of a caller that reach a provider of the same dialect: betas, idempotency, trace context,
/// organisation.
const TO_SAME: [&str; 9] = [
    "openai-beta",
    "openai-organization",
    "openai-project",
    "anthropic-beta",
    "idempotency-key",
    "x-client-request-id",
    "traceparent",
    "tracestate",
    "baggage",
];

/// Those that any provider may see.
const TO_ANY: [&str; 2] = ["traceparent", "tracestate"];

/// Response headers of a provider that reach the caller, by name or by prefix.
const BACK: [&str; 8] = [
    "content-type",
    "retry-after",
    "x-request-id",
    "request-id",
    "openai-processing-ms",
    "openai-version",
    "openai-model",
    "x-should-retry",
];
const BACK_PREFIX: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "anthropic-priority-"];

/// The head of an attempt.
///
/// # Errors
/// Path or header values that no HTTP head can hold; the configuration has been checked for that.
pub fn request(
    attempt: &Attempt,
    node: &Node,
    credential: Option<&(HeaderName, HeaderValue)>,
    caller: &HeaderMap,
) -> Result<RequestHeader> {
    let provider = &attempt.candidate.target.target.provider;
    let mut path = String::with_capacity(node.path.len() + attempt.path.len());
    path.push_str(&node.path);
    path.push_str(&attempt.path);
    let mut head = RequestHeader::build("POST", path.as_bytes(), Some(12))?;
    head.insert_header(header::HOST, node.authority.as_str())?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, attempt.body.len())?;
    // Anything else would have to be inflated before it can be read.
    head.insert_header(header::ACCEPT_ENCODING, "identity")?;
    head.insert_header(
        header::ACCEPT,
        if attempt.terms.call.stream { "text/event-stream" } else { "application/json" },
    )?;
    head.insert_header(header::USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")))?;
    let crossing: &[&str] = if attempt.terms.same_dialect { &TO_SAME } else { &TO_ANY };
    for name in crossing {
        if let Some(value) = caller.get(*name) {
            head.insert_header(HeaderName::from_static(name), value)?;
        }
    }
    for (name, value) in &provider.headers {
        head.insert_header(name.clone(), value)?;
    }
    if let Some((name, value)) = credential {
        head.insert_header(name.clone(), value)?;
    }
    Ok(head)
}

/// Adds to a finished head what proves who sends it. `now` is in Unix seconds.
///
/// # Errors
/// As [`request`].
pub fn prove(head: &mut RequestHeader, attempt: &Attempt, node: &Node, grant: &Grant, now: u64) -> Result<()> {
    match (&grant.proof, attempt.candidate.target.target.provider.source.as_deref()) {
        (Proof::Bearer { header: (name, value), .. }, _) => head.insert_header(name.clone(), value),
        (Proof::Aws(keys), Some(Source::Aws(account))) => {
            let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
            let request = Unsigned { method: "POST", host: &node.authority, path, query, body: &attempt.body };
            let signed = account.sign(keys, &request, now);
            let signed = signed.or_err(ErrorType::InvalidHTTPHeader, "the configuration makes no header")?;
            signed.into_iter().try_for_each(|(name, value)| head.insert_header(name, value))
        }
        (Proof::Aws(_), _) => Error::e_explain(ErrorType::InternalError, "keys of AWS for another kind of provider"),
    }
}

/// The head of the answer, made from the provider's: status, what may cross, and our own.
///
/// # Errors
/// As [`request`].
pub fn response(upstream: &ResponseHeader, form: Form) -> Result<Box<ResponseHeader>> {
    let mut head = Box::new(ResponseHeader::build(upstream.status, Some(16))?);
    for (name, value) in &upstream.headers {
        let crosses =
            BACK.contains(&name.as_str()) || BACK_PREFIX.iter().any(|prefix| name.as_str().starts_with(prefix));
        if crosses {
            head.append_header(name.clone(), value)?;
        }
    }
    match form {
        Form::AsItCame => {
            if let Some(length) = upstream.headers.get(header::CONTENT_LENGTH) {
                head.insert_header(header::CONTENT_LENGTH, length)?;
            } else {
                head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            }
        }
        Form::Events => {
            head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
            head.insert_header(header::CACHE_CONTROL, "no-cache")?;
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        Form::Json | Form::Array => {
            head.insert_header(header::CONTENT_TYPE, "application/json")?;
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
    }
    Ok(head)
}
