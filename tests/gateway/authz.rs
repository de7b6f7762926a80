//! Who may do what on the admin port: every route of the router's own table, asked as every role, of what is its team's,
//! another team's and nobody's. What should come of each is computed here anew, from what the table declares.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portolan::admin::table::{Access, Route, routes};
use portolan::policy::role::{Reach, Role};
use portolan::policy::tenancy::Kind;
use serde_json::{Value, json};

use super::answers;
use super::bearers::Issuer;
use super::client::Response;
use super::gateway::{Gateway, ask, config};
use super::upstream::Upstream;

const NONE: Value = Value::Null;

/// Somebody who asks.
struct Who {
    name: &'static str,
    token: String,
    /// What they may; else what they are told.
    rights: Result<(Role, Option<&'static str>), Cell>,
}

/// Whose the thing is that is asked for.
const TENANTS: [&str; 3] = ["own", "other", "none"];

/// What should come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Done,
    Unauthorized,
    Forbidden,
    /// As if it were not there.
    Hidden,
}

/// The rule, from scratch: a rank, a reach and a team.
fn expected(access: Access, who: &Who, team: &str, of_team: bool, makes: bool) -> Cell {
    let (least, reach) = match access {
        Access::Public => return Cell::Done,
        // In this configuration nothing is left open.
        Access::Open(_) => (Role::Viewer, Reach::Whole),
        Access::Least(least, reach) => (least, reach),
    };
    let rank =
        |role: Role| ["viewer", "billing", "admin", "owner"].iter().position(|name| *name == role.name()).unwrap();
    match who.rights {
        Err(cell) => cell,
        Ok((role, _)) if rank(role) < rank(least) => Cell::Forbidden,
        Ok((_, Some(_))) if reach == Reach::Whole => Cell::Forbidden,
        Ok((_, Some(own))) if of_team && team != own => {
            // What would belong to nobody is refused outright; there is nothing to hide.
            if makes && team == "none" { Cell::Forbidden } else { Cell::Hidden }
        }
        Ok(_) => Cell::Done,
    }
}

struct Setting {
    gateway: Gateway,
    owner: String,
    /// Of a call that is kept.
    request: String,
    next: AtomicUsize,
}

impl Setting {
    #[track_caller]
    fn owner(&self, method: &str, path: &str, body: &Value) -> Response {
        let got = self.gateway.admin(&self.owner, method, path, body);
        assert!((200..300).contains(&got.status), "{method} {path} {got}");
        got
    }

