//! Every way to say no, in one list: what class of error the caller's SDK sees, and a sentence that tells what to do.

use std::fmt;
use std::time::Duration;

use crate::dialect::{Asked, ErrorClass, ErrorShape, Inbound, Unsayable};
use crate::ir::{Fault, FaultKind, Losses};
use crate::policy::budget::{Period, Short, Why};
use crate::policy::limit::Of;
use crate::policy::price;
use crate::policy::tenancy::{Function, Kind};
use crate::wire::json::{Invalid, clip};
use crate::wire::veil;

/// Attempts that are listed to the caller.
pub const MOST_TOLD: usize = 12;

/// We do not answer this call, or no provider could.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    NoKey,
    BadKey,
    KeyDisabled,
    KeyExpired,
    /// A token that is not believed.
    BadToken {
        flaw: &'static str,
    },
    /// A token that is believed, of somebody who belongs to nobody here.
    TokenUnmapped {
        /// What it says; empty: nothing.
        project: String,
    },
    /// Whether a token is good cannot be found out.
    IssuerUnavailable,
    /// Whom the key belongs to may not make calls any more.
    TenantBarred {
        kind: Kind,
        id: String,
        expired: bool,
    },
    /// The key, or whom it belongs to, may not do this.
    FunctionForbidden {
        kind: Kind,
        function: Function,
    },
    /// The key, or whom it belongs to, may not be used from there.
    AddressForbidden {
        kind: Kind,
    },
    /// A limit of the key, or of whom it belongs to, does not let the call through.
    Limited {
        kind: Kind,
        id: String,
        of: Of,
        /// Of the limit, as in labels.
        name: String,
        /// What it is.
        words: String,
        /// What the call was counted with.
        asked: u64,
        /// `None`: it is more than the limit ever lets through.
        wait: Option<Duration>,
    },
    ModelForbidden {
        model: String,
    },
    UnknownModel {
        model: String,
        asleep: Option<String>,
    },
    UnknownPath {
        path: String,
    },
    WrongMethod {
        allow: &'static str,
    },
    /// Not JSON, or not an object.
    Malformed {
        message: String,
    },
    TooDeep {
        limit: usize,
    },
    TooLarge {
        limit: usize,
    },
    /// More headers, or more bytes of them, than `limits` has.
    HeadTooLarge {
        limit: usize,
    },
    BodyTimeout,
    BodyIncomplete,
    /// Its head may be read in more than one way.
    Framing {
        what: &'static str,
    },
    Repeated {
        member: String,
    },
    Invalid(Invalid),
    /// No target can express something that was asked for.
    Unsayable(Unsayable),
    /// The answer to go on from, or asked for, is not kept here.
    UnknownResponse {
        id: String,
        /// It was named in a request, and not in the path.
        named: bool,
    },
    /// What is kept cannot be read.
    StoreUnavailable,
    /// Only an answer that is made in the background can be cancelled, and none is.
    NothingToCancel,
    /// No target counts tokens beforehand.
    Uncounted,
    /// `strict: true`, and every target would lose something.
    Strict {
        model: String,
        losses: Losses,
    },
    /// No target lies in the regions that the call allows.
    NoRegion {
        regions: String,
    },
    /// No target has all that the call, or its key, demands.
    NoAttributes {
        attributes: String,
    },
    /// A rule leaves no target of those that the call may go to.
    RuledOut {
        rule: String,
    },
    /// Every target asked to be left alone for a while (`limited`: for its rate limit), or its quota is spent.
    Resting {
        retry_after: Duration,
        limited: bool,
    },
    Draining,
    /// The journal cannot be written: what cannot be metered is not served.
    LedgerUnavailable,
    Overloaded {
        retry_after: Duration,
    },
    /// A budget has no room for it.
    OverBudget {
        short: Box<Short>,
        /// Until there is room again; `None`: never by itself.
        retry_after: Option<Duration>,
    },
    /// Nobody knows what its targets cost.
    Unpriced {
        model: String,
    },
    /// The call's own deadline passed; the last failure, where there was one.
    Deadline {
        seconds: f64,
        last: Option<Fault>,
    },
    /// No other target is to be tried; what was, as far as it is worth telling.
    Failed {
        fault: Fault,
        tried: Vec<Tried>,
    },
    /// Ours.
    Bug {
        what: &'static str,
    },
}

