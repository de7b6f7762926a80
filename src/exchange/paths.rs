//! The path table: every route with its operation, its dialect and who may use it.
//!
//! One gate: a row demands a key or says [`Access::Public`] in so many words; there is no third way to be reachable.

use std::borrow::Cow;

use http::Method;

use super::Refusal;
use crate::dialect::{Dialect, anthropic, gemini, openai_chat, openai_completions, openai_responses};
use crate::policy::tenancy::Function;

/// What a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Generate an answer: metered. Whether it is streamed stands in the body, or it is not.
    Generate,
    /// Generate an answer as a stream, whatever the body says: metered.
    Stream,
    /// Count the tokens of a request.
    Count,
    /// List the models the key may use.
    Models,
    /// Show one of them.
    Model,
    /// Show a kept answer, what was said to get it, delete it, or cancel it while it is made.
    Response,
    ResponseInput,
    DeleteResponse,
    CancelResponse,
    /// The calling key's own usage and cost.
    Usage,
    Live,
    Ready,
}

impl Operation {
    /// What it is of all that levels can forbid; `None`: nobody is asked.
    pub fn function(self) -> Option<Function> {
        Some(match self {
            Operation::Generate | Operation::Stream => Function::Generate,
            Operation::Count => Function::CountTokens,
            Operation::Models | Operation::Model => Function::Models,
            Operation::Response | Operation::ResponseInput | Operation::DeleteResponse | Operation::CancelResponse => {
                Function::Responses
            }
            Operation::Usage => Function::Usage,
            Operation::Live | Operation::Ready => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Key,
    Public,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub path: Pattern,
    pub method: &'static str,
    pub operation: Operation,
    pub access: Access,
    /// The dialect that answers and errors are in.
    pub dialect: Dialect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Exact(&'static str),
    /// Something not empty stands between, or (with an empty end) follows: a name.
    Named(&'static str, &'static str),
}

/// A route, and the name that its path holds.
#[derive(Debug)]
pub struct Found<'p> {
    pub route: &'static Route,
    /// Percent-decoded; empty for a path without one.
    pub name: Cow<'p, str>,
}

/// Every route of the data port. Longer patterns stand before those that would swallow them.
pub const ROUTES: [Route; 22] = [
    post(Pattern::Exact("/v1/chat/completions"), Operation::Generate, openai_chat::DIALECT),
    post(Pattern::Exact("/v1/completions"), Operation::Generate, openai_completions::DIALECT),
    post(Pattern::Exact("/v1/responses"), Operation::Generate, openai_responses::DIALECT),
    get(Pattern::Named("/v1/responses/", "/input_items"), Operation::ResponseInput, openai_responses::DIALECT),
    post(Pattern::Named("/v1/responses/", "/cancel"), Operation::CancelResponse, openai_responses::DIALECT),
    get(Pattern::Named("/v1/responses/", ""), Operation::Response, openai_responses::DIALECT),
    Route {
        method: "DELETE",
        ..post(Pattern::Named("/v1/responses/", ""), Operation::DeleteResponse, openai_responses::DIALECT)
    },
    post(Pattern::Exact("/v1/messages"), Operation::Generate, anthropic::DIALECT),
    post(Pattern::Exact("/v1/messages/count_tokens"), Operation::Count, anthropic::DIALECT),
    post(Pattern::Named("/v1beta/models/", ":generateContent"), Operation::Generate, gemini::DIALECT),
    post(Pattern::Named("/v1beta/models/", ":streamGenerateContent"), Operation::Stream, gemini::DIALECT),
    post(Pattern::Named("/v1beta/models/", ":countTokens"), Operation::Count, gemini::DIALECT),
    post(Pattern::Named("/v1/models/", ":generateContent"), Operation::Generate, gemini::DIALECT),
    post(Pattern::Named("/v1/models/", ":streamGenerateContent"), Operation::Stream, gemini::DIALECT),
    post(Pattern::Named("/v1/models/", ":countTokens"), Operation::Count, gemini::DIALECT),
    get(Pattern::Exact("/v1/models"), Operation::Models, openai_chat::DIALECT),
    get(Pattern::Named("/v1/models/", ""), Operation::Model, openai_chat::DIALECT),
    get(Pattern::Exact("/v1beta/models"), Operation::Models, gemini::DIALECT),
    get(Pattern::Named("/v1beta/models/", ""), Operation::Model, gemini::DIALECT),
    get(Pattern::Exact("/v1/usage"), Operation::Usage, openai_chat::DIALECT),
    public("/health/live", Operation::Live),
    public("/health/ready", Operation::Ready),
];

const fn post(path: Pattern, operation: Operation, dialect: Dialect) -> Route {
    Route { path, method: "POST", operation, access: Access::Key, dialect }
}

const fn get(path: Pattern, operation: Operation, dialect: Dialect) -> Route {
    Route { path, method: "GET", operation, access: Access::Key, dialect }
}

const fn public(path: &'static str, operation: Operation) -> Route {
    Route {
        path: Pattern::Exact(path),
        method: "GET",
        operation,
        access: Access::Public,
        dialect: openai_chat::DIALECT,
    }
}

/// Finds the route of a request.
///
/// # Errors
/// No such path, or not with this method.
pub fn find<'p>(method: &Method, path: &'p str) -> Result<Found<'p>, Refusal> {
    let mut allow = None;
    for route in &ROUTES {
        let name = match route.path {
            Pattern::Exact(exact) => (path == exact).then_some(""),
            Pattern::Named(before, after) => {
                path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).filter(|name| !name.is_empty())
            }
        };
        let Some(name) = name else { continue };
        if method == route.method || (route.method == "GET" && method == Method::HEAD) {
            return Ok(Found { route, name: decoded(name) });
        }
        allow.get_or_insert(route.method);
    }
    Err(match allow {
        Some(allow) => Refusal::WrongMethod { allow },
        None => Refusal::UnknownPath { path: path.to_owned() },
    })
}

