//! `GET /admin/requests/{id}`: the whole of why a call went where it went, and never what was said.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{self, Response};
use super::gateway::{Gateway, PROVIDER_KEY, SECRET, ask, ask_stream, keys, provider};
use super::upstream::{Step, Upstream};

/// Two providers, of which the first fails, behind one model; explanations are kept.
fn with(first: &Upstream, second: &Upstream, more: &str) -> String {
    format!(
        "providers:\n{}{}models:\n  m:\n    targets:\n      - {{ provider: a, region: eu, tier: 1, price: {{ input: 1, output: 2 }} }}\n      \
         - {{ provider: b, region: eu, tier: 2, price: {{ input: 3, cached: 0.5, output: 5 }} }}\n      - {{ provider: b, model: far, region: us, tier: 3 }}\n\
         retry: {{ tries: 1 }}\n{}{more}",
        provider("a", &first.v1()),
        provider("b", &second.v1()),
        keys()
    )
}

/// Starts with so much kept.
fn start(config: &str, explain: &str) -> Gateway {
    Gateway::start_with(config, &[], &format!(", explain: {explain}"))
}

fn kept(gateway: &Gateway, id: &str) -> (u16, Value) {
    let got = client::get(gateway.admin, &format!("/admin/requests/{id}"), &[("connection", "close")]);
    assert_eq!(got.header("content-type"), Some("application/json"), "{got}");
    (got.status, got.json())
}

