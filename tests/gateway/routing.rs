//! Which target a call goes to: strategies, arms, regions, and what is left alone after which failure.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client::Response;
use super::gateway::{Gateway, OTHER_SECRET, SECRET, ask, ask_stream, keys, sha256};
use super::upstream::{Attempt, Step, Upstream};

/// A target's row: name, address, what its provider and what the target has beside that.
type Row<'r> = (&'r str, &'r Upstream, &'r str, &'r str);

/// One model `alias` with these targets; `model` and `more` are further fields of the model and of the file.
fn with(rows: &[Row<'_>], model: &str, more: &str) -> String {
    let providers: String = rows
        .iter()
        .map(|(name, upstream, provider, _)| {
            let key = if provider.contains("api_keys") { "" } else { ", api_key: k" };
            format!("  {name}: {{ dialect: openai_chat, base_url: \"{}\"{key}{provider} }}\n", upstream.v1())
        })
        .collect();
    let targets: Vec<_> = rows.iter().map(|(name, _, _, target)| format!("{{ provider: {name}{target} }}")).collect();
    let keys = if more.contains("keys:") { String::new() } else { keys() };
    format!(
        "providers:\n{providers}models:\n  alias: {{ targets: [{}]{model} }}\nretry: {{ tries: 1, pause: 10ms, cooldown: 30s }}\n{keys}{more}",
        targets.join(", ")
    )
}

fn named(name: &'static str) -> Upstream {
    Upstream::start(move |attempt| answers::good(&attempt.json(), name))
}

fn target(got: &Response) -> String {
    assert_eq!(got.status, 200, "{got}");
    got.header("x-portolan-provider").unwrap().to_owned()
}

fn route(got: &Response) -> &str {
    got.header("x-portolan-route").unwrap()
}

/// Where so many equal calls went.
fn spread(gateway: &Gateway, body: &Value, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(target(&gateway.chat(body))).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_bad_key_benches_itself_alone() {
    let upstream = Upstream::start(|attempt| match attempt.header("authorization") {
        Some("Bearer bad") => answers::error(401, "Incorrect API key"),
        _ => answers::good(&attempt.json(), "fine"),
    });
    let gateway = Gateway::start(&with(&[("p", &upstream, ", api_keys: [bad, good]", "")], "", ""));
    for _ in 0..12 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let with = |key: &str| upstream.attempts().iter().filter(|a| a.header("authorization") == Some(key)).count();
    assert_eq!((with("Bearer bad"), with("Bearer good")), (1, 12));
}

#[test]
fn a_rate_limit_cools_the_key_with_that_model_and_nothing_else() {
    let upstream = Upstream::start(|attempt: &Attempt| {
        let limited = attempt.header("authorization") == Some("Bearer one") && attempt.json()["model"] == "alias";
        match limited {
            true => answers::error(429, "slow down").header("retry-after", "60"),
            false => answers::good(&attempt.json(), "fine"),
        }
    });
    let config = with(&[("p", &upstream, ", api_keys: [one, two]", "")], "", "")
        .replace("models:\n", "models:\n  other: { targets: [{ provider: p }] }\n");
    let gateway = Gateway::start(&config);
    for _ in 0..12 {
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.status, 200, "the other key serves it: {got}");
    }
    for _ in 0..12 {
        assert_eq!(gateway.chat(&ask("other", "x")).status, 200);
    }
    let with = |key: &str, model: &str| {
        let attempts = upstream.attempts();
        attempts.iter().filter(|a| a.header("authorization") == Some(key) && a.json()["model"] == model).count()
    };
    assert_eq!(with("Bearer one", "alias"), 1);
    assert!(with("Bearer one", "other") > 0, "another model's limit is another one");
}

#[test]
fn a_model_whose_only_target_fails_goes_on_being_tried() {
    let upstream = Upstream::always(answers::error(500, "the provider's own words"));
    let gateway = Gateway::start(&with(&[("p", &upstream, "", "")], "", ""));
    for _ in 0..10 {
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.status, 500, "{got}");
        assert!(got.text().contains("the provider's own words"), "{got}");
    }
    assert_eq!(upstream.count(), 10);
}