/// An attempt that failed, as callers may know it: no address, no credential, no provider's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The target's name, as in `x-portolan-target`.
    pub target: String,
    pub kind: FaultKind,
    /// Of the provider's answer.
    pub status: Option<u16>,
}

/// As `openai/gpt-5.6: 503 overloaded`.
impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target)?;
        f.write_str(": ")?;
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        f.write_str(self.kind.name())
    }
}

/// A level as a caller knows it.
fn whose(kind: Kind) -> &'static str {
    match kind {
        Kind::Key => "the key itself",
        Kind::User => "its user",
        Kind::Project => "its project",
        Kind::Team => "its team",
        Kind::Organisation => "its organisation",
    }
}

impl Refusal {
    pub fn class(&self) -> ErrorClass {
        match self {
            Refusal::NoKey
            | Refusal::BadKey
            | Refusal::KeyDisabled
            | Refusal::KeyExpired
            | Refusal::BadToken { .. } => ErrorClass::Authentication,
            Refusal::ModelForbidden { .. }
            | Refusal::RuledOut { .. }
            | Refusal::TenantBarred { .. }
            | Refusal::TokenUnmapped { .. }
            | Refusal::FunctionForbidden { .. }
            | Refusal::AddressForbidden { .. } => ErrorClass::Permission,
            Refusal::UnknownModel { .. } | Refusal::UnknownPath { .. } => ErrorClass::NotFound,
            Refusal::WrongMethod { .. } => ErrorClass::Method,
            Refusal::Malformed { .. }
            | Refusal::TooDeep { .. }
            | Refusal::BodyIncomplete
            | Refusal::Framing { .. }
            | Refusal::Repeated { .. }
            | Refusal::Invalid(_)
            | Refusal::Unsayable(_)
            | Refusal::Strict { .. }
            | Refusal::NoRegion { .. }
            | Refusal::NoAttributes { .. } => ErrorClass::InvalidRequest,
            Refusal::Resting { limited: true, .. } | Refusal::Limited { .. } => ErrorClass::RateLimit,
            Refusal::Resting { limited: false, .. } => ErrorClass::Overloaded,
            Refusal::UnknownResponse { named: true, .. } | Refusal::NothingToCancel => ErrorClass::InvalidRequest,
            Refusal::UnknownResponse { named: false, .. } => ErrorClass::NotFound,
            Refusal::StoreUnavailable | Refusal::IssuerUnavailable => ErrorClass::Overloaded,
            Refusal::Uncounted => ErrorClass::Upstream,
            Refusal::TooLarge { .. } | Refusal::HeadTooLarge { .. } => ErrorClass::TooLarge,
            Refusal::BodyTimeout => ErrorClass::RequestTimeout,
            Refusal::Draining | Refusal::LedgerUnavailable | Refusal::Overloaded { .. } => ErrorClass::Overloaded,
            Refusal::OverBudget { short, .. } if short.why == Why::Unknown => ErrorClass::Overloaded,
            Refusal::OverBudget { short, .. } if short.period == Period::Prepaid && short.why != Why::Reserved => {
                ErrorClass::Billing
            }
            // As OpenAI and Google tell it of an account that is spent; Anthropic's SDK raises a type for it too.
            Refusal::OverBudget { .. } => ErrorClass::RateLimit,
            Refusal::Unpriced { .. } => ErrorClass::Permission,
            Refusal::Deadline { .. } => ErrorClass::Timeout,
            Refusal::Failed { fault, .. } => class_of(fault.kind),
            Refusal::Bug { .. } => ErrorClass::Internal,
        }
    }

