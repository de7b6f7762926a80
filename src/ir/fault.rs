//! A provider failed: what kind of failure it is, and so whether another target may help.

use std::time::Duration;

/// One failed attempt, in no provider's words. Owned: it outlives the bytes that told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Status of the provider's answer, where there was one.
    pub status: Option<u16>,
    /// The provider's own code or type (`rate_limit_exceeded`, `overloaded_error`, `RESOURCE_EXHAUSTED`).
    pub code: Option<String>,
    /// The request member at fault, where the provider named one.
    pub param: Option<String>,
    /// The provider's own sentence. Not yet scrubbed of secrets: that is the renderer's duty.
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with its sentence; where the provider's is empty, that is said.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.trim().is_empty() {
            "the provider gave no reason".clone_into(&mut message);
        }
        Fault { kind, status: None, code: None, param: None, message, retry_after: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Refused, unreachable, or the name did not resolve.
    Connect,
    Tls,
    /// No first event, or no next one, in time.
    Timeout,
    /// The connection broke, or the stream ended without its terminal mark.
    Truncated,
    /// The answer was not what its dialect allows.
    Garbage,
    /// 401: the credential is bad.
    Authentication,
    /// 403: the credential may not do this.
    Permission,
    /// 404: the provider has no such model.
    NotFound,
    /// 400 and its kin: the request itself is at fault.
    BadRequest,
    /// 413, or the provider's own size limit.
    TooLarge,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// The provider's filter refused the request, or withheld the answer.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// 429: too fast.
    RateLimited,
    /// 429 or 402 for want of credit: waiting does not help.
    QuotaExhausted,
    /// 408, 409, 425.
    Conflict,
    /// 529 or 503: the provider sheds load.
    Overloaded,
    /// Other 5xx.
    Server,
}

impl FaultKind {
    /// Whether another target, or the same one later, might answer the same request. Where a filter or the model itself
    /// declines, that is for the operator to say.
    pub fn may_try_another(self) -> bool {
        !matches!(self, FaultKind::BadRequest | FaultKind::TooLarge | FaultKind::ContentFilter | FaultKind::Refusal)
    }

    /// Whether the same target is worth another try at once or after a pause.
    pub fn may_retry_same(self) -> bool {
        matches!(
            self,
            FaultKind::Connect
                | FaultKind::Timeout
                | FaultKind::Truncated
                | FaultKind::Garbage
                | FaultKind::RateLimited
                | FaultKind::Conflict
                | FaultKind::Overloaded
                | FaultKind::Server
        )
    }

    /// Whether the failure says something about the target's health, rather than about the request.
    pub fn blames_target(self) -> bool {
        !matches!(
            self,
            FaultKind::BadRequest
                | FaultKind::TooLarge
                | FaultKind::ContextLength
                | FaultKind::ContentFilter
                | FaultKind::Refusal
                | FaultKind::NotFound
        )
    }

    /// The kind that a bare status tells, where the body tells no more.
    pub fn from_status(status: u16) -> FaultKind {
        match status {
            401 => FaultKind::Authentication,
            402 => FaultKind::QuotaExhausted,
            403 => FaultKind::Permission,
            404 => FaultKind::NotFound,
            408 | 409 | 425 => FaultKind::Conflict,
            413 => FaultKind::TooLarge,
            429 => FaultKind::RateLimited,
            503 | 529 => FaultKind::Overloaded,
            504 => FaultKind::Timeout,
            400..=499 => FaultKind::BadRequest,
            500..=599 => FaultKind::Server,
            _ => FaultKind::Garbage,
        }
    }

    /// Label of metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Connect => "connect",
            FaultKind::Tls => "tls",
            FaultKind::Timeout => "timeout",
            FaultKind::Truncated => "truncated",
            FaultKind::Garbage => "garbage",
            FaultKind::Authentication => "authentication",
            FaultKind::Permission => "permission",
            FaultKind::NotFound => "not_found",
            FaultKind::BadRequest => "bad_request",
            FaultKind::TooLarge => "too_large",
            FaultKind::ContextLength => "context_length",
            FaultKind::ContentFilter => "content_filter",
            FaultKind::Refusal => "refusal",
            FaultKind::RateLimited => "rate_limited",
            FaultKind::QuotaExhausted => "quota_exhausted",
            FaultKind::Conflict => "conflict",
            FaultKind::Overloaded => "overloaded",
            FaultKind::Server => "server",
        }
    }
}
