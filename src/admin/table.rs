//! Everything that the admin port does, as one table: what is routed by it, who may do it, and what is told of it in the
//! OpenAPI document. So nothing can be reached without a word on who may, and nothing undocumented.

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use super::{audit, entities, keys, money, status, tokens, usage};
use crate::policy::role::{Reach, Role};
use crate::policy::tenancy::Kind;

/// One thing that can be done.
pub struct Route {
    pub method: &'static str,
    /// With `{id}` for a part that differs.
    pub path: String,
    pub access: Access,
    /// Names it, in the OpenAPI document.
    pub operation: String,
    pub summary: String,
    pub parameters: &'static [Parameter],
    pub body: Option<Shape>,
    /// Status and shape of a good answer.
    pub answers: (u16, Content),
    pub run: Run,
    /// What it works on, where it works on an entity.
    pub kind: Option<Kind>,
}

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who can connect.
    Public,
    /// Everybody who can connect where the configuration says so; a viewer of everything elsewhere.
    Open(Door),
    /// Who has at least this role; with rights for one team, only where the reach says so, and only that team's.
    Least(Role, Reach),
}

/// What can be left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Metrics,
    Targets,
    Requests,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub about: &'static str,
    pub form: Form,
}

#[derive(Clone, Copy, Debug)]
pub enum Form {
    Text,
    /// Between these two.
    Number(u64, u64),
    Flag,
}

/// What a body looks like.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy)]
pub enum Content {
    Json(Shape),
    /// JSON that says what it is.
    Any,
    Text,
    /// As the parameter `format` says.
    Statement,
    None,
}