/// The dialect in which a path that may not exist is answered. `versioned`: the caller sent `anthropic-version`, as only
/// Anthropic's SDKs do.
pub fn dialect_of(path: &str, versioned: bool) -> Dialect {
    if path.starts_with("/v1beta/") || path.contains(":generateContent") || path.contains(":streamGenerateContent") {
        gemini::DIALECT
    } else if versioned || path == "/v1/messages" || path.starts_with("/v1/messages/") {
        anthropic::DIALECT
    } else {
        openai_chat::DIALECT
    }
}

/// Percent-decoding (RFC 3986 section 2.1); what is not valid stays as it is.
pub fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.split_first_chunk::<2>()).flatten().and_then(|(digits, after)| {
            let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            Some((u8::from_str_radix(text, 16).ok()?, after))
        });
        (rest, _) = match code {
            Some((code, after)) => (after, bytes.push(code)),
            None => (after, bytes.push(byte)),
        };
    }
    match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: Method, path: &str) -> Operation {
        find(&method, path).unwrap().route.operation
    }

    #[test]
    fn paths_and_methods() {
        assert_eq!(operation(Method::POST, "/v1/chat/completions"), Operation::Generate);
        assert_eq!(operation(Method::GET, "/v1/models/a/b"), Operation::Model);
        assert_eq!(operation(Method::HEAD, "/v1/models"), Operation::Models);
        assert_eq!(find(&Method::GET, "/v1/chat/completions").unwrap_err(), Refusal::WrongMethod { allow: "POST" });
        for path in ["/", "", "/v1/models/", "/v1/chat/completions/", "//v1/models", "/v1/%6dodels", "/admin/targets"] {
            assert_eq!(find(&Method::GET, path).unwrap_err(), Refusal::UnknownPath { path: path.into() });
        }
    }

    #[test]
    fn names_in_paths() {
        for (path, operation, name) in [
            ("/v1beta/models/a:b%2Fc:generateContent", Operation::Generate, "a:b/c"),
            ("/v1beta/models/x/y:streamGenerateContent", Operation::Stream, "x/y"),
            ("/v1/models/m%:countTokens", Operation::Count, "m%"),
            ("/v1/models/%ff%+1:countTokens", Operation::Count, "%ff%+1"),
        ] {
            let found = find(&Method::POST, path).unwrap();
            assert_eq!((found.route.operation, &*found.name), (operation, name), "{path}");
        }
        assert!(find(&Method::POST, "/v1beta/models/:generateContent").is_err());
    }

    #[test]
    fn only_health_is_public() {
        for route in &ROUTES {
            let public = matches!(route.operation, Operation::Live | Operation::Ready);
            assert_eq!(route.access == Access::Public, public, "{route:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_in_the_words_of_its_neighbours() {
        for (path, versioned, name) in [
            ("/v1beta/models/m:embedThis", false, "gemini"),
            ("/v1/messages/batches", false, "anthropic"),
            ("/v1/nothing", true, "anthropic"),
            ("/v1/nothing", false, "openai_chat"),
        ] {
            assert_eq!(dialect_of(path, versioned).name, name);
        }
    }
}