#[test]
fn a_stated_retry_after_is_kept_to_and_told() {
    let upstream = Upstream::always(answers::error(429, "slow down").header("retry-after", "60"));
    let gateway = Gateway::start(&with(&[("p", &upstream, "", "")], "", ""));
    gateway.chat(&ask("alias", "x")).refusal(429);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.refusal(429)["code"], "rate_limit_exceeded", "{got}");
    let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(upstream.count(), 1, "it asked to be left alone");
}

#[test]
fn a_failing_target_is_probed_by_one_call() {
    let one = Upstream::start(|attempt| match attempt.number {
        0 => answers::error(500, "no"),
        // The probe is slow: others must not follow it.
        1 => {
            let mut reply = answers::whole("back");
            reply.before_head.push(Step::Sleep(700));
            reply
        }
        _ => answers::whole("well"),
    });
    let two = named("two");
    let rows = [("one", &one, "", ", tier: 1"), ("two", &two, "", ", tier: 2")];
    let config = with(&rows, ", strategy: priority", "").replace(
        "retry: { tries: 1, pause: 10ms, cooldown: 30s }",
        "retry: { tries: 1, failures: 1, cooldown: 300ms }",
    );
    let gateway = Gateway::start(&config);
    assert_eq!(target(&gateway.chat(&ask("alias", "x"))), "two");
    thread::sleep(Duration::from_millis(400));
    let seen: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|n| {
                let gateway = &gateway;
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(n * 50));
                    target(&gateway.chat(&ask("alias", "x")))
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(seen.iter().filter(|target| *target == "one").count(), 1, "{seen:?}");
    // Trusted again, and more so with time.
    let begun = Instant::now();
    while target(&gateway.chat(&ask("alias", "x"))) != "one" {
        assert!(begun.elapsed() < Duration::from_secs(10), "never trusted again");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_cheapest_for_this_request_is_taken() {
    let (one, two) = (named("one"), named("two"));
    let rows = [
        ("one", &one, "", ", price: { input: 1, output: 50 }"),
        ("two", &two, "", ", price: { input: 10, output: 10 }"),
    ];
    let gateway = Gateway::start(&with(&rows, ", strategy: lowest_cost", ""));
    let mut short = ask("alias", "x");
    short["max_tokens"] = json!(200);
    let mut long = ask("alias", &"x".repeat(40_000));
    long["max_tokens"] = json!(10);
    for _ in 0..5 {
        let got = gateway.chat(&short);
        assert_eq!(target(&got), "two", "{got}");
        assert!(route(&got).starts_with("lowest_cost;usd=0.00"), "{got}");
        assert_eq!(target(&gateway.chat(&long)), "one");
    }
}

#[test]
fn the_quickest_is_found_by_trying() {
    let slow = Upstream::start(|attempt| {
        let mut reply = answers::good(&attempt.json(), "slow");
        reply.steps.insert(0, Step::Sleep(250));
        reply
    });
    let quick = named("quick");
    let gateway =
        Gateway::start(&with(&[("slow", &slow, "", ""), ("quick", &quick, "", "")], ", strategy: lowest_latency", ""));
    let counts = spread(&gateway, &ask_stream("alias", "x"), 20);
    assert_eq!((counts["slow"], counts["quick"]), (1, 19), "{counts:?}");
}

#[test]
fn the_least_busy_gets_the_next_call() {
    let slow = || {
        Upstream::start(|attempt| {
            let mut reply = answers::good(&attempt.json(), "x");
            reply.before_head.push(Step::Sleep(300));
            reply
        })
    };
    let (one, two, three) = (slow(), slow(), slow());
    let rows = [("one", &one, "", ""), ("two", &two, "", ""), ("three", &three, "", "")];
    let gateway = Gateway::start(&with(&rows, ", strategy: least_busy", ""));
    thread::scope(|scope| {
        for n in 0..9 {
            let gateway = &gateway;
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(n * 15));
                assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
            });
        }
    });
    assert_eq!([one.count(), two.count(), three.count()], [3, 3, 3]);
}

