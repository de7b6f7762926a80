//! Parts of budgets that are spent are told, once, to whoever is to know.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use super::answers;
use super::gateway::{Gateway, ask, config};
use super::upstream::{Attempt, Reply, Upstream};

const PRICE: &str = "price: { input: 0, output: 0, request: 0.01 }";
const SECRET: &str = "whsec-4Zt9Qm";

fn fixture(upstream: &Upstream, hooks: &str) -> String {
    let text = config(&[("alias", &upstream.v1())], &format!("alerts: {{ webhooks: [{hooks}] }}\n"));
    let text = text.replacen("model: alias-real", &format!("model: alias-real, {PRICE}"), 1);
    text.replacen("models: [\"*\"] }", "models: [\"*\"], budget: { usd: 0.04, alerts: [50, 100] } }", 1)
}

fn event(told: &Attempt) -> &str {
    told.header("x-portolan-event").unwrap()
}

#[test]
fn each_part_is_told_once_signed_and_until_it_is_taken() {
    let upstream = Upstream::always(answers::whole("fine"));
    let hook = Upstream::each(vec![Reply::json(500, "no"), Reply::json(200, "{}")]);
    let slack = Upstream::always(Reply::json(200, "ok"));
    let hooks =
        format!("{{ url: \"{}/hook?a=b\", secret: {SECRET} }}, {{ url: \"{}\", form: slack }}", hook.v1(), slack.v1());
    let mut gateway = Gateway::start(&fixture(&upstream, &hooks));
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!((hook.count(), slack.count()), (0, 0), "a quarter is nobody's affair");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let told = hook.wait("the alert, and again", Duration::from_secs(15), |journal| journal.len() == 2);
    assert_eq!(event(&told[0]), event(&told[1]), "the same event");
    assert!(told.iter().all(|told| told.path == "/v1/hook?a=b"), "{told:?}");
    let body = told[1].json();
    for (name, value) in [
        ("event", json!("budget.threshold")),
        ("level", json!("key")),
        ("name", json!("main")),
        ("percent", json!(50)),
        ("spent_usd", json!("0.02")),
        ("limit_usd", json!("0.04")),
        ("id", json!(event(&told[1]))),
    ] {
        assert_eq!(body[name], value, "{name}: {body}");
    }
    let signed = told[1].header("x-portolan-signature").unwrap();
    let (at, digest) = signed.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{at}.{}", told[1].text()).as_bytes());
    let own: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, own);
    let said = slack.only();
    assert_eq!(
        said.json()["text"],
        "50 % of the budget of the key main (0.04 USD, month) are spent: 0.02 of 0.04 USD."
    );
    assert_eq!(said.header("x-portolan-signature"), None);

    for _ in 0..2 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    slack.wait("all of it", Duration::from_secs(15), |journal| journal.len() == 2);
    hook.wait("all of it", Duration::from_secs(15), |journal| journal.len() >= 3);
    // Nobody is told again, whatever becomes of the process.
    thread::sleep(Duration::from_millis(500));
    gateway.kill9();
    gateway.start_again();
    thread::sleep(Duration::from_millis(2_500));
    let events: BTreeSet<String> = slack.attempts().iter().map(|told| event(told).to_owned()).collect();
    assert_eq!((slack.count(), events.len()), (2, 2), "{events:?}");
    assert!(!gateway.logs().contains(SECRET));
}

#[test]
fn without_anybody_to_tell_the_log_and_the_metric_say_it() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, ""));
    for _ in 0..2 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(gateway.metric("portolan_budget_alerts_total", &["untold"]), 1.0);
    assert!(gateway.logs().contains("a part of a budget is spent"));
}
