//! Local answers: refusals, lists, health.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::dialect::Dialect;
use crate::exchange::Refusal;

/// The header that names a request in all logs, ledgers and error messages.
pub const REQUEST_ID: &str = "x-portolan-request-id";

/// Writes a whole JSON answer. The connection stays usable where the request was read to its end.
///
/// # Errors
/// The client is gone.
pub async fn json(session: &mut Session, status: u16, body: Vec<u8>, request_id: &str) -> Result<()> {
    let (head, body) = whole(status, body, request_id)?;
    send(session, head, body).await
}

/// Head and body of a refusal.
///
/// # Errors
/// Never, for the headers we make.
pub fn refusal_parts(refusal: &Refusal, dialect: Dialect, request_id: &str) -> Result<(Box<ResponseHeader>, Bytes)> {
    let body = match dialect.inbound {
        Some(inbound) => refusal.body(inbound, request_id),
        None => refusal.message().into_bytes(),
    };
    let allow = match refusal {
        Refusal::WrongMethod { allow } => Some(*allow),
        _ => None,
    };
    let mut head = head(refusal.status(), "application/json", body.len(), request_id, refusal.retry_after(), allow)?;
    if refusal.is_final() {
        // The SDKs of OpenAI and Anthropic heed it.
        head.insert_header("x-should-retry", "false")?;
    }
    Ok((head, body.into()))
}

/// Head and body of a whole JSON answer.
///
/// # Errors
/// Never, for the headers we make.
pub fn whole(status: u16, body: Vec<u8>, request_id: &str) -> Result<(Box<ResponseHeader>, Bytes)> {
    let head = head(status, "application/json", body.len(), request_id, None, None)?;
    Ok((head, body.into()))
}

fn head(
    status: u16,
    content_type: &'static str,
    length: usize,
    request_id: &str,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
) -> Result<Box<ResponseHeader>> {
    let mut head = Box::new(ResponseHeader::build(status, Some(6))?);
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CONTENT_LENGTH, length)?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(REQUEST_ID, request_id)?;
    // The OpenAI SDKs show this one in their exceptions.
    head.insert_header("x-request-id", request_id)?;
    // And Anthropic's this one.
    head.insert_header("request-id", request_id)?;
    if let Some(wait) = retry_after {
        // Rounded up: a client that comes back at the stated second must not be early.
        head.insert_header(header::RETRY_AFTER, wait.as_secs_f64().ceil().max(1.0) as u64)?;
    }
    if let Some(allow) = allow {
        head.insert_header(header::ALLOW, allow)?;
    }
    Ok(head)
}

/// Head and body of a count of tokens that is an estimate, and says so.
///
/// # Errors
/// Never, for the headers we make.
pub fn estimated(body: Vec<u8>, request_id: &str) -> Result<(Box<ResponseHeader>, Bytes)> {
    let mut head = head(200, "application/json", body.len(), request_id, None, None)?;
    head.insert_header("x-portolan-estimated", "true")?;
    Ok((head, body.into()))
}

/// Sends a whole answer.
///
/// # Errors
/// The client is gone.
pub async fn send(session: &mut Session, head: Box<ResponseHeader>, body: Bytes) -> Result<()> {
    let no_body = session.req_header().method == http::Method::HEAD;
    session.write_response_header(head, no_body).await?;
    if !no_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
