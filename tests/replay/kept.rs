//! A request that passes through the real binary under an alias keeps every byte but those of the model.

use std::sync::Arc;

use serde_json::Value;

use super::gateway::{Gateway, PROVIDER_KEY, keys};
use super::recordings::{self, Speech};
use super::tally::Tally;
use super::upstream::{Reply, Upstream};

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
const TARGET: &str = "the-targets-own-name";

fn upstream() -> Upstream {
    Upstream::always(Reply::json(200, ANSWER))
}

/// A gateway that knows each of these models, and one that is called `alias`.
fn gateway(upstream: &Upstream, models: &[String]) -> Gateway {
    let url = upstream.v1();
    let rows: String = models
        .iter()
        .map(|name| format!("  {}: {{ targets: [{{ provider: up, model: {TARGET} }}] }}\n", Value::from(name.as_str())))
        .collect();
    Gateway::start(&format!(
        "providers:\n  up: {{ dialect: openai_chat, base_url: \"{url}\", api_key: \"{PROVIDER_KEY}\" }}\nmodels:\n{rows}{}",
        keys()
    ))
}

#[test]
fn odd_bytes() {
    let upstream = upstream();
    let gateway = gateway(&upstream, &["alias".to_owned()]);
    let bodies = [
        // Order of keys, white space, precision, long integers, unknown members, escapes.
        r#"{ "zeta" : 1.10, "big":12345678901234567890123, "model" :  "alias" , "messages":[ {"content":"\u00e9\/\n é 🦀","role":"user", "odd":{}} ],"temperature":1e-0,"a":[1.0,-0,0.10E+2], "unknown":{"b":1,"a":2}}"#,
        // Members twice that nobody routes by.
        r#"{"model":"alias","messages":[{"role":"user","content":"x"}],"logit_bias":{},"logit_bias":{"1":2},"x":1,"x":2}"#,
        // The model last, and its name once more where it says nothing.
        "{\n\t\"messages\":[{\"role\":\"user\",\"content\":\"the model is \\\"model\\\":\\\"alias\\\"\"}],\r\n\"model\":\"alias\"\n}\n",
    ];
    for body in bodies {
        let got = gateway.chat_with(&[], body);
        assert_eq!((got.status, got.text()), (200, ANSWER), "{got}");
        let seen = upstream.attempts().pop().unwrap();
        // The last place: the others are text of a message.
        let at = body.rfind("\"alias\"").unwrap();
        let wanted = format!("{}\"{TARGET}\"{}", &body[..at], &body[at + "\"alias\"".len()..]);
        assert_eq!(seen.text(), wanted);
    }
    // What is routed by is refused twice.
    let got = gateway.chat_with(&[], r#"{"model":"alias","model":"other","messages":[]}"#);
    got.refusal(400);
}

#[test]
fn recorded_requests() {
    let Some(recordings) = recordings::first() else { return };
    let chat = recordings.iter().filter(|exchange| exchange.speech() == Speech::Chat);
    let raw = chat.filter(|exchange| exchange.is_raw() && exchange.asked().is_some() && exchange.is_good());
    let asked: Vec<_> = raw.map(|exchange| (exchange, exchange.asked_of_us().unwrap())).collect();
    let mut models: Vec<String> = asked.iter().map(|(_, body)| model(body)).collect();
    models.sort();
    models.dedup();
    // Names match with `-` for `.` too, so two that differ in that alone are one.
    models.dedup_by_key(|name| name.replace('.', "-"));
    let upstream = Arc::new(upstream());
    let gateway = gateway(&upstream, &models);
    let mut tally = Tally::default();
    for (exchange, body) in &asked {
        let got = gateway.chat_with(&[], body.as_bytes());
        let mut problems = Vec::new();
        if got.status != 200 {
            problems.push(got.to_string());
        } else {
            let seen = upstream.attempts().pop().unwrap();
            problems.extend(super::passthrough::changed(body, seen.text(), TARGET));
        }
        tally.count(&exchange.id, problems, &Default::default());
    }
    tally.print_failures();
    println!("replay: requests through the binary: {} tried, {} failed", tally.tried(), tally.failed.len());
    assert!(tally.tried() > 100 && tally.failed.is_empty());
}

fn model(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["model"].as_str().unwrap().to_owned()
}