/// What is kept of a call, which is a moment after its caller has the end.
pub fn explained(gateway: &Gateway, got: &Response) -> Value {
    let id = got.header("x-portolan-request-id").unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match kept(gateway, &id) {
            (200, told) => return told,
            (status, told) => assert!(status == 404 && Instant::now() < deadline, "{status} {told}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_call_tells_its_rules_choices_attempts_and_cost() {
    let failing = Upstream::always(answers::error(503, "overloaded: please shorten 'my secret prompt'"));
    let good = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let rules = "rules:\n  - { name: tagged, when: tags.x == \"y\", model: none }\n  - { name: home, when: request.model == \"m\", strategy: priority, targets: { regions: [eu] } }\n  - { name: never, when: request.stream, priority: low }\n";
    let config = with(&failing, &good, &rules.replace(", model: none", ", strategy: balanced"));
    let gateway = start(&config, "{ calls: 10, bytes: 1MiB }");
    let got = gateway.chat(&ask("m", "my secret prompt"));
    assert_eq!(got.status, 200, "{got}");
    let told = explained(&gateway, &got);
    assert_eq!(
        (&told["key"], &told["outcome"], &told["status"], &told["dialect"]),
        (&json!("main"), &json!("ok"), &json!(200), &json!("openai_chat")),
        "{told:#}"
    );
    let rules = json!([{"rule": "tagged", "outcome": "absent"}, {"rule": "home", "outcome": "met"}]);
    assert_eq!(told["rules"], rules, "{told:#}");
    let choices = told["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2, "{told:#}");
    assert_eq!((&choices[0]["strategy"], &choices[0]["strategy_from"]), (&json!("priority"), &json!("rule")));
    assert_eq!((&choices[0]["chosen"], &choices[1]["chosen"]), (&json!("a/m"), &json!("b/m")));
    let standings: Vec<_> =
        choices[1]["candidates"].as_array().unwrap().iter().map(|one| one["standing"].as_str().unwrap()).collect();
    assert_eq!(standings, ["tried", "ready", "barred_by_rule"], "{told:#}");
    assert_eq!(choices[0]["candidates"][2]["rule"], "home");
    assert!(choices[0]["candidates"][0]["expected_usd"].as_f64().unwrap() > 0.0);
    let attempts = told["attempts"].as_array().unwrap();
    let [first, second] = &attempts[..] else { panic!("{told:#}") };
    assert_eq!(
        (&first["outcome"], &first["status"], &first["role"]),
        (&json!("overloaded"), &json!(503), &json!("call"))
    );
    assert_eq!((&second["outcome"], &second["target"]), (&json!("ok"), &json!("b/m")));
    // The arithmetic of the cost: each part of the usage at its rate, and their sum.
    let cost = &second["cost"];
    let sum: u64 = cost["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["count"].as_u64().unwrap() * line["nano_usd_per_million"].as_u64().unwrap_or(0) / 1_000_000)
        .sum();
    assert!(sum > 0 && cost["nano_usd"] == sum && told["cost_nano_usd"] == sum, "{told:#}");
    assert_eq!(cost["price"], "config");
    let usd = told["cost_usd"].as_str().unwrap();
    assert_eq!(Some(usd), got.header("x-portolan-cost-usd"));
    let all = told.to_string();
    for secret in ["secret prompt", PROVIDER_KEY, SECRET, "fine"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[test]
fn streams_and_refusals_are_told_too() {
    let failing = Upstream::always(answers::error(500, "down"));
    let good = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let config = with(
        &good,
        &failing,
        "rules: [{ name: nowhere, when: request.stream && tags.x == \"y\", targets: { names: [\"z/*\"] } }]\n",
    );
    let gateway = start(&config, "{ calls: 10, bytes: 1MiB }");
    let got = gateway.chat(&ask_stream("m", "x"));
    let told = explained(&gateway, &got);
    assert_eq!(
        (&told["request"]["stream"], &told["rules"][0]["outcome"]),
        (&json!(true), &json!("absent")),
        "{told:#}"
    );
    assert!(told["total_us"].as_u64().unwrap() >= told["first_token_us"].as_u64().unwrap());
    let got = gateway.chat_with(&[("x-portolan-tags", "x=y")], ask_stream("m", "x").to_string());
    let told = explained(&gateway, &got);
    assert_eq!((&told["outcome"], &told["status"]), (&json!("ruled_out"), &json!(403)), "{told:#}");
    assert_eq!((&told["rules"][0]["outcome"], told["attempts"].as_array().unwrap().len()), (&json!("met"), 0));
}

#[test]
fn what_is_kept_is_bounded_and_unknown_ids_are_404() {
    let good = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let config = with(&good, &good, "");
    let gateway = start(&config, "{ calls: 2, bytes: 1MiB }");
    let got: Vec<_> = (0..3).map(|_| gateway.chat(&ask("m", "x"))).collect();
    explained(&gateway, &got[2]);
    explained(&gateway, &got[1]);
    let first = got[0].header("x-portolan-request-id").unwrap();
    assert_eq!(kept(&gateway, first).0, 404);
    for id in ["00000000-0000-7000-8000-000000000000", "x", "", "..%2f"] {
        let (status, told) = kept(&gateway, id);
        assert_eq!(status, 404, "{told}");
        assert!(told["error"]["message"].is_string());
    }
    // Off, as it is where nothing is said of it.
    let gateway = Gateway::start(&config);
    let got = gateway.chat(&ask("m", "x"));
    gateway.settled(1);
    let (status, told) = kept(&gateway, got.header("x-portolan-request-id").unwrap());
    assert_eq!(status, 404);
    assert!(told["error"]["message"].as_str().unwrap().contains("explain"), "{told}");
}

#[test]
fn an_attempt_that_hangs_is_told_with_its_fault() {
    let hanging = Upstream::always(super::upstream::Reply::instead(Step::Hang));
    let good = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let config =
        with(&hanging, &good, "timeouts: { first_byte: 300ms, answer: 300ms }\nrouting: { strategy: priority }\n");
    let gateway = start(&config, "{ calls: 10, bytes: 1MiB }");
    let told = explained(&gateway, &gateway.chat(&ask("m", "x")));
    assert_eq!(
        (&told["attempts"][0]["fault"], &told["attempts"][1]["outcome"]),
        (&json!("timeout"), &json!("ok")),
        "{told:#}"
    );
    assert!(told["attempts"][1]["began_us"].as_u64().unwrap() >= 250_000, "{told:#}");
    assert_eq!(told["choices"][0]["strategy_from"], "model");
}