    /// Status of the answer. A provider's own 5xx is relayed; its 401 and 403 are the operator's affair and become 502.
    pub fn status(&self) -> u16 {
        match self {
            // RFC 6585 section 5.
            Refusal::HeadTooLarge { .. } => 431,
            Refusal::Failed {
                fault: Fault { kind: FaultKind::Server | FaultKind::Overloaded, status: Some(status), .. },
                ..
            } if matches!(status, 500 | 502..=504) => *status,
            _ => self.class().status(),
        }
    }

    pub fn code(&self) -> Option<&str> {
        Some(match self {
            Refusal::NoKey | Refusal::BadKey => "invalid_api_key",
            Refusal::KeyDisabled => "key_disabled",
            Refusal::KeyExpired => "key_expired",
            Refusal::BadToken { .. } => "invalid_token",
            Refusal::TokenUnmapped { .. } => "unknown_tenant",
            Refusal::IssuerUnavailable => "issuer_unavailable",
            Refusal::TenantBarred { expired: false, .. } => "tenant_disabled",
            Refusal::TenantBarred { expired: true, .. } => "tenant_expired",
            Refusal::FunctionForbidden { .. } => "endpoint_not_allowed",
            Refusal::AddressForbidden { .. } => "address_not_allowed",
            Refusal::Limited { .. } => "rate_limit_exceeded",
            Refusal::ModelForbidden { .. } => "model_not_allowed",
            Refusal::UnknownModel { .. } => "model_not_found",
            Refusal::UnknownPath { .. } => "unknown_url",
            Refusal::WrongMethod { .. } => "method_not_allowed",
            Refusal::Malformed { .. } | Refusal::BodyIncomplete => "invalid_json",
            Refusal::Framing { .. } => "bad_request",
            Refusal::TooDeep { .. } => "too_deep",
            Refusal::TooLarge { .. } => "request_too_large",
            Refusal::HeadTooLarge { .. } => "headers_too_large",
            Refusal::BodyTimeout => "request_timeout",
            Refusal::Repeated { .. } => "repeated_parameter",
            Refusal::Invalid(_) => "invalid_parameter",
            Refusal::Unsayable(_) => "unsupported_parameter",
            Refusal::UnknownResponse { named: true, .. } => "previous_response_not_found",
            Refusal::UnknownResponse { named: false, .. } => "response_not_found",
            Refusal::StoreUnavailable => "store_unavailable",
            Refusal::NothingToCancel => "nothing_to_cancel",
            Refusal::Uncounted => "no_token_count",
            Refusal::Strict { .. } => "lossy_translation",
            Refusal::NoRegion { .. } => "no_target_in_region",
            Refusal::NoAttributes { .. } => "no_target_with_attributes",
            Refusal::RuledOut { .. } => "no_target_by_rule",
            Refusal::Resting { limited: true, .. } => "rate_limit_exceeded",
            Refusal::Resting { limited: false, .. } => "overloaded",
            Refusal::Draining => "draining",
            Refusal::LedgerUnavailable => "ledger_unavailable",
            Refusal::Overloaded { .. } => "overloaded",
            Refusal::OverBudget { short, .. } if short.why == Why::Unknown => "ledger_unavailable",
            Refusal::OverBudget { short, .. } if short.period == Period::Prepaid => "insufficient_balance",
            Refusal::OverBudget { .. } => "insufficient_quota",
            Refusal::Unpriced { .. } => "model_not_priced",
            Refusal::Deadline { .. } => "deadline_exceeded",
            Refusal::Failed { fault, .. } => return code_of(fault),
            Refusal::Bug { .. } => "internal_error",
        })
    }

