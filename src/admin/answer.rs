//! What the admin port says: answers, and refusals with a code, a sentence and the request's id.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::document::Wrong;
use crate::store::directory::Error;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Version of what is shown, for `If-Match`.
    pub version: Option<u64>,
}

pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html; charset=utf-8";

impl Answer {
    /// # Errors
    /// The value cannot be written as JSON, which is our fault.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Answer, Refused> {
        let body = serde_json::to_vec(value).map_err(|_| Refused::bug("an answer that is no JSON"))?;
        Ok(Answer { status, content_type: JSON, body, version: None })
    }

    pub fn raw(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, content_type: JSON, body: body.into(), version: None }
    }

    #[must_use]
    pub fn at(self, version: Option<u64>) -> Answer {
        Answer { version, ..self }
    }
}

/// Why something is not done.
#[derive(Clone, Debug)]
pub struct Refused {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub problems: Vec<Wrong>,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// Methods of the path.
    pub allow: Option<String>,
}

/// As it is written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failure<'f> {
    pub error: Detail<'f>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Detail<'f> {
    /// Of a fixed list, for programs: `not_found`, `read_only`, ...
    pub code: &'f str,
    /// A sentence for people.
    pub message: &'f str,
    /// What is wrong where in the request.
    #[serde(default, skip_serializing_if = "<[Wrong]>::is_empty")]
    pub problems: &'f [Wrong],
    /// As `x-portolan-request-id` says it.
    pub request_id: &'f str,
}

impl Refused {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refused {
        Refused { status, code, message: message.into(), problems: Vec::new(), retry_after: None, allow: None }
    }

    pub fn unauthorized() -> Refused {
        Refused::new(401, "unauthorized", "send a good token: `Authorization: Bearer pa-...`")
    }

    pub fn forbidden() -> Refused {
        Refused::new(403, "forbidden", "the token's role does not allow this")
    }

    /// The role allows this, but not like that.
    pub fn forbidden_field(message: impl Into<String>) -> Refused {
        Refused::new(403, "forbidden", message)
    }

    /// The same for what is not there and for what others have.
    pub fn not_found(what: &str) -> Refused {
        Refused::new(404, "not_found", format!("there is no such {what}"))
    }

    pub fn read_only(what: &str, id: &str) -> Refused {
        let message = format!("the {what} `{id}` is defined in the configuration file: change it there");
        Refused::new(409, "read_only", message)
    }

    pub fn invalid(message: impl Into<String>) -> Refused {
        Refused::new(422, "invalid", message)
    }

    pub fn wrong(problems: Vec<Wrong>) -> Refused {
        let message = match problems.as_slice() {
            [only] => only.to_string(),
            _ => format!("{} things are wrong", problems.len()),
        };
        Refused { problems, ..Refused::invalid(message) }
    }

    pub fn bug(what: &'static str) -> Refused {
        tracing::error!(what, "the admin port has a bug");
        Refused::new(500, "internal_error", "this is a fault of the gateway's own")
    }

    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let detail = Detail { code: self.code, message: &self.message, problems: &self.problems, request_id };
        serde_json::to_vec(&Failure { error: detail }).unwrap_or_default()
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let message = error.to_string();
        match error {
            Error::Store(_) | Error::Gone => {
                tracing::error!(%message, "the register cannot be used");
                let message = format!("what is stored cannot be read or changed now: {message}");
                Refused { retry_after: Some(1), ..Refused::new(503, "unavailable", message) }
            }
            Error::Missing => Refused::new(404, "not_found", message),
            Error::Changed(_) => Refused::new(412, "changed", message),
            Error::Needs(..) => Refused::new(422, "invalid", message),
            Error::Exists | Error::Used => Refused::new(409, "exists", message),
            Error::InUse(..) | Error::HasTokens(_) => Refused::new(409, "in_use", message),
            Error::SecretTaken => Refused::new(409, "secret_taken", message),
            Error::TooManySecrets => Refused::new(409, "too_many_secrets", message),
            Error::LastOwner => Refused::new(409, "last_owner", message),
            Error::Paid => Refused::new(409, "id_used", message),
            Error::Balance => Refused::new(422, "invalid", message),
        }
    }
}