    /// A new thing of that kind in a team's hands: its id.
    fn make(&self, kind: Kind, team: &str) -> String {
        let id = format!("{team}-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let of_team = if team == "none" { json!({}) } else { json!({ "team": team }) };
        match kind {
            Kind::Organisation | Kind::Team => drop(self.owner("PUT", &format!("{}s/{id}", kind.name()), &json!({}))),
            Kind::Project | Kind::User => drop(self.owner("PUT", &format!("{}s/{id}", kind.name()), &of_team)),
            Kind::Key => drop(self.owner("POST", "keys", &key(Some(&id), team))),
        }
        id
    }

    fn token(&self, id: &str, role: &str, team: Option<&str>) -> String {
        let made = self.owner("POST", "tokens", &json!({"id": id, "role": role, "team": team}));
        made.json()["token"].as_str().unwrap().to_owned()
    }

    /// Asks, so that it would be done if it may be done.
    fn ask(&self, route: &Route, who: &Who, team: &str) -> Response {
        let id = match (route.kind, route.path.as_str()) {
            // A team is its own: this one stays.
            (Some(Kind::Team), _) if route.method == "GET" => team.to_owned(),
            (Some(kind), path) if path.contains("{id}") => self.make(kind, team),
            (None, "/admin/v1/tokens/{id}") => {
                let id = format!("t-{}", self.next.fetch_add(1, Ordering::Relaxed));
                self.token(&id, "viewer", None);
                id
            }
            (None, path) if path.contains("{id}") => self.request.clone(),
            _ => String::new(),
        };
        let body = match (route.method, route.operation.as_str()) {
            ("POST", "create_key") => key(None, team),
            ("POST", "create_token") => {
                json!({"id": format!("n-{}", self.next.fetch_add(1, Ordering::Relaxed)), "role": "viewer"})
            }
            ("POST", operation) if operation.starts_with("pay_") => json!({"id": "p", "amount": "1"}),
            ("PUT" | "PATCH", _) if matches!(route.kind, Some(Kind::Project | Kind::User)) && team != "none" => {
                json!({ "team": team })
            }
            ("PUT" | "PATCH" | "POST", _) => json!({}),
            _ => NONE,
        };
        // Written anew where it is as it was seen.
        let path = route.path.replace("{id}", &id);
        let tag = match route.method {
            "PUT" => self.owner("GET", &path, &NONE).header("etag").map(str::to_owned),
            _ => None,
        };
        let more: Vec<(&str, &str)> = tag.iter().map(|tag| ("if-match", tag.as_str())).collect();
        self.gateway.admin_with(&who.token, route.method, &path, &more, &body)
    }
}

fn key(id: Option<&str>, team: &str) -> Value {
    let project = (team != "none").then(|| format!("{team}-project"));
    json!({"id": id, "project": project})
}

/// An issuer whose tokens give each of the roles.
fn issuers(issuer: &Issuer) -> String {
    let roles = [
        ("jwt-owner", "role: owner"),
        ("jwt-admin", "role: admin"),
        ("jwt-billing", "role: billing"),
        ("jwt-viewer", "role: viewer"),
        ("jwt-team-admin", "role: admin, team: own"),
        ("jwt-team-viewer", "role: viewer, team_claim: department"),
        ("jwt-lost-team", "role: admin, team: nowhere"),
    ];
    let roles: String = roles.iter().map(|(value, given)| format!("{{ value: {value}, {given} }}, ")).collect();
    format!(
        "issuers:\n  corp:\n    issuer: {}\n    audience: portolan\n    administrators: {{ audience: portolan-admin, \
         claim: roles, roles: [{roles}] }}\n",
        issuer.name()
    )
}

/// A list shows a team nothing but its own.
fn shows_only(got: &Response, team: &str) -> bool {
    let told = got.json();
    let rows = told["data"].as_array().cloned().unwrap_or_default();
    rows.iter().all(|row| row["team"] == team || row["id"] == team)
}

#[test]
fn every_route_is_for_whom_the_table_says() {
    let upstream = Upstream::always(answers::whole("x"));
    let issuer = Issuer::start();
    let text = config(&[("alias", &upstream.v1())], &issuers(&issuer));
    let gateway = Gateway::start_with(&text, &[], ", explain: {}, open: []");
    let owner = gateway.token();
    let request = gateway.chat(&ask("alias", "x")).header("x-portolan-request-id").unwrap().to_owned();
    let kept = format!("/admin/requests/{request}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while gateway.admin(&owner, "GET", &kept, &NONE).status != 200 {
        assert!(Instant::now() < deadline, "the call is not kept");
        thread::sleep(Duration::from_millis(20));
    }
    let setting = Setting { gateway, owner, request, next: AtomicUsize::new(0) };
    for team in TENANTS {
        setting.owner("PUT", &format!("teams/{team}"), &json!({}));
    }
    for team in ["own", "other"] {
        setting.owner("PUT", &format!("projects/{team}-project"), &json!({ "team": team }));
    }
    for kind in [Kind::Project, Kind::User, Kind::Key] {
        TENANTS.iter().for_each(|team| drop(setting.make(kind, team)));
    }
    let whole = |name: &'static str, role: Role| Who {
        name,
        token: setting.token(name, role.name(), None),
        rights: Ok((role, None)),
    };
    let of_team = |name: &'static str, role: Role| Who {
        name,
        token: setting.token(name, role.name(), Some("own")),
        rights: Ok((role, Some("own"))),
    };
    // The same by tokens of an issuer, of which the last ones are good elsewhere.
    let borne = |name: &'static str, rights| {
        let token = issuer.token("one", |claims| {
            claims["sub"] = json!(name);
            claims["aud"] = json!("portolan-admin");
            claims["roles"] = json!([name]);
            claims["department"] = json!("own");
        });
        Who { name, token, rights }
    };
    let revoked = setting.token("revoked", "owner", None);
    setting.owner("DELETE", "tokens/revoked", &NONE);
    let callers_key = setting.owner("POST", "keys", &json!({})).json()["secret"].as_str().unwrap().to_owned();
    let nobody = |name: &'static str, token: String| Who { name, token, rights: Err(Cell::Unauthorized) };
    let all = [
        whole("owner", Role::Owner),
        whole("admin", Role::Admin),
        whole("billing", Role::Billing),
        whole("viewer", Role::Viewer),
        of_team("team-admin", Role::Admin),
        of_team("team-viewer", Role::Viewer),
        nobody("no token", String::new()),
        nobody("a bad token", "pa-guessed".to_owned()),
        nobody("a revoked token", revoked),
        nobody("a caller's key", callers_key),
        borne("jwt-owner", Ok((Role::Owner, None))),
        borne("jwt-admin", Ok((Role::Admin, None))),
        borne("jwt-billing", Ok((Role::Billing, None))),
        borne("jwt-viewer", Ok((Role::Viewer, None))),
        borne("jwt-team-admin", Ok((Role::Admin, Some("own")))),
        borne("jwt-team-viewer", Ok((Role::Viewer, Some("own")))),
        borne("jwt-lost-team", Err(Cell::Forbidden)),
        borne("jwt-stranger", Err(Cell::Forbidden)),
        nobody("a caller's jwt", issuer.token("one", |claims| claims["roles"] = json!(["jwt-owner"]))),
        nobody(
            "an expired jwt",
            issuer.token("one", |claims| {
                claims["aud"] = json!("portolan-admin");
                claims["roles"] = json!(["jwt-owner"]);
                claims["exp"] = json!(1_700_000_000);
            }),
        ),
    ];
    let cells: Vec<(&Route, &Who, &str)> = routes()
        .iter()
        .flat_map(|route| all.iter().flat_map(move |who| TENANTS.iter().map(move |team| (route, who, *team))))
        .collect();
    let wrong = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while let Some((route, who, team)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let got = setting.ask(route, who, team);
                    let of_team = route.kind.is_some() && (route.path.contains("{id}") || route.method == "POST");
                    let makes = route.method == "POST" && !route.path.contains("{id}");
                    let wanted = expected(route.access, who, team, of_team, makes);
                    let is = match got.status {
                        200..300 => Some(Cell::Done),
                        401 => Some(Cell::Unauthorized),
                        403 => Some(Cell::Forbidden),
                        404 => Some(Cell::Hidden),
                        _ => None,
                    };
                    let listed = route.operation.starts_with("list_") && got.status == 200;
                    let leaks =
                        listed && who.rights.is_ok_and(|(_, own)| own.is_some_and(|own| !shows_only(&got, own)));
                    if is != Some(wanted) || leaks {
                        let cell = format!(
                            "{} {} as {} of {team}: not {wanted:?} but {got}",
                            route.method, route.path, who.name
                        );
                        wrong.lock().unwrap().push(cell);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!(
        "authz: {} routes x {} roles x {} tenants, {} wrong cells",
        routes().len(),
        all.len(),
        TENANTS.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // All those changes in one order, none half made.
    let verdict = setting.owner("GET", "audit/verify", &NONE).json();
    assert_eq!(verdict["flaws"], json!([]), "{verdict}");
}
