//! The path table: every route with its operation, its dialect and who may use it.
//!
//! One gate: a row demands a key or says [`Access::Public`] in so many words; there is no third way to be reachable.

use http::Method;

use super::Refusal;
use crate::dialect::{Dialect, openai_chat};

/// What a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Generate an answer: metered.
    Generate,
    /// List the models the key may use.
    Models,
    /// Show one of them.
    Model,
    /// The calling key's own usage and cost.
    Usage,
    Live,
    Ready,
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
    /// Something not empty follows.
    Below(&'static str),
}

/// Every route of the data port.
pub const ROUTES: [Route; 6] = [
    row(Pattern::Exact("/v1/chat/completions"), "POST", Operation::Generate, Access::Key),
    row(Pattern::Exact("/v1/models"), "GET", Operation::Models, Access::Key),
    row(Pattern::Below("/v1/models/"), "GET", Operation::Model, Access::Key),
    row(Pattern::Exact("/v1/usage"), "GET", Operation::Usage, Access::Key),
    row(Pattern::Exact("/health/live"), "GET", Operation::Live, Access::Public),
    row(Pattern::Exact("/health/ready"), "GET", Operation::Ready, Access::Public),
];

const fn row(path: Pattern, method: &'static str, operation: Operation, access: Access) -> Route {
    Route { path, method, operation, access, dialect: openai_chat::DIALECT }
}

/// Finds the route of a request.
///
/// # Errors
/// No such path, or not with this method.
pub fn find(method: &Method, path: &str) -> Result<&'static Route, Refusal> {
    let mut allow = None;
    for route in &ROUTES {
        let matches = match route.path {
            Pattern::Exact(exact) => path == exact,
            Pattern::Below(prefix) => path.len() > prefix.len() && path.starts_with(prefix),
        };
        if !matches {
            continue;
        }
        if method == route.method || (route.method == "GET" && method == Method::HEAD) {
            return Ok(route);
        }
        allow = Some(route.method);
    }
    Err(match allow {
        Some(allow) => Refusal::WrongMethod { allow },
        None => Refusal::UnknownPath { path: path.to_owned() },
    })
}

/// The dialect in which a path that may not exist is answered.
pub fn dialect_of(_path: &str) -> Dialect {
    openai_chat::DIALECT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        assert_eq!(find(&Method::POST, "/v1/chat/completions").unwrap().operation, Operation::Generate);
        assert_eq!(find(&Method::GET, "/v1/models/a/b").unwrap().operation, Operation::Model);
        assert_eq!(find(&Method::GET, "/v1/chat/completions").unwrap_err(), Refusal::WrongMethod { allow: "POST" });
        for path in ["/", "", "/v1/models/", "/v1/chat/completions/", "//v1/models", "/v1/%6dodels", "/admin/targets"] {
            assert_eq!(find(&Method::GET, path).unwrap_err(), Refusal::UnknownPath { path: path.into() });
        }
    }

    #[test]
    fn only_health_is_public() {
        for route in &ROUTES {
            let public = matches!(route.operation, Operation::Live | Operation::Ready);
            assert_eq!(route.access == Access::Public, public, "{route:?}");
        }
    }
}