/// How it is done.
#[derive(Clone, Copy)]
pub enum Run {
    /// At once.
    Now(fn(&Desk, &Asked<'_>) -> Result<Answer, Refused>),
    /// Away from the threads that serve connections: it may wait for the disk.
    Store(fn(&Desk, &Asked<'_>) -> Result<Answer, Refused>),
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const LIMIT: Parameter =
    Parameter { name: "limit", about: "Most that are listed. Default 100.", form: Form::Number(1, 500) };
const AFTER: Parameter =
    Parameter { name: "after", about: "Those after this one: `next` of the page before.", form: Form::Text };
const PAGE: &[Parameter] = &[LIMIT, AFTER];
const TEAM: Parameter = Parameter { name: "team", about: "Only those of this team.", form: Form::Text };
const OF_TEAM: &[Parameter] = &[LIMIT, AFTER, TEAM];
const OF_KEYS: &[Parameter] = &[
    LIMIT,
    AFTER,
    TEAM,
    Parameter { name: "project", about: "Only those of this project.", form: Form::Text },
    Parameter { name: "user", about: "Only those of this user.", form: Form::Text },
    Parameter { name: "prefix", about: "Only those with a secret that begins so.", form: Form::Text },
    Parameter { name: "revoked", about: "Revoked ones too.", form: Form::Flag },
];
const OF_LOG: &[Parameter] = &[
    LIMIT,
    Parameter {
        name: "below",
        about: "Those before this number: `next` of the page before.",
        form: Form::Number(1, i64::MAX as u64),
    },
];

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, form: Form::Text }
}

const OF_USAGE: &[Parameter] = &[
    text("from", "From this moment on: RFC 3339, a date, or Unix milliseconds."),
    text("to", "Up to this moment, which is not included."),
    text("time_zone", "Of dates and buckets: Europe/Berlin. Default: UTC."),
    text("bucket", "hour, day, week or month."),
    text(
        "group_by",
        "What to tell apart, with commas: key, user, project, team, model, provider, tag.NAME and others.",
    ),
    Parameter { name: "limit", about: "Most groups of one answer. Default 1000.", form: Form::Number(1, 10_000) },
    text("page", "The `next` of the answer before."),
    text("key", "Only this key's; any grouping can be named so, several times for any of several."),
    text("project", "Only this project's."),
    text("team", "Only this team's."),
    text("model", "Only this model's."),
];

const OF_STATEMENT: &[Parameter] = &[
    text("month", "Such as 2026-11. Default: this one."),
    text("from", "Instead of a month: from this moment on, RFC 3339, a date, or Unix milliseconds."),
    text("to", "Up to this moment, which is not included."),
    text("time_zone", "Whose days they are: Europe/Berlin. Default: UTC."),
    text("format", "json, csv or html. Default: json."),
];

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let mut all = vec![
        plain("/health/live", "live", "Whether the process runs.", Access::Public, Run::Now(status::live)),
        plain("/health/ready", "ready", "Whether it should get traffic.", Access::Public, Run::Now(status::ready)),
        Route {
            answers: (200, Content::Text),
            ..plain(
                "/metrics",
                "metrics",
                "Metrics for Prometheus.",
                Access::Open(Door::Metrics),
                Run::Now(status::metrics),
            )
        },
        plain(
            "/admin/targets",
            "targets",
            "How each target is.",
            Access::Open(Door::Targets),
            Run::Now(status::targets),
        ),
        plain(
            "/admin/requests/{id}",
            "request",
            "Why a call went where it went.",
            Access::Open(Door::Requests),
            Run::Now(status::request),
        ),
        plain(
            "/admin/v1/openapi.json",
            "openapi",
            "This document.",
            Access::Least(Role::Viewer, Reach::Team),
            Run::Now(super::openapi::show),
        ),
        Route {
            answers: (200, Content::Json(of::<status::Myself>)),
            ..plain(
                "/admin/v1/self",
                "self",
                "Whose token this is, and what it may.",
                Access::Least(Role::Viewer, Reach::Team),
                Run::Now(status::myself),
            )
        },
        Route {
            answers: (200, Content::Json(of::<status::Models>)),
            ..plain(
                "/admin/v1/models",
                "models",
                "The configured models, for `models` of keys and levels.",
                Access::Least(Role::Viewer, Reach::Team),
                Run::Now(status::models),
            )
        },
    ];
    all.push(Route {
        parameters: OF_USAGE,
        ..plain(
            "/admin/v1/usage",
            "usage",
            "Usage and cost, from the ledger; with rights for one team, of that team.",
            Access::Least(Role::Viewer, Reach::Team),
            Run::Store(usage::show),
        )
    });
    for kind in [Kind::Organisation, Kind::Team, Kind::Project, Kind::User, Kind::Key] {
        entities(kind, &mut all);
    }
    let tokens = Access::Least(Role::Owner, Reach::Whole);
    all.extend([
        Route {
            answers: (200, Content::Json(of::<tokens::List>)),
            ..plain("/admin/v1/tokens", "list_tokens", "Administrators' tokens.", tokens, Run::Store(tokens::list))
        },
        Route {
            method: "POST",
            body: Some(of::<tokens::New>),
            answers: (201, Content::Json(of::<tokens::Made>)),
            ..plain(
                "/admin/v1/tokens",
                "create_token",
                "Makes a token; it is shown only now.",
                tokens,
                Run::Store(tokens::create),
            )
        },
        Route {
            method: "DELETE",
            answers: (204, Content::None),
            ..plain("/admin/v1/tokens/{id}", "revoke_token", "Ends a token.", tokens, Run::Store(tokens::revoke))
        },
    ]);
    let log = Access::Least(Role::Admin, Reach::Whole);
    all.extend([
        Route {
            parameters: OF_LOG,
            answers: (200, Content::Json(of::<audit::Page>)),
            ..plain("/admin/v1/audit", "audit", "Every change, newest first.", log, Run::Store(audit::list))
        },
        Route {
            answers: (200, Content::Json(of::<audit::Verified>)),
            ..plain(
                "/admin/v1/audit/verify",
                "verify_audit",
                "Recomputes the log of changes, and holds what is stored against it.",
                log,
                Run::Store(audit::verify),
            )
        },
    ]);
    all
});

/// The table.
pub fn routes() -> &'static [Route] {
    &ROUTES
}