#[test]
fn balanced_prefers_cheap_and_leaves_it_when_it_fails() {
    let cheap = Upstream::start(|attempt| match attempt.number {
        0..5 => answers::good(&attempt.json(), "cheap"),
        _ => answers::error(500, "no"),
    });
    let dear = named("dear");
    let rows = [
        ("cheap", &cheap, "", ", price: { input: 1, output: 1 }"),
        ("dear", &dear, "", ", price: { input: 4, output: 4 }"),
    ];
    let gateway = Gateway::start(&with(&rows, ", strategy: balanced", ""));
    let mut counts = spread(&gateway, &ask("alias", "x"), 30);
    assert!(counts.remove("cheap").is_some_and(|count| (4..=5).contains(&count)), "{counts:?}");
    assert!(cheap.count() < 12, "{} tries at what fails", cheap.count());
}

#[test]
fn calls_of_one_session_stay_together() {
    let (one, two, three) = (named("one"), named("two"), named("three"));
    let rows = [("one", &one, "", ""), ("two", &two, "", ""), ("three", &three, "", "")];
    let gateway = Gateway::start(&with(&rows, ", strategy: sticky, sticky: [session, user]", ""));
    let mut used = std::collections::BTreeSet::new();
    for session in 0..12 {
        let name = format!("s{session}");
        let headers = [("x-portolan-session", name.as_str())];
        let first = gateway.chat_with(&headers, ask("alias", "x").to_string());
        assert!(route(&first).starts_with("sticky;by=session"), "{first}");
        let own = target(&first);
        for _ in 0..4 {
            assert_eq!(target(&gateway.chat_with(&headers, ask("alias", "y").to_string())), own);
        }
        used.insert(own);
    }
    assert_eq!(used.len(), 3, "sessions spread: {used:?}");
    let mut body = ask("alias", "x");
    body["user"] = json!("u1");
    assert_eq!(spread(&gateway, &body, 8).len(), 1);
}

#[test]
fn arms_get_their_parts_and_keep_their_callers() {
    let (control, canary) = (named("control"), named("canary"));
    let rows = [("control", &control, "", ", arm: control"), ("canary", &canary, "", ", arm: canary")];
    let split = ", split: { arms: { control: 80, canary: 20 }, by: [user] }";
    let gateway = Gateway::start(&with(&rows, split, ""));
    let mut canaries = 0;
    for user in 0..60 {
        let mut body = ask("alias", "x");
        body["user"] = json!(format!("user {user}"));
        let counts = spread(&gateway, &body, 2);
        assert_eq!(counts.len(), 1, "one user, one arm: {counts:?}");
        canaries += usize::from(counts.contains_key("canary"));
    }
    assert!((4..=22).contains(&canaries), "{canaries} of 60 users in an arm of a fifth");
    let got = gateway.chat(&ask("alias", "x"));
    assert!(route(&got).contains(";arm="), "{got}");
    let arm = gateway.metric("portolan_arm_attempts_total", &["arm=\"canary\""]);
    assert!(arm >= 2.0 * f64::from(u32::try_from(canaries).unwrap()), "{arm}");
}

#[test]
fn another_arm_stands_in_for_one_that_fails() {
    let (control, canary) = (named("control"), Upstream::always(answers::error(500, "no")));
    let rows = [("control", &control, "", ", arm: control"), ("canary", &canary, "", ", arm: canary")];
    let gateway = Gateway::start(&with(&rows, ", split: { arms: { control: 0, canary: 1 } }", ""));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(target(&got), "control");
    assert_eq!(canary.count(), 1);
}

