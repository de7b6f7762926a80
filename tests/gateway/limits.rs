//! Limits of keys and of those they belong to: who is refused is told the truth, and nobody pays for what was not done.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::{self, Connection, Response};
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, ask_stream, config, keys, provider};
use super::upstream::{Reply, Step, Upstream};

/// The text of a configuration whose key `main` has these fields too; `other` may use all models.
fn text(upstream: &Upstream, fields: &str, more: &str) -> String {
    let text = config(&[("alias", &upstream.v1())], more);
    text.replace("id: main,", &format!("id: main, {fields},")).replace("models: [\"open*\"]", "project: other")
}

fn start(upstream: &Upstream, fields: &str, more: &str) -> Gateway {
    Gateway::start(&text(upstream, fields, more))
}

fn fine() -> Upstream {
    Upstream::start(|attempt| answers::good(&attempt.json(), "fine"))
}

fn slow(millis: u64) -> Upstream {
    Upstream::start(move |attempt| {
        let mut reply = answers::good(&attempt.json(), "fine");
        reply.before_head.push(Step::Sleep(millis));
        reply
    })
}

fn number(got: &Response, name: &str) -> u64 {
    got.header(name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {got}"))
}

/// The sentence of a refusal by a limit.
#[track_caller]
fn limited(got: &Response) -> String {
    let error = got.refusal(429);
    assert_eq!(error["code"], "rate_limit_exceeded", "{got}");
    error["message"].as_str().unwrap().to_owned()
}

fn post(gateway: &Gateway, secret: &str, path: &str, body: &Value) -> Response {
    let headers = [("x-api-key", secret), ("anthropic-version", "2023-06-01")];
    client::post(gateway.data, path, &headers, body.to_string())
}

#[test]
fn who_is_refused_is_told_when_to_come_back() {
    let upstream = fine();
    let gateway = start(&upstream, "limits: { rps: 3 }", "");
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let got = gateway.chat(&ask("alias", "x"));
    if got.status == 200 {
        // So slow a machine that a second has passed.
        return;
    }
    assert!(limited(&got).starts_with("The limit of the key `main` is reached: 3 requests a second. Try again in"));
    let wait = number(&got, "retry-after");
    assert!((1..=2).contains(&wait), "{got}");
    assert_eq!(number(&got, "x-ratelimit-limit-requests"), 3);
    thread::sleep(Duration::from_secs(wait));
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200, "the truth");
    let counted = gateway.metric("portolan_limit_refusals_total", &["level=\"key\"", "limit=\"requests_per_second\""]);
    assert_eq!(counted, 1.0);
    assert_eq!(upstream.count(), 4);
}

