//! One dialect on both sides: what is not ours to change arrives byte for byte.

use serde_json::{Value, json};

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, OTHER_SECRET, PROVIDER_KEY, SECRET, ask, config};
use super::upstream::{Framing, Step, Upstream};

/// A request that any rewriting would change: order, white space, number formats, escapes, unknown and repeated members,
/// and the word `model` where it is not the model.
const ODD: &str = "{ \"zeta\" : 1.10,\n\t\"model\":\"alias\",  \"seed\":12345678901234567890123,\"temperature\":1.0,\
    \"messages\":[{\"content\":\"caf\\u00e9 \\ud83c\\udf0d é\",\"role\":\"user\",\"model\":\"alias\"}],\
    \"x_unknown\":{\"b\":2e5,\"a\":[1.00,-0,[]],\"model\":\"alias\"},\"x_unknown\":null,\"metadata\":{\"model\":\"alias\"},\
    \"logit_bias\":{\"2\":1,\"1\":2} }\r\n";

#[test]
fn a_request_keeps_every_byte_but_the_models_name() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let got = gateway.chat_with(&[], ODD);
    assert_eq!(got.status, 200, "{got}");
    let attempt = upstream.only();
    assert_eq!((attempt.method.as_str(), attempt.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(attempt.text(), ODD.replacen("\"alias\"", "\"alias-real\"", 1));
    assert_eq!(attempt.header("content-length"), Some(attempt.body.len().to_string().as_str()));
    assert_eq!(attempt.header("host"), Some(upstream.addr.to_string().as_str()));
}

#[test]
fn a_request_that_needs_no_change_is_not_touched() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let body = ODD.replacen("\"alias\"", "\"alias-provider/alias-real\"", 1);
    let got = gateway.chat_with(&[], &body);
    assert_eq!(got.status, 200, "{got}");
    assert_eq!(upstream.only().text(), body.replacen("alias-provider/alias-real", "alias-real", 1));
}

#[test]
fn our_own_members_never_reach_a_provider() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1()), ("backup", &upstream.v1())], ""));
    let body = r#"{"fallback":["backup"],"model":"alias","timeout":20, "messages":[{"role":"user","content":"x","tags":1}],
        "tags":{"project":"finance"},"metadata":{"cache":true},"cache":{"mode":"off"},"routing":"priority","priority":"high"}"#;
    let headers = [
        ("x-portolan-fallback", "backup"),
        ("x-portolan-timeout", "20"),
        ("x-portolan-tags", "project=finance"),
        ("x-portolan-cache", "off"),
    ];
    let got = gateway.chat_with(&headers, body);
    assert_eq!(got.status, 200, "{got}");
    let attempt = upstream.only();
    assert_eq!(
        attempt.json(),
        json!({"model": "alias-real", "messages": [{"role": "user", "content": "x", "tags": 1}],
            "metadata": {"cache": true}})
    );
    assert!(attempt.headers.iter().all(|(name, _)| !name.starts_with("x-portolan")), "{:?}", attempt.headers);
}

#[test]
fn an_answer_keeps_every_byte() {
    for framing in [Framing::Length(None), Framing::Chunked, Framing::Close] {
        let upstream = Upstream::always(answers::whole("été \u{1f30d}").framing(framing));
        let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.status, 200, "{got}");
        assert!(got.whole);
        assert_eq!(got.text(), answers::whole_text("été \u{1f30d}"), "{framing:?}");
    }
}

#[test]
fn an_answer_tells_where_it_came_from() {
    let reply = answers::whole("fine").header("x-ratelimit-remaining-requests", "41");
    let reply = reply.header("set-cookie", "a=b").header("x-api-key", PROVIDER_KEY).header("server", "secret");
    let upstream = Upstream::always(reply);
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let got = gateway.chat(&ask("alias", "x"));
    for (name, value) in [
        ("x-portolan-model", "alias"),
        ("x-portolan-provider", "alias-provider"),
        ("x-portolan-target", "alias-provider/alias-real"),
        ("x-portolan-attempts", "1"),
        ("content-type", "application/json"),
        ("x-ratelimit-remaining-requests", "41"),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}: {got}");
    }
    assert!(got.header("x-portolan-request-id").is_some_and(|id| id.len() >= 16), "{got}");
    for name in ["set-cookie", "x-api-key"] {
        assert_eq!(got.header(name), None, "{got}");
    }
    let again = gateway.chat(&ask("alias", "x"));
    assert_ne!(got.header("x-portolan-request-id"), again.header("x-portolan-request-id"));
}

#[test]
fn every_header_that_an_sdk_may_send_a_key_in() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let body = ask("alias", "x").to_string();
    let bearer = format!("Bearer {SECRET}");
    let path = "/v1/chat/completions";
    let with_query = format!("{path}?key={SECRET}&x=y");
    for (path, headers) in [
        (path, vec![("authorization", bearer.as_str())]),
        (path, vec![("x-api-key", SECRET)]),
        (path, vec![("x-goog-api-key", SECRET)]),
        (path, vec![("api-key", SECRET)]),
        (with_query.as_str(), vec![]),
    ] {
        let got = client::post(gateway.data, path, &headers, &body);
        assert_eq!(got.status, 200, "{path} {headers:?}: {got}");
    }
    for attempt in upstream.attempts() {
        assert_eq!(attempt.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        assert!(!format!("{attempt:?}").contains(SECRET), "the caller's key reached the provider: {attempt:?}");
    }
}