#[test]
fn request_key_model_and_default_are_heard_in_this_order() {
    let (one, two) = (named("one"), named("two"));
    let rows = [
        ("one", &one, "", ", weight: 1, tier: 2, price: { input: 1, output: 1 }"),
        ("two", &two, "", ", weight: 1000000, tier: 1, price: { input: 2, output: 2 }"),
    ];
    let keys = format!(
        "keys:\n  - {{ id: main, secret_sha256: \"{}\" }}\n  - {{ id: tiered, secret_sha256: \"{}\", strategy: priority }}\n",
        sha256(SECRET),
        sha256(OTHER_SECRET)
    );
    let body = ask("alias", "x");
    // By default.
    let gateway = Gateway::start(&with(&rows, "", &format!("{keys}routing: {{ strategy: lowest_cost }}\n")));
    assert_eq!(target(&gateway.chat(&body)), "one");
    // The model has its own.
    let gateway =
        Gateway::start(&with(&rows, ", strategy: weighted", &format!("{keys}routing: {{ strategy: lowest_cost }}\n")));
    let got = gateway.chat(&body);
    assert_eq!((target(&got).as_str(), route(&got)), ("two", "weighted"));
    // The key has its own.
    let bearer = format!("Bearer {OTHER_SECRET}");
    let got = super::client::post(
        gateway.data,
        "/v1/chat/completions",
        &[("authorization", bearer.as_str())],
        body.to_string(),
    );
    assert_eq!(route(&got), "priority;tier=1;of=2");
    // The request has its own, as a header and as a member, and neither reaches the provider.
    let got = gateway.chat_with(&[("x-portolan-routing", "lowest_cost")], body.to_string());
    assert_eq!(target(&got), "one");
    assert_eq!(got.header("x-portolan-loss"), None, "{got}");
    let mut wished = body.clone();
    wished["routing"] = json!("lowest_cost");
    assert_eq!(target(&gateway.chat(&wished)), "one");
    assert!(one.attempts().iter().all(|attempt| attempt.json().get("routing").is_none()));
    wished["routing"] = json!("fastest");
    assert_eq!(gateway.chat(&wished).refusal(400)["param"], "routing");
}

#[test]
fn regions_and_attributes_are_never_left() {
    let (eu, us) = (Upstream::always(answers::error(500, "no")), named("us"));
    let other = named("other");
    let rows =
        [("eu", &eu, ", region: eu, attributes: [zdr]", ""), ("us", &us, ", region: us", ", attributes: [hipaa]")];
    let key = |more: &str| {
        format!(
            "keys:\n  - {{ id: main, secret_sha256: \"{}\" }}\n  - {{ id: bound, secret_sha256: \"{}\"{more} }}\n",
            sha256(SECRET),
            sha256(OTHER_SECRET)
        )
    };
    let provider =
        format!("providers:\n  other: {{ dialect: openai_chat, base_url: \"{}\", api_key: k }}\n", other.v1());
    let config = |more: &str| {
        with(&rows, ", fallback: [rescue]", &key(more))
            .replace("providers:\n", &provider)
            .replace("models:\n", "models:\n  rescue: { targets: [{ provider: other, region: ap }] }\n")
    };
    let gateway = Gateway::start(&config(", regions: [eu]"));
    let mut body = ask("alias", "x");
    body["region"] = json!(["eu"]);
    gateway.chat(&body).refusal(500);
    let got = gateway.chat_with(&[("x-portolan-region", "eu")], ask("alias", "x").to_string());
    got.refusal(500);
    let mut body = ask("alias", "x");
    body["attributes"] = json!(["zdr"]);
    gateway.chat(&body).refusal(500);
    assert_eq!((us.count(), other.count()), (0, 0), "no fallback leaves the region");
    let bound = |gateway: &Gateway, body: &Value| {
        let bearer = format!("Bearer {OTHER_SECRET}");
        let headers = [("authorization", bearer.as_str())];
        super::client::post(gateway.data, "/v1/chat/completions", &headers, body.to_string())
    };
    bound(&gateway, &ask("alias", "x")).refusal(500);
    // A key's regions and a request's must both hold.
    body = ask("alias", "x");
    body["region"] = json!("us");
    assert_eq!(bound(&gateway, &body).refusal(400)["code"], "no_target_in_region");
    assert_eq!((us.count(), other.count()), (0, 0));
    // Without bounds, and within others.
    assert_eq!(target(&gateway.chat(&ask("alias", "x"))), "us");
    body["attributes"] = json!(["hipaa"]);
    assert_eq!(target(&gateway.chat(&body)), "us");
    body["attributes"] = json!(["hipaa", "zdr"]);
    assert_eq!(gateway.chat(&body).refusal(400)["code"], "no_target_with_attributes");
    let gateway = Gateway::start(&config(", attributes: [hipaa]"));
    assert_eq!(target(&bound(&gateway, &ask("alias", "x"))), "us");
    for attempt in us.attempts() {
        assert!(attempt.json().get("attributes").is_none(), "{attempt:?}");
    }
}