#[test]
fn each_dialect_is_refused_in_its_own_words() {
    let upstream = fine();
    let gateway = start(&upstream, "limits: { rpm: 3 }", "");
    let messages = json!({"model": "alias", "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]});
    let contents = json!({"contents": [{"parts": [{"text": "x"}]}]});
    let ways = [
        ("/v1/chat/completions", ask("alias", "x")),
        ("/v1/messages", messages),
        ("/v1beta/models/alias:generateContent", contents),
    ];
    for (path, body) in &ways {
        let got = post(&gateway, SECRET, path, body);
        assert_eq!(got.status, 200, "{got}");
    }
    for (path, body) in &ways {
        let got = post(&gateway, SECRET, path, body);
        assert_eq!(got.status, 429, "{got}");
        assert!((55..=61).contains(&number(&got, "retry-after")), "{got}");
        let error = &got.json()["error"];
        assert!(error["message"].as_str().unwrap().contains("3 requests a minute"), "{got}");
        if path.contains("messages") {
            assert_eq!(
                (got.json()["type"].as_str(), error["type"].as_str()),
                (Some("error"), Some("rate_limit_error"))
            );
            assert_eq!(number(&got, "anthropic-ratelimit-requests-limit"), 3);
            assert_eq!(number(&got, "anthropic-ratelimit-requests-remaining"), 0);
            let reset = got.header("anthropic-ratelimit-requests-reset").unwrap();
            assert!(reset.ends_with('Z') && reset.contains('T') && reset.len() == 20, "{reset}");
            assert_eq!(got.header("x-ratelimit-limit-requests"), None);
        } else {
            assert_eq!(number(&got, "x-ratelimit-remaining-requests"), 0);
        }
        if path.contains("v1beta") {
            assert_eq!(error["status"], "RESOURCE_EXHAUSTED", "{got}");
        }
    }
}

#[test]
fn every_answer_tells_what_is_left_of_the_callers_own() {
    let upstream = Upstream::start(|attempt| {
        let reply = match attempt.text() {
            text if text.contains("bad") => answers::error(400, "no"),
            _ => answers::good(&attempt.json(), "fine"),
        };
        reply.header("x-ratelimit-remaining-requests", "999").header("x-ratelimit-remaining-project-tokens", "5")
    });
    let gateway = start(&upstream, "limits: { rpm: 100, tpm: 1000000 }", "");
    let bearer = format!("Bearer {SECRET}");
    let list = client::get(gateway.data, "/v1/models", &[("authorization", &bearer)]);
    let answers = [
        (list, 99),
        (gateway.chat(&ask("alias", "x")), 98),
        (gateway.chat(&ask_stream("alias", "x")), 97),
        (gateway.chat(&ask("alias", "bad")), 96),
        // What is refused for other reasons is told, and counts for nothing.
        (gateway.chat(&ask("nothing", "x")), 96),
        (gateway.chat_with(&[], "{"), 96),
    ];
    for (got, left) in &answers {
        assert_eq!(number(got, "x-ratelimit-limit-requests"), 100, "{got}");
        assert_eq!(number(got, "x-ratelimit-remaining-requests"), *left, "{got}");
        assert!(got.header("x-ratelimit-reset-requests").unwrap().ends_with('s'), "{got}");
        assert_eq!(number(got, "x-ratelimit-limit-tokens"), 1_000_000);
        assert_eq!(got.header("x-ratelimit-remaining-project-tokens"), None, "a provider's: {got}");
    }
    // Who has no limits sees the provider's.
    let bearer = format!("Bearer {OTHER_SECRET}");
    let headers = [("authorization", bearer.as_str())];
    let got = client::post(gateway.data, "/v1/chat/completions", &headers, ask("alias", "x").to_string());
    assert_eq!(got.header("x-ratelimit-remaining-requests"), Some("999"), "{got}");
}

#[test]
fn every_level_counts_and_names_itself() {
    let upstream = fine();
    let tree =
        "organisations: { acme: { limits: [{ of: requests, most: 5, per: day, by: fixed_window, time_zone: UTC }] } }
teams: { search: { organisation: acme } }
projects: { web: { team: search, limits: { rpm: 3 } }, other: { team: search } }
";
    let gateway = start(&upstream, "project: web, limits: { rpm: 100 }", tree);
    let call = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        let body = ask("alias", "x").to_string();
        client::post(gateway.data, "/v1/chat/completions", &[("authorization", &bearer)], body)
    };
    for _ in 0..3 {
        assert_eq!(call(SECRET).status, 200);
    }
    let got = call(SECRET);
    assert!(limited(&got).contains("project `web` is reached: 3 requests a minute"), "{got}");
    // A refusal takes nothing of the others: two are left to the organisation.
    for _ in 0..2 {
        assert_eq!(call(OTHER_SECRET).status, 200);
    }
    let got = call(OTHER_SECRET);
    assert!(limited(&got).contains("organisation `acme` is reached: 5 requests a day"), "{got}");
    assert_eq!(upstream.count(), 5);
}

#[test]
fn tokens_are_reserved_before_and_put_right_after() {
    let upstream = slow(400);
    let gateway = start(&upstream, "limits: { tpm: 1000 }", "");
    let most = |tokens: u64| {
        let mut body = ask("alias", "x");
        body["max_tokens"] = json!(tokens);
        body
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.chat(&most(900)));
        thread::sleep(Duration::from_millis(200));
        let got = gateway.chat(&most(200));
        assert!(limited(&got).contains("1000 tokens a minute"), "{got}");
        let got = first.join().unwrap();
        assert_eq!(got.status, 200, "{got}");
        assert!(number(&got, "x-ratelimit-remaining-tokens") < 100, "{got}");
    });
    // What was used is known before the caller has the last byte.
    let used = answers::PROMPT_TOKENS + answers::COMPLETION_TOKENS;
    let got = gateway.chat(&most(1));
    let left = number(&got, "x-ratelimit-remaining-tokens");
    assert!((1_000 - used - 20..1_000 - used).contains(&left), "{got}");
    // More than the limit can never be: no wait helps, and the caller's SDK is told so.
    let got = gateway.chat(&most(5_000));
    assert!(limited(&got).contains("would never be let through"), "{got}");
    assert_eq!((got.header("retry-after"), got.header("x-should-retry")), (None, Some("false")), "{got}");
    // Where nothing bounds the answer the guess is ours, and no reason to refuse.
    let gateway = start(&upstream, "limits: { tpm: 100 }", "");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
}

