//! Rules: conditions that lead calls, and what they may not do.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::answers;
use super::client::Response;
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, config, keys, provider, sha256};
use super::upstream::Upstream;

/// Two upstreams that answer with their names.
fn pair() -> [Upstream; 2] {
    ["one", "two"].map(|name| Upstream::start(move |attempt| answers::good(&attempt.json(), name)))
}

fn route(got: &Response) -> (&str, &str) {
    assert_eq!(got.status, 200, "{got}");
    (got.header("x-portolan-target").unwrap(), got.header("x-portolan-route").unwrap())
}

#[test]
fn rules_lead_calls_by_what_is_asked_and_by_whom() {
    let [one, two] = pair();
    let rules = "rules:\n  - { name: tagged, when: tags.app == \"shop\", model: two }\n  \
                 - { name: header, when: 'headers[\"x-app\"].startsWith(\"re\")', model: two }\n  \
                 - { name: tools, when: request.has_tools && request.dialect == \"openai_chat\", model: two, strategy: balanced }\n  \
                 - { name: other, when: key.id == \"other\", model: two }\n";
    let gateway = Gateway::start(&config(&[("one", &one.v1()), ("two", &two.v1())], rules));
    assert_eq!(route(&gateway.chat(&ask("one", "x"))), ("one-provider/one-real", "weighted"));
    let mut tagged = ask("one", "x");
    tagged["tags"] = json!({"app": "shop"});
    assert_eq!(route(&gateway.chat(&tagged)), ("two-provider/two-real", "weighted;rule=tagged"));
    let got = gateway.chat_with(&[("x-app", "reports")], ask("one", "x").to_string());
    assert_eq!(route(&got).0, "two-provider/two-real");
    let mut tools = ask("one", "x");
    tools["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    assert_eq!(route(&gateway.chat(&tools)).1, "balanced;rule=tools");
    assert_eq!(gateway.metric("portolan_rules_total", &["rule=\"tagged\"", "outcome=\"met\""]), 1.0);
    // Calls without the tag or the header could not be judged by those rules; that is no error of theirs.
    assert_eq!(gateway.metric("portolan_rules_total", &["rule=\"tagged\"", "outcome=\"absent\""]), 3.0);
    let usage = gateway.settled(4);
    assert_eq!(usage["attempts"], 4, "{usage}");
}

#[test]
fn a_rule_never_widens_what_a_key_may_do() {
    let [one, two] = pair();
    let rules = "rules: [{ name: all, model: two }]\n";
    let models = [("open-one", one.v1()), ("two", two.v1())];
    let models: Vec<_> = models.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let gateway = Gateway::start(&config(&models, rules));
    let bearer = format!("Bearer {OTHER_SECRET}");
    let got = super::client::post(
        gateway.data,
        "/v1/chat/completions",
        &[("authorization", &bearer)],
        ask("open-one", "x").to_string(),
    );
    assert_eq!(route(&got), ("open-one-provider/open-one-real", "weighted"), "this key may use open* only");
    assert_eq!(route(&gateway.chat(&ask("open-one", "x"))).0, "two-provider/two-real");
}

#[test]
fn a_set_of_targets_holds_for_fallbacks_too() {
    let [one, two] = pair();
    let failing = Upstream::always(answers::error(500, "down"));
    let text = format!(
        "providers:\n{}{}{}models:\n  m: {{ targets: [{{ provider: a, region: eu }}], fallback: [n] }}\n  \
         n: {{ targets: [{{ provider: b, region: us }}, {{ provider: c, region: eu }}] }}\n\
         rules: [{{ name: home, when: tags.data == \"personal\", targets: {{ regions: [eu] }} }}, {{ name: gone, when: tags.data == \"secret\", targets: {{ names: [\"d/*\"] }} }}]\n\
         retry: {{ tries: 1 }}\n{}",
        provider("a", &failing.v1()),
        provider("b", &one.v1()),
        provider("c", &two.v1()),
        keys()
    );
    let gateway = Gateway::start(&text);
    for _ in 0..2 {
        let got = gateway.chat_with(&[("x-portolan-tags", "data=personal")], ask("m", "x").to_string());
        assert_eq!(route(&got), ("c/n", "weighted;of=2;rule=home;fallback;repeated"));
    }
    assert_eq!(one.count(), 0);
    let got = gateway.chat_with(&[("x-portolan-tags", "data=secret")], ask("m", "x").to_string());
    assert_eq!(got.refusal(403)["code"], "no_target_by_rule", "{got}");
    assert!(got.text().contains("`gone`"), "{got}");
}

#[test]
fn the_shipped_example_leads_as_it_says() {
    let [eu, us] = pair();
    let example = include_str!("../../conf/examples/rules.yaml");
    let secrets = [
        "24a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad",
        "34a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad",
    ];
    let text = example
        .replace("listen: 127.0.0.1:8080\n", "")
        .replace("https://llm.eu.example.com/v1", &eu.v1())
        .replace("https://llm.us.example.com/v1", &us.v1())
        .replace(secrets[0], &sha256(OTHER_SECRET))
        .replace(secrets[1], &sha256(SECRET));
    let gateway = Gateway::start_in(&text, &[("EU_KEY", "k"), ("US_KEY", "k")]);
    let got = gateway.chat(&ask("auto", "x"));
    assert_eq!(got.header("x-portolan-model"), Some("small"), "{got}");
    assert!(route(&got).1.contains(";rule=auto/short"), "{got}");
    let got = gateway.chat(&ask("auto", &"long ".repeat(1_000)));
    assert_eq!(got.header("x-portolan-model"), Some("large"), "{got}");
    let image = json!([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]);
    let got = gateway.chat(&json!({"model": "auto", "messages": [{"role": "user", "content": image}]}));
    assert!(route(&got).1.contains(";rule=auto/pictures"), "{got}");
    for _ in 0..6 {
        let got = gateway.chat_with(&[("x-portolan-tags", "data=personal")], ask("large", "x").to_string());
        assert_eq!(route(&got).0, "frankfurt/large", "{got}");
    }
    let bearer = format!("Bearer {OTHER_SECRET}");
    let body = ask("auto", &"long ".repeat(1_000)).to_string();
    let got = super::client::post(gateway.data, "/v1/chat/completions", &[("authorization", &bearer)], body);
    assert_eq!(got.header("x-portolan-model"), Some("small"), "{got}");
    assert!(route(&got).1.starts_with("lowest_cost"), "the tier's: {got}");
    // A broken condition leaves the old rules in force, and says where it is.
    gateway.reload(&text.replace("request.has_images", "request.has_pictures"));
    let told = "models.auto.rules[2].when: at 1: there is no `request.has_pictures`";
    let deadline = Instant::now() + Duration::from_secs(10);
    while !gateway.logs().contains(told) {
        assert!(Instant::now() < deadline, "{}", gateway.logs());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(gateway.chat(&ask("auto", "x")).header("x-portolan-model"), Some("small"));
}

#[test]
fn classes_of_tasks_lead_hard_work_to_the_strong_model() {
    let [eu, us] = pair();
    let example = include_str!("../../conf/examples/rules.yaml");
    let text = example
        .replace("listen: 127.0.0.1:8080\n", "")
        .replace("https://llm.eu.example.com/v1", &eu.v1())
        .replace("https://llm.us.example.com/v1", &us.v1())
        .replace("34a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad", &sha256(SECRET));
    let hard = "Please prove by induction that there are infinitely many primes of this form";
    let env = [("EU_KEY", "k"), ("US_KEY", "k")];
    let gateway = Gateway::start_with(&text, &env, ", explain: {}");
    let got = gateway.chat(&ask("auto", hard));
    assert_eq!(got.header("x-portolan-model"), Some("large"), "{got}");
    assert!(route(&got).1.contains(";rule=auto/hard;class=proof"), "{got}");
    let told = super::explain::explained(&gateway, &got);
    assert_eq!((&told["class"]["name"], &told["class"]["mode"]), (&json!("proof"), &json!("live")), "{told:#}");
    assert!(told["class"]["score"].as_f64().unwrap() > 0.25 && !told.to_string().contains("infinitely"), "{told:#}");
    let got = gateway.chat(&ask("auto", "Hello, how are you today?"));
    assert_eq!(got.header("x-portolan-model"), Some("small"), "{got}");
    assert_eq!(gateway.metric("portolan_classes_total", &["class=\"proof\"", "mode=\"live\""]), 1.0);
    assert_eq!(gateway.metric("portolan_classes_total", &["class=\"chat\""]), 1.0);
    // No rule of this model asks for the class: it is not decided.
    assert!(!route(&gateway.chat(&ask("large", hard))).1.contains("class="));

    let gateway = Gateway::start_in(&text.replace("classes:\n", "classes:\n  mode: shadow\n"), &env);
    let got = gateway.chat(&ask("auto", hard));
    assert_eq!(got.header("x-portolan-model"), Some("small"), "in shadow nobody acts upon it: {got}");
    assert!(route(&got).1.ends_with(";class=proof(shadow)"), "{got}");
    let got = gateway.chat(&ask("large", hard));
    assert!(route(&got).1.ends_with(";class=proof(shadow)"), "decided for every call: {got}");
    assert_eq!(gateway.metric("portolan_classes_total", &["class=\"proof\"", "mode=\"shadow\""]), 2.0);
}