#[test]
fn headers_that_belong_to_the_call_cross() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let crossing = [
        ("openai-organization", "org-1"),
        ("openai-beta", "assistants=v2"),
        ("idempotency-key", "abc"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let staying = [("cookie", "a=b"), ("x-forwarded-for", "10.0.0.1"), ("accept-encoding", "gzip, br")];
    let all: Vec<_> = crossing.iter().chain(&staying).copied().collect();
    assert_eq!(gateway.chat_with(&all, ask("alias", "x").to_string()).status, 200);
    let attempt = upstream.only();
    for (name, value) in crossing {
        assert_eq!(attempt.header(name), Some(value));
    }
    assert_eq!(attempt.header("cookie"), None);
    assert_eq!(attempt.header("accept-encoding").unwrap_or("identity"), "identity");
}

#[test]
fn bodies_of_any_size_and_framing_arrive() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    // 64 KiB is where Pingora's own replay of bodies ends.
    for size in [1, 65_535, 65_537, 3_000_000] {
        let body = ask("alias", &"x".repeat(size)).to_string();
        let want = body.replacen("alias", "alias-real", 1);
        let before = upstream.count();
        assert_eq!(gateway.chat_with(&[], &body).status, 200, "{size}");
        let bearer = format!("Bearer {SECRET}");
        let headers = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked"), ("connection", "close")];
        let chunked =
            client::request("POST", "/v1/chat/completions", &headers, &client::chunked(body.as_bytes(), 10_007));
        assert_eq!(Connection::open(gateway.data).exchange(&chunked).status, 200, "{size}");
        let attempts = &upstream.attempts()[before..];
        assert_eq!(attempts.len(), 2);
        assert!(attempts.iter().all(|attempt| attempt.text() == want), "{size}");
    }
}

#[test]
fn a_caller_that_waits_for_100_continue_gets_it() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let body = ask("alias", "x").to_string();
    let (bearer, length) = (format!("Bearer {SECRET}"), body.len().to_string());
    let headers = [("authorization", bearer.as_str()), ("expect", "100-continue"), ("content-length", length.as_str())];
    let mut connection = Connection::open(gateway.data);
    connection.send(&client::request("POST", "/v1/chat/completions", &headers, b"")).unwrap();
    assert!(connection.interim().unwrap().starts_with("HTTP/1.1 100"), "no 100 Continue");
    let got = connection.exchange(body.as_bytes());
    assert_eq!(got.status, 200, "{got}");
    assert_eq!(upstream.only().header("expect"), None);
}

#[test]
fn models_are_listed_as_far_as_a_key_may_use_them() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("open-one", &upstream.v1()), ("closed", &upstream.v1())], ""));
    let list = |secret: &str| {
        let got = client::get(gateway.data, "/v1/models", &[("x-api-key", secret), ("connection", "close")]).json();
        assert_eq!(got["object"], "list");
        let rows = got["data"].as_array().unwrap().clone();
        assert!(rows.iter().all(|row| row["object"] == "model"), "{got}");
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = list(SECRET);
    assert!(all.contains(&"open-one".to_owned()) && all.contains(&"closed".to_owned()), "{all:?}");
    let some = list(OTHER_SECRET);
    assert!(some.contains(&"open-one".to_owned()) && !some.contains(&"closed".to_owned()), "{some:?}");
    let one = client::get(gateway.data, "/v1/models/closed", &[("x-api-key", SECRET), ("connection", "close")]);
    assert_eq!(one.json()["id"], "closed", "{one}");
    client::get(gateway.data, "/v1/models/closed", &[("x-api-key", OTHER_SECRET), ("connection", "close")])
        .refusal(404);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn names_match_with_a_dash_for_a_dot() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("gpt-4.1", &upstream.v1())], ""));
    assert_eq!(gateway.chat(&ask("gpt-4-1", "x")).status, 200);
    assert_eq!(upstream.only().json()["model"], "gpt-4.1-real");
}

#[test]
fn targets_are_chosen_by_weight() {
    let (one, two) = (Upstream::always(answers::whole("one")), Upstream::always(answers::whole("two")));
    let rows = "  mixed: { targets: [{ provider: a-provider, weight: 3 }, { provider: b-provider, weight: 1 }] }\n";
    let text = config(&[("a", &one.v1()), ("b", &two.v1())], "");
    let gateway = Gateway::start(&text.replacen("models:\n", &format!("models:\n{rows}"), 1));
    for _ in 0..200 {
        assert_eq!(gateway.chat(&ask("mixed", "x")).status, 200);
    }
    // 150 and 50 are expected; five standard deviations are 31.
    assert!((119..=181).contains(&one.count()), "{} of 200", one.count());
    assert_eq!(one.count() + two.count(), 200);
}

#[test]
fn connections_to_a_provider_are_used_again() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    for _ in 0..10 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let connections = upstream.attempts().iter().map(|attempt| attempt.connection).max().unwrap() + 1;
    // Each worker has a pool of its own.
    assert!(connections <= 4, "{connections} connections for 10 calls in a row");
}

#[test]
fn a_connection_that_the_provider_has_closed_meanwhile_costs_no_call() {
    let upstream = Upstream::start(|attempt| {
        let body: Value = attempt.json();
        // Promises to keep the connection, then closes it.
        answers::whole(body["messages"][0]["content"].as_str().unwrap()).then(Step::Close)
    });
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\n"));
    for n in 0..30 {
        let got = gateway.chat(&ask("alias", &n.to_string()));
        assert_eq!(got.status, 200, "call {n}: {got}");
    }
}
