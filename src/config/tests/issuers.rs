//! Issuers of callers' tokens: what is made of their claims, and every mistake in its place.

use super::*;
use crate::config::issuers::{KeysAt, Unmapped};
use crate::config::snapshot::Key;
use crate::policy::role::Role;
use crate::policy::token::Claims;

const TREE: &str = "
providers: { p: { preset: ollama } }
teams: { search: {} }
projects: { web: { team: search, limits: { rpm: 600 } }, shop: {} }
users: { ann: { tags: { person: ann } } }
";

fn snapshot(issuer: &str) -> Result<Snapshot, Vec<Problem>> {
    with(&[("f", &format!("{TREE}issuers: {{ corp: {{ {issuer} }} }}\n"))], &[("SET", "x")])
}

fn caller(issuer: &str, claims: &str) -> Result<Key, Unmapped> {
    let snapshot = snapshot(&format!("issuer: \"https://login.example.com/\", audience: a, {issuer}")).unwrap();
    let claims = Claims::introspected(format!("{{\"active\": true, {claims}}}").as_bytes(), 1).unwrap();
    snapshot.issuers.by("https://login.example.com/").unwrap().caller(&claims, &snapshot.tenants)
}

#[test]
fn claims_say_whom_a_bearer_belongs_to() {
    let levels =
        |key: &Key| key.levels.iter().map(|level| format!("{}:{}", level.kind.name(), level.id)).collect::<Vec<_>>();
    let made = caller(
        "claims: { project: p.of }, callers: { limits: { rpm: 5 } }",
        "\"sub\": \"ann\", \"p\": {\"of\": [\"x\", \"web\"]}",
    );
    let made = made.unwrap();
    assert_eq!(made.id, "jwt:corp:ann");
    assert_eq!(levels(&made), ["key:jwt:corp:ann", "user:ann", "project:web", "team:search"]);
    assert!(made.limited && made.levels[0].limits.len() == 1);
    // Without a claim, those of the callers; with names, only what is named.
    let made = caller("callers: { project: shop }", "\"sub\": \"\u{e9}\"").unwrap();
    assert_eq!((levels(&made)[1].as_str(), made.user), ("project:shop", None));
    assert!(made.id.starts_with("jwt:corp:#") && made.id.len() == 42, "{}", made.id);
    let mapped = "claims: { project: g, user: mail }, projects: { red: web }";
    let made = caller(mapped, "\"sub\": \"1\", \"g\": [\"blue\", \"red\"], \"mail\": \"bob\"").unwrap();
    assert_eq!((made.project.as_deref(), made.user.as_deref()), (Some("web"), Some("bob")));
    let lost = |claims: &str| caller(mapped, claims).unwrap_err().project;
    assert_eq!([lost("\"sub\": \"1\", \"g\": \"web\""), lost("\"sub\": \"1\"")], ["web", ""]);
}

