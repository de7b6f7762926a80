//! Organisations, teams, projects, users and keys: what is made of them, and every mistake in its place.

use std::net::IpAddr;

use super::*;
use crate::config::snapshot::Key;
use crate::policy::tenancy::{Function, Kind};

const TREE: &str = "
providers: { p: { preset: ollama } }
tiers: { gold: { weight: 9, regions: [eu, us] }, lead: { weight: 3 } }
organisations: { acme: { models: [\"gpt-*\", \"claude-*\"], tags: { unit: acme, colour: red }, tier: lead } }
teams: { search: { organisation: acme, functions: [generate, models], regions: [eu] }, lone: {} }
projects:
  web: { team: search, models: [\"*-5\"], addresses: [10.0.0.0/8, \"2001:db8::/32\"], tags: { colour: blue }, tier: gold }
  odd: { team: lone, expires: 2026-11-21 }
users:
  ann: { team: lone, email: ann@example.com, tags: { person: ann, colour: green }, metadata: { room: \"12\" } }
keys:
";

fn key(fields: &str) -> std::sync::Arc<Key> {
    let secret = super::super::hex(&crate::policy::auth::digest("pk-x").unwrap());
    let text = format!("{TREE}  - {{ id: k, secret_sha256: \"{secret}\", {fields} }}\n");
    with(&[("f", &text)], &[]).unwrap().key("pk-x").unwrap().clone()
}

#[test]
fn a_key_is_held_to_all_it_belongs_to() {
    let made = key("project: web, user: ann, tags: { person: bot }");
    let levels: Vec<_> = made.levels.iter().map(|level| (level.kind, level.id.as_str())).collect();
    let whole = [
        (Kind::Key, "k"),
        (Kind::User, "ann"),
        (Kind::Project, "web"),
        (Kind::Team, "search"),
        (Kind::Organisation, "acme"),
    ];
    assert_eq!(levels, whole);
    assert_eq!((made.team.as_deref(), made.organisation.as_deref()), (Some("search"), Some("acme")));
    assert!(made.may_use("gpt-5") && !made.may_use("gpt-4") && !made.may_use("llama-5"));
    let tag = |name: &str| made.tags.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    assert_eq!([tag("unit"), tag("colour"), tag("person")], [Some("acme"), Some("blue"), Some("bot")]);
    assert_eq!((made.tier.as_deref(), made.weight), (Some("gold"), 9));
    // The tier lets it go to both, its team to one.
    assert!(made.serves_in(Some("eu")) && !made.serves_in(Some("us")) && !made.serves_in(None));
    let home: IpAddr = "10.1.2.3".parse().unwrap();
    let permit = |function, from| made.levels.iter().all(|level| level.functions.has(function) && level.admits(from));
    assert!(permit(Function::Generate, Some(home)) && permit(Function::Models, Some(home)));
    assert!(!permit(Function::Usage, Some(home)) && !permit(Function::Generate, None));
    assert!(!permit(Function::Generate, "192.0.2.1".parse().ok()));
}

#[test]
fn a_key_without_a_project_counts_for_its_users_team() {
    let made = key("user: ann");
    let levels: Vec<_> = made.levels.iter().map(|level| level.kind).collect();
    assert_eq!(levels, [Kind::Key, Kind::User, Kind::Team]);
    assert_eq!((made.team.as_deref(), made.organisation.as_deref(), made.guarded), (Some("lone"), None, false));
    let alone = key("disabled: false");
    assert_eq!((alone.levels.len(), alone.guarded, alone.bound, alone.weight), (1, false, false, 1));
    assert!(alone.may_use("anything") && alone.serves_in(None));
}

#[test]
fn who_a_key_belongs_to_can_be_over() {
    let made = key("project: odd");
    assert!(made.standing(1_795_219_199).is_ok());
    let (level, standing) = made.standing(1_795_219_200).unwrap_err();
    assert_eq!((level.kind, level.id.as_str(), standing), (Kind::Project, "odd", Standing::Expired));
}

#[test]
fn every_mistake_of_tenants_has_its_place() {
    let text = format!(
        "{}\n  - {{ id: k, secret_sha256: \"{}\", project: wbe, user: bob, functions: [], addresses: [\"10.0.0.0/33\"] }}\n  - {{ id: l }}\n  - {{ id: m, secret_sha256: \"{}\", project: web, regions: [us] }}\n",
        TREE.replace("team: search, models", "team: serach, metadata: { \"a b\": x }, models")
            .replace("lone: {}", "lone: { organisation: amce, models: [] }")
            .replace("ann@example.com", "ann")
            .replace("tier: lead }", "tier: silver }")
            .replace("odd: { team: lone", "odd: { team: search, modles: [x]"),
        "0".repeat(64),
        "1".repeat(64),
    );
    let found: Vec<String> = with(&[("f", &text)], &[]).unwrap_err().iter().map(ToString::to_string).collect();
    let found = found.join("\n");
    for part in [
        "teams.lone.organisation: there is no `amce` under `organisations`: add it there. Did you mean `acme`?",
        "teams.lone.models: with no name in the list nothing may be used",
        "projects.web.team: there is no `serach` under `teams`: add it there. Did you mean `search`?",
        "organisations.acme.tier: no tier is called `silver`",
        "projects.web.metadata[\"a b\"]: write a short name",
        "projects.odd.modles",
        "users.ann.email: write an address",
        "keys[0].project: there is no `wbe` under `projects`",
        "keys[0].user: there is no `bob` under `users`",
        "keys[0].functions: with nothing in the list",
        "keys[0].addresses[0]: write an address or a network",
        "keys[1].secret_sha256: `secret_sha256` is missing",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    let text = format!("{TREE}  - {{ id: m, secret_sha256: \"{}\", project: web, regions: [us] }}\n", "1".repeat(64));
    let found = with(&[("f", &text)], &[]).unwrap_err();
    assert!(found[0].to_string().contains("keys[0].regions: its tier, or whom it belongs to, has none"), "{found:?}");
}

#[test]
fn a_project_is_a_mere_name_where_none_are_written() {
    let text = format!("keys: [{{ id: k, project: any, secret_sha256: \"{}\" }}]\n", "0".repeat(64));
    let snapshot = with(&[("f", &text)], &[]).unwrap();
    let key = snapshot.keys.values().next().unwrap();
    assert_eq!((key.project.as_deref(), key.levels.len()), (Some("any"), 1));
}

#[test]
fn what_is_written_of_a_level_is_read_again() {
    let text = r#"{"team":"t","models":["a"],"functions":["count_tokens"],"regions":["eu"],"addresses":["10.0.0.0/8"],"tier":"gold","tags":{"a":"b"},"metadata":{"c":"d"},"expires":"2026-11-21T00:00:01Z","disabled":true}"#;
    let project: file::Project = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&project).unwrap(), text);
    assert_eq!(serde_json::to_string(&file::Key { id: "k".into(), ..file::Key::default() }).unwrap(), r#"{"id":"k"}"#);
}
