//! Budgets beside their faults: cheaper models near the end, prices that nobody knows, several callers of one answer.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, SECRET, ask, config};
use super::upstream::Upstream;

const CENT: &str = "price: { input: 0, output: 0, request: 0.01 }";

/// Both models cost a cent a call; the key `main` has these fields.
fn fixture(upstream: &Upstream, fields: &str, more: &str) -> String {
    let text = config(&[("alias", &upstream.v1()), ("cheap", &upstream.v1())], more);
    let text = ["alias", "cheap"].into_iter().fold(text, |text, name| {
        let row = format!("model: {name}-real");
        text.replacen(&row, &format!("{row}, {CENT}"), 1)
    });
    text.replacen("models: [\"*\"] }", &format!("models: [\"*\"], {fields} }}"), 1)
}

#[test]
fn a_cheaper_model_serves_above_its_part() {
    let upstream = Upstream::always(answers::whole("fine"));
    let budget = "budget: { usd: 0.05, degrade: { above: 40, to: { \"al*\": cheap } } }";
    let gateway = Gateway::start(&fixture(&upstream, budget, ""));
    let served: Vec<String> = (0..5)
        .map(|_| {
            let got = gateway.chat(&ask("alias", "x"));
            let header = |name: &str| got.header(name).unwrap_or_default().to_owned();
            format!("{} {}", header("x-portolan-model"), header("x-portolan-route").contains("budget:key"))
        })
        .collect();
    assert_eq!(served, ["alias false", "alias false", "cheap true", "cheap true", "cheap true"]);
    gateway.chat(&ask("alias", "x")).refusal(429);
}

#[test]
fn what_a_stored_key_has_spent_stays_spent_over_a_restart() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], "");
    let mut gateway = Gateway::start(&text.replacen("model: alias-real", &format!("model: alias-real, {CENT}"), 1));
    let token = gateway.token();
    let body = json!({"id": "made", "budget": {"usd": 0.03, "per": "total"}});
    let made = gateway.admin(&token, "POST", "keys", &body);
    assert_eq!(made.status, 201, "{made}");
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let call = |gateway: &Gateway| gateway.status_of(&secret, "alias");
    assert_eq!([call(&gateway), call(&gateway)], [200, 200]);
    gateway.stop(Duration::from_secs(10));
    gateway.start_again();
    assert_eq!([call(&gateway), call(&gateway)], [200, 429], "two cents of three were spent before");
    gateway.kill9();
    gateway.start_again();
    assert_eq!(call(&gateway), 429, "and all of them, though nobody stopped it in order");
    // Another secret of the same key spends the same budget; more budget is more.
    let rotated = gateway.admin(&token, "POST", "keys/made/rotate", &json!({}));
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(gateway.status_of(&second, "alias"), 429);
    let body = json!({"budget": {"usd": 0.04, "per": "total"}});
    assert_eq!(gateway.admin(&token, "PATCH", "keys/made", &body).status, 200);
    assert_eq!([gateway.status_of(&second, "alias"), call(&gateway)], [200, 429]);
}

#[test]
fn a_cheaper_model_that_the_key_may_not_use_serves_nobody() {
    let upstream = Upstream::always(answers::whole("fine"));
    let budget = "budget: { usd: 0.05, degrade: { above: 0, to: { \"*\": cheap } } }";
    let text = fixture(&upstream, budget, "").replace("models: [\"*\"]", "models: [alias]");
    let gateway = Gateway::start(&text);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.header("x-portolan-model"), Some("alias"), "{got}");
}

#[test]
fn what_nobody_knows_the_price_of_is_not_paid_from_a_hard_budget() {
    let upstream = Upstream::always(answers::whole("fine"));
    let start = |budget: &str, more: &str| {
        let text = config(&[("alias", &upstream.v1())], more);
        Gateway::start(&text.replacen("models: [\"*\"] }", &format!("models: [\"*\"]{budget} }}"), 1))
    };
    let hard = ", budget: { usd: 1 }";
    let error = start(hard, "").chat(&ask("alias", "x")).refusal(403);
    assert_eq!(error["code"], "model_not_priced", "{error}");
    assert_eq!(start("", "unpriced: refuse\n").chat(&ask("alias", "x")).status, 403);
    for (budget, more) in [("", ""), (", budget: { usd: 1, hard: false }", ""), (hard, "unpriced: warn\n")] {
        let gateway = start(budget, more);
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200, "{budget} {more}");
        assert_eq!(gateway.settled(1)["cost_usd"], 0.0);
    }
    let gateway = start(", budget: { usd: 20 }", "unpriced: estimate\n");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let total = gateway.settled(1);
    // 15 dollars for a million tokens in, 75 for a million out.
    let cost = (answers::PROMPT_TOKENS * 15 + answers::COMPLETION_TOKENS * 75) as f64 / 1e6;
    assert!((total["cost_usd"].as_f64().unwrap() - cost).abs() < 1e-9, "{total}");
    assert_eq!(gateway.ledger("key"), ["main 1"]);
}

#[test]
fn a_soft_budget_counts_and_lets_go() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, "budget: { usd: 0.01, hard: false, per: week }", ""));
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    gateway.settled(3);
    assert_eq!(gateway.metric("portolan_budget_used_ratio", &["budget=\"week\"", "id=\"main\""]), 3.0);
}

#[test]
fn who_follows_an_identical_call_pays_from_the_budget_too() {
    let frames = answers::stream_frames(&["word "; 10], true);
    let upstream = Upstream::always(answers::stream(&frames, 200));
    let text = fixture(&upstream, "budget: { usd: 0.02 }", "");
    let text = text.replacen("  alias: { targets", "  alias: { dedup: { cost: each }, targets", 1);
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    (body["stream"], body["temperature"], body["stream_options"]) =
        (json!(true), json!(0), json!({ "include_usage": true }));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let callers: Vec<_> = (1..=3)
            .map(|place| {
                let (gateway, body) = (&gateway, &body);
                let caller = scope.spawn(move || {
                    let mut connection = Connection::open(gateway.data);
                    connection.exchange(&gateway.chat_request(body)).status
                });
                // The next one comes when this one has reserved its cent, or nobody has one left.
                let deadline = Instant::now() + Duration::from_secs(5);
                let reserved = || gateway.metric("portolan_budget_reserved_usd", &["key"]);
                while reserved() < f64::from(place.min(2)) * 0.0099 && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
                caller
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200, 200, 429], "two cents are two answers");
    assert_eq!(upstream.count(), 1);
    gateway.settled(2);
    assert_eq!(gateway.metric("portolan_budget_spent_usd", &["key"]), 0.02);
    assert_eq!(gateway.metric("portolan_budget_reserved_usd", &["key"]), 0.0);
}

#[test]
fn a_budget_in_another_currency_is_of_that_currency() {
    let upstream = Upstream::always(answers::whole("fine"));
    let budget = "budget: { amount: 0.15, currency: cny }";
    let gateway = Gateway::start(&fixture(&upstream, budget, "currencies: { cny: 7.5 }\n"));
    for _ in 0..2 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let error = gateway.chat(&ask("alias", "x")).refusal(429);
    assert!(error["message"].as_str().unwrap().contains("(0.15 CNY) is spent"), "{error}");
    let bearer = format!("Bearer {SECRET}");
    let got = client::get(gateway.data, "/v1/models", &[("authorization", &bearer)]);
    assert_eq!(got.status, 200, "what is free goes on");
}