    pub fn param(&self) -> Option<&str> {
        match self {
            Refusal::UnknownModel { .. } | Refusal::ModelForbidden { .. } => Some("model"),
            Refusal::Unpriced { .. } => Some("model"),
            Refusal::Repeated { member } => Some(member),
            Refusal::Invalid(invalid) if !invalid.path.is_empty() => Some(&invalid.path),
            Refusal::Unsayable(unsayable) => Some(&unsayable.path),
            Refusal::NoRegion { .. } => Some("region"),
            Refusal::NoAttributes { .. } => Some("attributes"),
            Refusal::UnknownResponse { named: true, .. } => Some("previous_response_id"),
            Refusal::Failed { fault, .. } => fault.param.as_deref(),
            _ => None,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Refusal::NoKey => {
                "No API key was sent. Put your Portolan key in the header `Authorization: Bearer pk-...`.".into()
            }
            Refusal::BadKey => {
                "This API key is not known here. Check the key, and that the base URL is the right gateway.".into()
            }
            Refusal::KeyDisabled => "This API key is disabled. Ask your operator.".into(),
            Refusal::KeyExpired => "This API key has expired. Ask your operator for a new one.".into(),
            Refusal::BadToken { flaw } => {
                format!(
                    "This token is not accepted here ({flaw}). Get another one where you got it, meant for this gateway."
                )
            }
            Refusal::TokenUnmapped { project } if project.is_empty() => {
                "This token does not say which project you belong to. Ask your operator.".into()
            }
            Refusal::TokenUnmapped { project } => {
                format!(
                    "This token says that you belong to `{}`, which is no project here. Ask your operator.",
                    clip(project, 100)
                )
            }
            Refusal::IssuerUnavailable => {
                "Whether this token is good cannot be found out right now. Try again shortly.".into()
            }
            Refusal::TenantBarred { kind, id, expired } => {
                let why = if *expired { "has expired" } else { "is disabled" };
                format!("The {} `{id}` that this API key belongs to {why}. Ask your operator.", kind.name())
            }
            Refusal::FunctionForbidden { kind, function } => {
                format!(
                    "This API key may not be used for `{}`: {} forbids it. Ask your operator.",
                    function.name(),
                    whose(*kind)
                )
            }
            Refusal::AddressForbidden { kind } => {
                format!(
                    "This API key may not be used from your address: {} forbids it. Ask your operator.",
                    whose(*kind)
                )
            }
            Refusal::Limited { kind, id, words, wait: Some(_), of: Of::Concurrency, .. } => {
                format!(
                    "The {} `{id}` has as many calls under way as its limit lets it ({words}). Try again when one is over.",
                    kind.name()
                )
            }
            Refusal::Limited { kind, id, words, wait: Some(wait), .. } => {
                format!(
                    "The limit of the {} `{id}` is reached: {words}. Try again in {} s.",
                    kind.name(),
                    wait.as_secs_f64().ceil().max(1.0)
                )
            }
            Refusal::Limited { kind, id, words, asked, of, wait: None, .. } => {
                let counted = match of {
                    Of::Spend => format!("{} US dollars at most", price::cost_decimal(*asked)),
                    of => format!("{asked} {}", of.name().replace('_', " ")),
                };
                format!(
                    "This call alone is counted with {counted}, and the limit of the {} `{id}` is {words}: it would never be let through. Ask for less at once, or bound the tokens that it may generate.",
                    kind.name()
                )
            }
            Refusal::ModelForbidden { model } => {
                format!(
                    "This API key may not use the model `{}`. `GET /v1/models` lists those it may.",
                    clip(model, 100)
                )
            }
            Refusal::UnknownModel { model, asleep: None } => {
                format!("The model `{}` does not exist here. `GET /v1/models` lists those that do.", clip(model, 100))
            }
            Refusal::UnknownModel { model, asleep: Some(variable) } => {
                format!(
                    "The model `{}` is configured, but its provider has no credential: the operator must set {variable}.",
                    clip(model, 100)
                )
            }
            Refusal::UnknownPath { path } => format!("There is nothing at `{}`.", clip(&veil::path(path), 100)),
            Refusal::WrongMethod { allow } => format!("This path takes {allow} only."),
            Refusal::Malformed { message } => format!("The body is not a JSON object: {message}"),
            Refusal::TooDeep { limit } => format!("The body is nested deeper than {limit} levels."),
            Refusal::TooLarge { limit } => format!("The body is larger than {limit} bytes, the limit of this gateway."),
            Refusal::Framing { what } => format!("This is no request that has one reading alone: {what}."),
            Refusal::HeadTooLarge { limit } => format!("The headers are more than this gateway takes (limit {limit})."),
            Refusal::BodyTimeout => "The body did not arrive in time.".into(),
            Refusal::BodyIncomplete => "The body ended before it was whole.".into(),
            Refusal::Repeated { member } => {
                format!("The body has the member `{member}` more than once; which one counts would be a guess.")
            }
            Refusal::Invalid(invalid) => invalid.to_string(),
            Refusal::Unsayable(unsayable) => unsayable.message.clone(),
            Refusal::UnknownResponse { id, named: true } => {
                format!(
                    "Previous response with id '{}' not found. Send the whole conversation as `input`.",
                    clip(id, 100)
                )
            }
            Refusal::UnknownResponse { id, named: false } => {
                format!("Response with id '{}' not found.", clip(id, 100))
            }
            Refusal::StoreUnavailable => "Kept responses cannot be read right now. Try again shortly.".into(),
            Refusal::NothingToCancel => {
                "Only background responses can be cancelled, and this one is none: close the connection instead.".into()
            }
            Refusal::Uncounted => "No other provider of this model counts tokens, and the one that does failed.".into(),
            Refusal::Strict { model, losses } => format!(
                "The call is strict, and no target of the model `{}` can take the request as it is ({losses}). Leave these out, or do not ask for `strict`.",
                clip(model, 100)
            ),
            Refusal::NoRegion { regions } => {
                format!("No target of this model is in the region {}.", clip(regions, 100))
            }
            Refusal::NoAttributes { attributes } => {
                format!("No target of this model that may be used has all of: {}.", clip(attributes, 100))
            }
            Refusal::RuledOut { rule } => {
                format!("The rule `{}` of this gateway leaves no target for this call.", clip(rule, 100))
            }
            Refusal::Resting { limited: true, .. } => {
                "The rate limits of this model's providers are spent. Try again when they have had time.".into()
            }
            Refusal::Resting { limited: false, .. } => {
                "Every provider of this model has asked to be left alone for a while. Try again then.".into()
            }
            Refusal::Draining => "This gateway is shutting down. Try again: another one takes over.".into(),
            Refusal::LedgerUnavailable => {
                "Usage cannot be recorded right now, so the call was not made. Try again shortly.".into()
            }
            Refusal::Overloaded { .. } => "This gateway has as much work as it may hold. Try again shortly.".into(),
            Refusal::OverBudget { short, .. } => short.to_string(),
            Refusal::Unpriced { model } => format!(
                "Nobody has told this gateway what the model `{}` costs, so it cannot be held to a budget: the operator must write its price, or what becomes of such calls (`unpriced`).",
                clip(model, 100)
            ),
            Refusal::Deadline { seconds, last: None } => {
                format!("No answer within the call's deadline of {seconds} s.")
            }
            Refusal::Deadline { seconds, last: Some(fault) } => {
                format!("No answer within the call's deadline of {seconds} s; the last attempt failed: {}", told(fault))
            }
            Refusal::Failed { fault, tried } if tried.len() < 2 => told(fault),
            Refusal::Failed { fault, tried } => {
                let list = tried.iter().take(MOST_TOLD).map(Tried::to_string).collect::<Vec<_>>().join(", ");
                format!("{} (after {} attempts: {list})", told(fault), tried.len())
            }
            Refusal::Bug { what } => format!(
                "Something went wrong inside the gateway ({what}). It has been recorded under this request's id."
            ),
        }
    }