/// A `GET` that shows some JSON.
fn plain(path: &str, operation: &str, summary: &str, access: Access, run: Run) -> Route {
    Route {
        method: "GET",
        path: path.to_owned(),
        access,
        operation: operation.to_owned(),
        summary: summary.to_owned(),
        parameters: &[],
        body: None,
        answers: (200, Content::Any),
        run,
        kind: None,
    }
}

/// What can be done with all entities of a kind, and with each.
fn entities(kind: Kind, all: &mut Vec<Route>) {
    let (name, plural) = (kind.name(), format!("{}s", kind.name()));
    let reach = match kind {
        Kind::Organisation => Reach::Whole,
        _ => Reach::Team,
    };
    // A team is changed by who has rights above it.
    let changes = match kind {
        Kind::Organisation | Kind::Team => Reach::Whole,
        _ => Reach::Team,
    };
    let sees = Access::Least(Role::Viewer, reach);
    let may = Access::Least(Role::Admin, changes);
    let (path, each) = (format!("/admin/v1/{plural}"), format!("/admin/v1/{plural}/{{id}}"));
    let (shape, page, document): (Shape, Shape, Shape) = match kind {
        Kind::Organisation => shapes::<crate::config::file::Organisation>(),
        Kind::Team => shapes::<crate::config::file::Team>(),
        Kind::Project => shapes::<crate::config::file::Project>(),
        Kind::User => shapes::<crate::config::file::User>(),
        Kind::Key => shapes::<crate::config::file::Key>(),
    };
    let route = |method, path: &str, verb: &str, summary: String, access, run| Route {
        method,
        kind: Some(kind),
        answers: (200, Content::Json(shape)),
        ..plain(path, verb, &summary, access, run)
    };
    all.extend([
        Route {
            parameters: match kind {
                Kind::Key => OF_KEYS,
                Kind::Project | Kind::User => OF_TEAM,
                _ => PAGE,
            },
            answers: (200, Content::Json(page)),
            ..route(
                "GET",
                &path,
                &format!("list_{plural}"),
                format!("The {plural}, by id, of the file and stored."),
                sees,
                Run::Store(entities::list),
            )
        },
        route("GET", &each, &format!("show_{name}"), format!("One {name}."), sees, Run::Store(entities::show)),
        Route {
            body: Some(keys::any_object),
            ..route(
                "PATCH",
                &each,
                &format!("update_{name}"),
                format!("Changes members of a {name} (JSON Merge Patch, RFC 7396)."),
                may,
                Run::Store(entities::patch),
            )
        },
        Route {
            answers: (204, Content::None),
            ..route(
                "DELETE",
                &each,
                &format!("{}_{name}", if kind == Kind::Key { "revoke" } else { "delete" }),
                format!("{} a {name}.", if kind == Kind::Key { "Revokes, for good," } else { "Deletes" }),
                may,
                Run::Store(entities::delete),
            )
        },
    ]);
    all.extend([
        Route {
            parameters: OF_LOG,
            answers: (200, Content::Json(of::<money::Balance>)),
            ..route(
                "GET",
                &format!("{each}/balance"),
                &format!("show_{name}_balance"),
                format!("What was paid in for a {name}, and what is left."),
                sees,
                Run::Store(money::show),
            )
        },
        Route {
            body: Some(of::<money::New>),
            answers: (201, Content::Json(of::<money::Payment>)),
            ..route(
                "POST",
                &format!("{each}/balance"),
                &format!("pay_{name}"),
                format!("Pays in for a {name}, or puts that right; the same `id` pays once."),
                Access::Least(Role::Billing, Reach::Whole),
                Run::Store(money::pay),
            )
        },
        Route {
            parameters: OF_STATEMENT,
            answers: (200, Content::Statement),
            ..route(
                "GET",
                &format!("{each}/statement"),
                &format!("show_{name}_statement"),
                format!("What a {name} was charged, by day and model, with what was paid in."),
                sees,
                Run::Store(money::statement),
            )
        },
    ]);
    if kind == Kind::Key {
        all.extend([
            Route {
                body: Some(keys::new_key),
                answers: (201, Content::Json(of::<keys::Made>)),
                ..route(
                    "POST",
                    &path,
                    "create_key",
                    "Makes a key; its secret is shown only now.".to_owned(),
                    may,
                    Run::Store(keys::create),
                )
            },
            Route {
                body: Some(of::<keys::Rotation>),
                answers: (201, Content::Json(of::<keys::Made>)),
                ..route(
                    "POST",
                    &format!("{each}/rotate"),
                    "rotate_key",
                    "Gives a key another secret, shown only now; those it has stay good for a while.".to_owned(),
                    may,
                    Run::Store(keys::rotate),
                )
            },
        ]);
    } else {
        all.push(Route {
            body: Some(document),
            ..route(
                "PUT",
                &each,
                &format!("put_{name}"),
                format!("Makes a {name}, or writes it anew (with `If-Match`)."),
                may,
                Run::Store(entities::put),
            )
        });
    }
}

