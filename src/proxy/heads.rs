//! Which headers cross, both ways: lists of what may, never of what may not.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr, Result};

use super::peer::Place;
use super::state::Way;
use crate::exchange::{Attempt, Form};
use crate::provider::sigv4::Unsigned;
use crate::provider::{Grant, Node, Proof, Provider, Source};

/// The head of an attempt: what all heads to the provider have in common, and the attempt's own.
///
/// # Errors
/// Path or header values that no HTTP head can hold; the configuration has been checked for that.
pub fn request(
    attempt: &Attempt,
    way: &Way,
    place: &Place,
    credential: Option<&(HeaderName, HeaderValue)>,
    caller: &HeaderMap,
) -> Result<RequestHeader> {
    let wrong = || Error::explain(ErrorType::InvalidHTTPHeader, "a path or host that no head can hold");
    let mut path = String::with_capacity(place.node.path.len() + attempt.path.len());
    path.push_str(&place.node.path);
    path.push_str(&attempt.path);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path)).map_err(|_| wrong())?;
    let host = place.host.clone().ok_or_else(wrong)?;
    let accept = if attempt.terms.call.stream { "text/event-stream" } else { "application/json" };

    let mut headers = way.headers.clone();
    if let Some(unset) = headers.get_mut(header::HOST).filter(|host| host.is_empty()) {
        *unset = host;
    }
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static(accept));
    headers.insert(header::CONTENT_LENGTH, attempt.body.len().into());
    for (name, value) in caller {
        if crosses_to(name.as_str(), attempt.terms.same_dialect) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
    if let Some((name, value)) = credential {
        headers.insert(name, value.clone());
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::POST;
    parts.uri = path.into();
    parts.headers = headers;
    Ok(parts.into())
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
            let request = Unsigned { method: "POST", host: &node.authority, path, query, body: &attempt.body.whole() };
            let signed = account.sign(keys, &request, now);
            let signed = signed.or_err(ErrorType::InvalidHTTPHeader, "the configuration makes no header")?;
            signed.into_iter().try_for_each(|(name, value)| head.insert_header(name, value))
        }
        (Proof::Aws(_), _) => Error::e_explain(ErrorType::InternalError, "keys of AWS for another kind of provider"),
    }
}

/// What all heads to one provider have in common, in the order in which they are sent.
pub fn common(provider: &Provider) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    // First on the wire (RFC 9110 section 7.2); each head gets its node's own, unless the operator has set one.
    headers.insert(header::HOST, HeaderValue::from_static(""));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Anything else would have to be inflated before it can be read.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &provider.headers {
        headers.insert(name, value.clone());
    }
    headers
}

/// The headers of the answer, made from the provider's: what may cross, and what its form demands.
pub fn response(upstream: &HeaderMap, form: Form) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(24);
    for (name, value) in upstream {
        if crosses_back(name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    let chunked = HeaderValue::from_static("chunked");
    match form {
        Form::AsItCame => match upstream.get(header::CONTENT_LENGTH) {
            Some(length) => headers.insert(header::CONTENT_LENGTH, length.clone()),
            None => headers.insert(header::TRANSFER_ENCODING, chunked),
        },
        Form::Events => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(header::TRANSFER_ENCODING, chunked)
        }
        Form::Json | Form::Array => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::TRANSFER_ENCODING, chunked)
        }
    };
    headers
}

/// A head for the caller. Made from a whole map, since each header that is put into Pingora's own type is looked up
/// and checked as text, and kept a second time for its upper and lower case.
pub fn answer(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.headers = headers;
    parts.into()
}

/// Request headers of a caller that reach a provider of the same dialect: betas, idempotency, trace context,
/// organisation; those that any provider may see: trace context.
fn crosses_to(name: &str, same_dialect: bool) -> bool {
    match name {
        "traceparent" | "tracestate" => true,
        "openai-beta"
        | "openai-organization"
        | "openai-project"
        | "anthropic-beta"
        | "idempotency-key"
        | "x-client-request-id"
        | "baggage" => same_dialect,
        _ => false,
    }
}

/// What providers may see of a caller's headers.
pub fn carried(caller: &HeaderMap) -> HeaderMap {
    let carried = caller.iter().filter(|(name, _)| crosses_to(name.as_str(), true));
    carried.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Response headers of a provider that reach the caller, by name or by prefix.
fn crosses_back(name: &str) -> bool {
    match name {
        "content-type"
        | "retry-after"
        | "x-request-id"
        | "request-id"
        | "openai-processing-ms"
        | "openai-version"
        | "openai-model"
        | "x-should-retry" => true,
        _ => {
            ["x-ratelimit-", "anthropic-ratelimit-", "anthropic-priority-"].iter().any(|begin| name.starts_with(begin))
        }
    }
}