    /// Seconds the caller should wait, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Draining | Refusal::LedgerUnavailable | Refusal::StoreUnavailable | Refusal::IssuerUnavailable => {
                Some(Duration::from_secs(1))
            }
            Refusal::Overloaded { retry_after } | Refusal::Resting { retry_after, .. } => Some(*retry_after),
            Refusal::Limited { wait, .. } => *wait,
            Refusal::OverBudget { retry_after, .. } => *retry_after,
            Refusal::Failed { fault, .. } => match fault.kind {
                // Where nobody says how long, programs that come back at once would only add to the trouble.
                FaultKind::RateLimited | FaultKind::Connect | FaultKind::Tls | FaultKind::Overloaded => {
                    Some(fault.retry_after.unwrap_or(Duration::from_secs(1)))
                }
                _ => fault.retry_after,
            },
            _ => None,
        }
    }

    /// Nothing but another request will do, though the status says to come back.
    pub fn is_final(&self) -> bool {
        matches!(self, Refusal::Limited { wait: None, .. })
    }

    /// Label of metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NoKey => "no_key",
            Refusal::BadKey => "bad_key",
            Refusal::KeyDisabled => "key_disabled",
            Refusal::KeyExpired => "key_expired",
            Refusal::BadToken { .. } => "invalid_token",
            Refusal::TokenUnmapped { .. } => "unknown_tenant",
            Refusal::IssuerUnavailable => "issuer_unavailable",
            Refusal::TenantBarred { expired: false, .. } => "tenant_disabled",
            Refusal::TenantBarred { expired: true, .. } => "tenant_expired",
            Refusal::FunctionForbidden { .. } => "endpoint_not_allowed",
            Refusal::AddressForbidden { .. } => "address_not_allowed",
            Refusal::Limited { .. } => "limited",
            Refusal::ModelForbidden { .. } => "model_forbidden",
            Refusal::UnknownModel { .. } => "unknown_model",
            Refusal::UnknownPath { .. } => "unknown_path",
            Refusal::WrongMethod { .. } => "wrong_method",
            Refusal::Malformed { .. } => "malformed",
            Refusal::TooDeep { .. } => "too_deep",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Framing { .. } => "bad_framing",
            Refusal::HeadTooLarge { .. } => "head_too_large",
            Refusal::BodyTimeout => "body_timeout",
            Refusal::BodyIncomplete => "body_incomplete",
            Refusal::Repeated { .. } => "repeated",
            Refusal::Invalid(_) => "invalid",
            Refusal::Unsayable(_) => "unsayable",
            Refusal::UnknownResponse { .. } => "unknown_response",
            Refusal::StoreUnavailable => "store_unavailable",
            Refusal::NothingToCancel => "nothing_to_cancel",
            Refusal::Uncounted => "uncounted",
            Refusal::Strict { .. } => "strict",
            Refusal::NoRegion { .. } => "no_region",
            Refusal::NoAttributes { .. } => "no_attributes",
            Refusal::RuledOut { .. } => "ruled_out",
            Refusal::Resting { limited: true, .. } => "quota_spent",
            Refusal::Resting { limited: false, .. } => "resting",
            Refusal::Draining => "draining",
            Refusal::LedgerUnavailable => "ledger_unavailable",
            Refusal::Overloaded { .. } => "overloaded",
            Refusal::OverBudget { .. } => "over_budget",
            Refusal::Unpriced { .. } => "unpriced",
            Refusal::Deadline { .. } => "deadline",
            Refusal::Failed { fault, .. } => fault.kind.name(),
            Refusal::Bug { .. } => "bug",
        }
    }

    /// The body of the answer, in the caller's dialect.
    pub fn body(&self, dialect: &dyn Inbound, request_id: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.shaped(request_id, |shape| dialect.error(shape, &mut out));
        out
    }

    /// The last event of a stream that has begun, in the caller's dialect.
    pub fn event(&self, dialect: &dyn Inbound, asked: &Asked<'_>, request_id: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.shaped(request_id, |shape| dialect.error_event(shape, asked, &mut out));
        out
    }

    /// The error as dialects tell it.
    pub fn shaped<R>(&self, request_id: &str, write: impl FnOnce(&ErrorShape<'_>) -> R) -> R {
        let message = self.message();
        write(&ErrorShape {
            class: self.class(),
            status: self.status(),
            message: &message,
            code: self.code(),
            param: self.param(),
            request_id,
        })
    }
}