#[test]
fn a_picture_is_not_counted_by_its_bytes() {
    let upstream = fine();
    let gateway = start(
        &upstream,
        "limits: [{ of: tokens, most: 20000, per: minute }, { of: images, most: 2, per: hour }, { of: characters, most: 9, per: day }]",
        "",
    );
    let image = format!("data:image/png;base64,{}", "A".repeat(400_000));
    let part = json!({"type": "image_url", "image_url": {"url": image}});
    let body = json!({"model": "alias", "max_tokens": 10, "messages": [{"role": "user", "content": [part, {"type": "text", "text": "grün"}]}]});
    for left in [1, 0] {
        let got = gateway.chat(&body);
        assert_eq!(got.status, 200, "{left} {got}");
    }
    let got = gateway.chat(&body);
    // Eight characters are spent, and the day is longer than the hour.
    assert!(limited(&got).contains("9 characters a day"), "{got}");
    let got = gateway.chat(&json!({"model": "alias", "messages": [{"role": "user", "content": [part]}]}));
    assert!(limited(&got).contains("2 images an hour"), "{got}");
}

#[test]
fn money_is_reserved_and_counted() {
    let upstream = slow(300);
    let limits = "limits: [{ of: spend, most: 0.003, per: hour }]";
    let text = text(&upstream, limits, "")
        .replace("model: alias-real }", "model: alias-real, price: { input: 10, output: 100 } }");
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    body["max_tokens"] = json!(20);
    // 0.002 dollars at most each: one at a time.
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.chat(&body));
        thread::sleep(Duration::from_millis(150));
        let got = gateway.chat(&body);
        assert!(limited(&got).contains("0.003 US dollars an hour"), "{got}");
        assert_eq!(first.join().unwrap().status, 200);
    });
    let cost: f64 = gateway.chat(&body).header("x-portolan-cost-usd").unwrap().parse().unwrap();
    let mut calls = 2;
    while gateway.chat(&body).status == 200 {
        calls += 1;
    }
    let spent = cost * f64::from(calls);
    assert!(spent <= 0.003 && spent + 0.0022 > 0.003, "{calls} calls of {cost}");
}

#[test]
fn calls_at_once_are_counted_as_they_come_and_go() {
    let upstream = Upstream::start(|attempt| {
        let text = attempt.text().to_owned();
        let mut reply =
            if text.contains("fail") { answers::error(500, "no") } else { answers::good(&attempt.json(), "x") };
        reply.before_head.push(Step::Sleep(if text.contains("long") { 700 } else { 0 }));
        reply
    });
    let gateway = start(&upstream, "limits: { concurrency: 2 }", "retry: { tries: 1 }\n");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(gateway.chat(&ask("alias", "long")).status, 200));
        }
        thread::sleep(Duration::from_millis(350));
        let got = gateway.chat(&ask("alias", "x"));
        assert!(limited(&got).contains("as many calls under way as its limit lets it (2 calls at once)"), "{got}");
        assert_eq!(number(&got, "retry-after"), 1);
        // Lists are no work.
        let bearer = format!("Bearer {SECRET}");
        assert_eq!(client::get(gateway.data, "/v1/models", &[("authorization", &bearer)]).status, 200);
    });
    // One after the other on connections of their own, whatever comes of them: never refused.
    for n in 0..40 {
        let (body, status) = match n % 4 {
            0 => (ask("alias", "fail"), 500),
            1 => (ask_stream("alias", "x"), 200),
            2 => (json!({"model": "alias", "timeout": -1}), 400),
            _ => (ask("alias", "x"), 200),
        };
        assert_eq!(gateway.chat(&body).status, status, "{n}");
    }
    for n in 0..6 {
        let mut gone = Connection::open(gateway.data);
        gone.send(&gateway.chat_request(&ask("alias", if n % 2 == 0 { "long" } else { "x" }))).unwrap();
        thread::sleep(Duration::from_millis(100));
        drop(gone);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200, "{n}");
    }
}