#[test]
fn an_issuer_that_cannot_be_is_told() {
    let good = "issuer: \"https://login.example.com\", audience: a";
    let made = snapshot(good).unwrap();
    let KeysAt::Discovery(node) = &made.issuers.all[0].keys_at else { panic!("{made:?}") };
    assert_eq!((node.host.as_str(), node.path.as_str()), ("login.example.com", "/.well-known/openid-configuration"));
    for (fields, place, told) in [
        ("issuer: \"https://x\"", "audience", "missing"),
        ("issuer: \"https://x\", audience: []", "audience", "meant for"),
        (
            "issuer: \"https://x\", administrators: { audience: [], claim: g, roles: [{ value: a, role: owner }] }",
            "administrators.audience",
            "meant for",
        ),
        (
            "issuer: \"https://x\", administrators: { audience: a, claim: g, roles: [{ value: a, role: owner, team: search }] }",
            "administrators.roles[0].role",
            "viewers and admins",
        ),
        (
            "issuer: \"https://x\", administrators: { audience: a, claim: g, roles: [] }",
            "administrators.roles",
            "nobody",
        ),
        (
            "issuer: \"https://x\", administrators: { audience: a, claim: g, roles: [{ value: a, role: admin, team: x, team_claim: y }] }",
            "administrators.roles[0].team_claim",
            "either",
        ),
        ("issuer: \"http://x\", audience: a", "issuer", "https"),
        ("issuer: \"https://x\", audience: a, jwks_uri: keys", "jwks_uri", "URL"),
        ("issuer: \"https://x\", audience: a, algorithms: [HS256]", "algorithms[0]", "RS256"),
        ("issuer: \"https://x\", audience: a, algorithms: []", "algorithms", "at least one"),
        ("issuer: \"https://x\", audience: a, clock_skew: 1h", "clock_skew", "ten minutes"),
        ("issuer: \"https://x\", audience: a, projects: { a: web }", "projects", "claims"),
        ("issuer: \"https://x\", audience: a, claims: { project: g }, projects: { a: wbe }", "projects.a", "`web`"),
        ("issuer: \"https://x\", audience: a, callers: { project: none }", "callers.project", "no `none`"),
        ("issuer: \"https://x\", audience: a, callers: { limits: { rpm: 0 } }", "callers.limits.rpm", "1 or more"),
        (
            "issuer: \"https://x\", audience: a, introspection: { url: \"https://x/i\", client_id: c, client_secret: \"${UNSET}\" }",
            "introspection.client_secret",
            "UNSET",
        ),
    ] {
        let problems: Vec<_> = snapshot(fields).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{fields}: {problems:?}");
        assert!(problems[0].contains(&format!("issuers.corp.{place}:")) && problems[0].contains(told), "{problems:?}");
    }
    assert!(snapshot("issuer: \"http://localhost:1\", audience: a").is_ok(), "what stays on this machine needs no TLS");
}

#[test]
fn the_first_role_that_a_token_has_counts() {
    let snapshot = snapshot(
        "issuer: \"https://x\", administrators: { audience: a, claim: r.of, roles: [{ value: lead, role: admin, team_claim: d }, \
         { value: boss, role: owner }, { value: eyes, role: viewer, team: gone }, { value: eyes, role: viewer, team: search }] }",
    )
    .unwrap();
    let who = |claims: &str| {
        let claims = Claims::introspected(format!("{{\"active\": true, {claims}}}").as_bytes(), 77).unwrap();
        let found = snapshot.issuers.all[0].administrator(&claims, &snapshot.tenants)?;
        assert_eq!(found.expires, Some(77));
        Some((found.id, found.rights.role, found.rights.team))
    };
    let search = Some("search".to_owned());
    let of = |id: &str, role, team: &Option<String>| Some((format!("jwt:corp:{id}"), role, team.clone()));
    assert_eq!(who("\"sub\": \"a/b\", \"r\": {\"of\": [\"boss\", \"lead\"]}"), of("a/b", Role::Owner, &None));
    let lead = "\"sub\": \"a\", \"d\": [\"x\", \"search\"], \"r\": {\"of\": [\"boss\", \"lead\"]}";
    assert_eq!(who(lead), of("a", Role::Admin, &search), "by the order of the file, not of the token");
    assert_eq!(
        who("\"sub\": \"a\", \"r\": {\"of\": \"eyes\"}"),
        of("a", Role::Viewer, &search),
        "a team that is not there"
    );
    assert_eq!(who("\"sub\": \"a\", \"d\": \"search\""), None);
    assert_eq!(who("\"sub\": \"a\", \"r\": {\"of\": \"lead\"}, \"d\": \"searc\""), None);
    let long = who("\"sub\": \"a b\", \"r\": {\"of\": \"boss\"}").unwrap().0;
    assert!(long.starts_with("jwt:corp:#") && long.len() == 42, "{long}");
}