/// What the caller is told of a provider's failure: its own sentence where it speaks of the request, ours where it
/// speaks of the operator's account.
fn told(fault: &Fault) -> String {
    match fault.kind {
        FaultKind::Authentication | FaultKind::Permission => {
            "The provider refused this gateway's credential. The operator has been told.".into()
        }
        FaultKind::QuotaExhausted => {
            "The provider account of this gateway has no credit left. The operator has been told.".into()
        }
        _ => clip(&fault.message, 2_000).to_owned(),
    }
}

fn class_of(kind: FaultKind) -> ErrorClass {
    match kind {
        FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter | FaultKind::Refusal => {
            ErrorClass::InvalidRequest
        }
        FaultKind::TooLarge => ErrorClass::TooLarge,
        FaultKind::NotFound => ErrorClass::NotFound,
        FaultKind::RateLimited => ErrorClass::RateLimit,
        FaultKind::Timeout => ErrorClass::Timeout,
        FaultKind::Overloaded => ErrorClass::Overloaded,
        FaultKind::Connect
        | FaultKind::Tls
        | FaultKind::Truncated
        | FaultKind::Garbage
        | FaultKind::Authentication
        | FaultKind::Permission
        | FaultKind::QuotaExhausted
        | FaultKind::Conflict
        | FaultKind::Server => ErrorClass::Upstream,
    }
}