fn shapes<T: JsonSchema>() -> (Shape, Shape, Shape) {
    (of::<entities::Entity<T>>, of::<entities::Page<T>>, of::<T>)
}

/// The route of a request, with what stands for `{id}`.
///
/// # Errors
/// There is no such path, or not with this method.
pub fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Route, Option<&'p str>), Refused> {
    // Who asks only for the head is answered like who asks for all.
    let method = if method == "HEAD" { "GET" } else { method };
    let mut allow = Vec::new();
    for route in routes() {
        let Some(id) = matches(&route.path, path) else { continue };
        if route.method == method {
            return Ok((route, id));
        }
        allow.push(route.method);
    }
    if allow.is_empty() {
        return Err(Refused::new(
            404,
            "not_found",
            "there is nothing here: GET /admin/v1/openapi.json tells what there is",
        ));
    }
    let allow = allow.join(", ");
    Err(Refused {
        allow: Some(allow.clone()),
        ..Refused::new(405, "method_not_allowed", format!("this path takes {allow}"))
    })
}

/// What stands for `{id}`, where the path is of that form.
fn matches<'p>(form: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, after)) = form.split_once("{id}") else { return (form == path).then_some(None) };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_is_found_and_no_two_are_the_same() {
        let mut seen = HashSet::new();
        let mut names = HashSet::new();
        for route in routes() {
            assert!(seen.insert((route.method, &route.path)), "{} {} is there twice", route.method, route.path);
            assert!(names.insert(&route.operation), "{} is there twice", route.operation);
            let (found, _) = find(route.method, &route.path.replace("{id}", "x")).unwrap();
            assert_eq!(found.operation, route.operation);
        }
        assert_eq!(find("GET", "/admin/v1/keys/a/b").err().unwrap().status, 404);
        assert_eq!(find("GET", "/admin/v1/keys/").err().unwrap().status, 404);
        assert_eq!(find("GET", "//metrics").err().unwrap().status, 404);
        let wrong = find("POST", "/metrics").err().unwrap();
        assert_eq!((wrong.status, wrong.allow.as_deref()), (405, Some("GET")));
        assert_eq!(find("HEAD", "/metrics").unwrap().0.operation, "metrics");
    }

    #[test]
    fn only_health_is_public_and_only_team_things_reach_teams() {
        for route in routes() {
            match route.access {
                Access::Public => assert!(route.path.starts_with("/health/"), "{}", route.path),
                Access::Open(_) => assert!(!route.path.starts_with("/admin/v1/"), "{}", route.path),
                Access::Least(role, _) => assert!(route.method == "GET" || role >= Role::Billing, "{}", route.path),
            }
        }
    }
}