#[test]
fn the_nearest_comes_first() {
    let (eu, us) = (named("eu"), named("us"));
    let rows = [("eu", &eu, ", region: eu", ""), ("us", &us, ", region: us", "")];
    let keys = format!(
        "keys:\n  - {{ id: main, secret_sha256: \"{}\" }}\n  - {{ id: far, secret_sha256: \"{}\", home: us }}\n",
        sha256(SECRET),
        sha256(OTHER_SECRET)
    );
    let more = format!(
        "{keys}routing: {{ strategy: nearest, home: eu, distances: {{ eu: {{ eu: 0, us: 90 }}, us: {{ us: 0 }} }} }}\n"
    );
    let gateway = Gateway::start(&with(&rows, "", &more));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!((target(&got).as_str(), route(&got)), ("eu", "nearest;distance=0;of=2"));
    let bearer = format!("Bearer {OTHER_SECRET}");
    let headers = [("authorization", bearer.as_str())];
    for _ in 0..4 {
        let got = super::client::post(gateway.data, "/v1/chat/completions", &headers, ask("alias", "x").to_string());
        assert_eq!(target(&got), "us");
    }
}

#[test]
fn calls_beyond_a_limit_spill_over() {
    let slow = Upstream::start(|attempt| {
        let mut reply = answers::good(&attempt.json(), "slow");
        reply.before_head.push(Step::Sleep(600));
        reply
    });
    let spare = named("spare");
    let rows = [("slow", &slow, "", ", tier: 1, limits: { concurrency: 2 }"), ("spare", &spare, "", ", tier: 2")];
    let gateway = Gateway::start(&with(&rows, ", strategy: priority", ""));
    thread::scope(|scope| {
        for n in 0..6 {
            let gateway = &gateway;
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(n * 30));
                assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
            });
        }
    });
    assert_eq!((slow.count(), spare.count()), (2, 4));
    // Places come back, and requests a minute are counted.
    assert_eq!(target(&gateway.chat(&ask("alias", "x"))), "slow");
    let (one, two) = (named("one"), named("two"));
    let rows = [("one", &one, ", limits: { rpm: 3 }", ", tier: 1"), ("two", &two, "", ", tier: 2")];
    let gateway = Gateway::start(&with(&rows, ", strategy: priority", ""));
    let counts = spread(&gateway, &ask("alias", "x"), 8);
    assert_eq!((counts["one"], counts["two"]), (3, 5), "{counts:?}");
}

#[test]
fn a_spent_quota_is_believed_before_a_429_comes() {
    let spent = Upstream::start(|attempt| {
        answers::good(&attempt.json(), "last")
            .header("x-ratelimit-limit-requests", "60")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "1m0s")
    });
    let spare = named("spare");
    let rows = [("spent", &spent, "", ", tier: 1"), ("spare", &spare, "", ", tier: 2")];
    let gateway = Gateway::start(&with(&rows, ", strategy: priority", ""));
    let counts = spread(&gateway, &ask("alias", "x"), 6);
    assert_eq!((counts["spent"], counts["spare"]), (1, 5), "{counts:?}");
}

#[test]
fn a_key_pool_takes_turns_within_each_keys_limit() {
    let upstream = named("p");
    let keys = ", api_keys: [one, two, three], limits: { rpm: 2 }";
    let gateway = Gateway::start(&with(&[("p", &upstream, keys, "")], "", ""));
    for _ in 0..6 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let mut used = BTreeMap::new();
    for attempt in upstream.attempts() {
        *used.entry(attempt.header("authorization").unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(used.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}