#[test]
fn what_is_refused_later_is_given_back() {
    let upstream = Upstream::always(answers::error(429, "slow down").header("retry-after", "40"));
    let gateway = start(&upstream, "limits: { rpm: 10, tpm: 100000 }", "retry: { tries: 1 }\n");
    let left =
        |got: &Response| (number(got, "x-ratelimit-remaining-requests"), number(got, "x-ratelimit-remaining-tokens"));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!((got.status, left(&got).0), (429, 9), "{got}");
    // From now on the target rests, and no attempt is made.
    for _ in 0..3 {
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!((got.status, left(&got)), (429, (9, 100_000)), "{got}");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_reload_forgives_nothing() {
    let upstream = fine();
    let fields = |limit: &str| text(&upstream, &format!("limits: {{ rpm: {limit} }}"), "");
    let gateway = Gateway::start(&fields("2"));
    for status in [200, 200, 429] {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, status);
    }
    let reloaded = |limit: &str| {
        let version = gateway.chat(&ask("nothing", "x"));
        let before = number(&version, "x-ratelimit-limit-requests");
        gateway.reload(&fields(limit));
        let deadline = Instant::now() + Duration::from_secs(5);
        while number(&gateway.chat(&ask("nothing", "x")), "x-ratelimit-limit-requests") == before {
            assert!(Instant::now() < deadline, "{}", gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
    };
    reloaded("3");
    for status in [200, 429] {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, status, "raised by one");
    }
    reloaded("1");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 429);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_hedged_call_is_one_call() {
    let (one, two) = (slow(3_000), fine());
    let text = format!(
        "providers:\n{}{}models:\n  alias: {{ strategy: priority, targets: [{{ provider: one, model: real }}, {{ provider: two, model: real }}], hedge: {{ delay: 100ms }} }}\n{}",
        provider("one", &one.v1()),
        provider("two", &two.v1()),
        keys().replace("id: main,", "id: main, limits: { rpm: 10, concurrency: 1, tpm: 10000 },")
    );
    let gateway = Gateway::start(&text);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.header("x-portolan-target"), Some("two/real"), "{got}");
    assert_eq!(number(&got, "x-ratelimit-remaining-requests"), 9, "{got}");
    gateway.settled(2);
    let got = gateway.chat(&ask("nothing", "x"));
    let used = answers::PROMPT_TOKENS + answers::COMPLETION_TOKENS;
    assert_eq!(number(&got, "x-ratelimit-remaining-tokens"), 10_000 - used, "not the tokens of both: {got}");
}

#[test]
fn who_joins_a_call_is_counted_and_uses_nothing() {
    let upstream = slow(500);
    let text = text(&upstream, "limits: { rpm: 10, tpm: 10000, concurrency: 4 }", "")
        .replace("model: alias-real }] }", "model: alias-real }], dedup: { any: true } }");
    let gateway = Gateway::start(&text);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(gateway.chat(&ask("alias", "same")).status, 200));
        }
    });
    assert_eq!(upstream.count(), 1);
    assert_eq!(number(&gateway.chat(&ask("nothing", "x")), "x-ratelimit-remaining-requests"), 6);
    gateway.settled(4);
    let got = gateway.chat(&ask("nothing", "x"));
    let used = answers::PROMPT_TOKENS + answers::COMPLETION_TOKENS;
    assert_eq!(number(&got, "x-ratelimit-remaining-tokens"), 10_000 - used, "{got}");
}

#[test]
fn more_goes_through_while_the_gateway_is_idle() {
    let upstream = Upstream::start(|attempt| {
        let mut reply = answers::good(&attempt.json(), "x");
        reply.before_head.push(Step::Sleep(if attempt.text().contains("long") { 1_500 } else { 0 }));
        reply
    });
    let limits = "limits: [{ of: requests, most: 4, per: minute, elastic: { most: 6, calls: 2 } }]";
    let gateway = start(&upstream, limits, "");
    let idle: Vec<_> = (0..5).map(|_| gateway.chat(&ask("alias", "x")).status).collect();
    assert_eq!(idle, [200; 5], "one more than the limit");
    let bearer = format!("Bearer {OTHER_SECRET}");
    let (data, body) = (gateway.data, ask("alias", "long").to_string());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client::post(data, "/v1/chat/completions", &[("authorization", &bearer)], &body));
        }
        thread::sleep(Duration::from_millis(500));
        // Somebody else is at work: what was borrowed is missing now.
        assert!(limited(&gateway.chat(&ask("alias", "x"))).contains("4 requests a minute"));
    });
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 429);
}

#[test]
fn counts_and_lists_are_requests() {
    let upstream = Upstream::always(Reply::json(404, "{}"));
    let gateway = start(&upstream, "limits: { rpm: 3, tpm: 10, concurrency: 1 }", "");
    let bearer = format!("Bearer {SECRET}");
    let get = |path: &str| client::get(gateway.data, path, &[("authorization", &bearer)]);
    assert_eq!(get("/v1/models").status, 200);
    assert_eq!(get("/v1/usage").status, 200);
    let body = json!({"model": "alias", "messages": [{"role": "user", "content": "x".repeat(400)}]});
    let counted = post(&gateway, SECRET, "/v1/messages/count_tokens", &body);
    assert_eq!(counted.status, 200, "a count of many tokens uses none: {counted}");
    assert_eq!(number(&counted, "anthropic-ratelimit-requests-remaining"), 0, "{counted}");
    assert_eq!(get("/v1/models/alias").status, 429);
    assert_eq!(post(&gateway, SECRET, "/v1/messages/count_tokens", &body).status, 429);
    assert_eq!(client::get(gateway.data, "/health/live", &[]).status, 200);
}
