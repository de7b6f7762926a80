//! Whom a key belongs to: what any of them forbids is refused, and what they are tagged with stands in the ledger.

use super::answers;
use super::client;
use super::gateway::{Gateway, SECRET, ask, config};
use super::upstream::Upstream;

const TREE: &str = "organisations: { acme: { models: [\"al*\"], tags: { unit: acme } } }
teams: { search: { organisation: acme, functions: [generate, usage] } }
projects: { web: { team: search, addresses: [127.0.0.0/8], tags: { colour: blue } } }
";

/// A gateway whose key belongs to the project.
fn fixture(tree: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1()), ("beta", &upstream.v1())], tree);
    let text = text.replace("id: main,", "id: main, project: web, tags: { colour: red },");
    (upstream, Gateway::start(&text))
}

#[test]
fn what_any_level_forbids_is_refused() {
    let (upstream, gateway) = fixture(TREE);
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let error = gateway.chat(&ask("beta", "x")).refusal(403);
    assert_eq!(error["code"], "model_not_allowed");
    let bearer = format!("Bearer {SECRET}");
    let error = client::get(gateway.data, "/v1/models", &[("authorization", &bearer)]).refusal(403);
    assert_eq!(error["code"], "endpoint_not_allowed");
    assert!(error["message"].as_str().unwrap().contains("its team forbids it"), "{error}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn calls_from_elsewhere_are_refused() {
    let (upstream, gateway) = fixture(&TREE.replace("127.0.0.0/8", "192.0.2.0/24"));
    let error = gateway.chat(&ask("alias", "x")).refusal(403);
    assert_eq!(error["code"], "address_not_allowed");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_level_that_is_over_ends_its_calls() {
    let (upstream, gateway) = fixture(&TREE.replace("organisation: acme", "organisation: acme, disabled: true"));
    let error = gateway.chat(&ask("alias", "x")).refusal(403);
    assert_eq!(error["code"], "tenant_disabled");
    assert!(error["message"].as_str().unwrap().contains("team `search`"), "{error}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn tags_of_all_levels_stand_in_the_ledger() {
    let (_upstream, gateway) = fixture(TREE);
    let mut body = ask("alias", "x");
    body["tags"] = serde_json::json!({ "unit": "forged", "own": "1" });
    assert_eq!(gateway.chat(&body).status, 200);
    gateway.settled(1);
    for (tag, value) in [("unit", "acme"), ("colour", "red"), ("own", "1")] {
        let rows = gateway.ledger(&format!("tag.{tag}"));
        assert!(rows.iter().any(|row| row.contains(value)), "{tag} {rows:?}");
        assert!(!rows.iter().any(|row| row.contains("forged")), "{rows:?}");
    }
}