fn code_of(fault: &Fault) -> Option<&str> {
    match fault.kind {
        FaultKind::ContextLength => Some("context_length_exceeded"),
        FaultKind::ContentFilter => Some("content_filter"),
        FaultKind::Authentication | FaultKind::Permission | FaultKind::QuotaExhausted => Some("provider_account"),
        // Callers' programs branch on these; a provider of another dialect has other words for them.
        FaultKind::RateLimited => Some("rate_limit_exceeded"),
        FaultKind::NotFound => Some("model_not_found"),
        _ => fault.code.as_deref().or(Some(fault.kind.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_credential_trouble_is_not_the_callers() {
        let mut fault = Fault::new(FaultKind::Authentication, "Incorrect API key provided: sk-abc");
        fault.status = Some(401);
        let refusal = Refusal::Failed { fault, tried: Vec::new() };
        assert_eq!(refusal.status(), 502);
        assert!(!refusal.message().contains("sk-abc"));
    }

    #[test]
    fn a_providers_own_5xx_is_relayed() {
        for (status, kind, want) in [
            (500, FaultKind::Server, 500),
            (503, FaultKind::Overloaded, 503),
            (529, FaultKind::Overloaded, 503),
            (520, FaultKind::Server, 502),
        ] {
            let mut fault = Fault::new(kind, "x");
            fault.status = Some(status);
            assert_eq!(Refusal::Failed { fault, tried: Vec::new() }.status(), want);
        }
    }

    #[test]
    fn codes_are_those_that_callers_know() {
        for (kind, theirs, want) in [
            (FaultKind::RateLimited, "RESOURCE_EXHAUSTED", "rate_limit_exceeded"),
            (FaultKind::RateLimited, "rate_limit_error", "rate_limit_exceeded"),
            (FaultKind::NotFound, "not_found_error", "model_not_found"),
            (FaultKind::BadRequest, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ] {
            let mut fault = Fault::new(kind, "x");
            fault.code = Some(theirs.to_owned());
            assert_eq!(Refusal::Failed { fault, tried: Vec::new() }.code(), Some(want));
        }
    }

    #[test]
    fn a_rate_limit_always_says_how_long() {
        let one = |target: &str, kind, status| Tried { target: target.into(), kind, status };
        let tried = vec![one("a/m", FaultKind::Connect, None), one("b/m", FaultKind::RateLimited, Some(429))];
        let refusal = Refusal::Failed { fault: Fault::new(FaultKind::RateLimited, "slow down"), tried };
        assert_eq!(refusal.status(), 429);
        assert_eq!(refusal.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(refusal.message(), "slow down (after 2 attempts: a/m: connect, b/m: 429 rate_limited)");
    }
}
