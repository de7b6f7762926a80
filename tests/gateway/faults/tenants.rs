//! Groups J and H, as far as they are of keys and of who administers them: who gets what, and what becomes of changes
//! when things go wrong.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::scaled;
use crate::answers;
use crate::client::{self, Connection};
use crate::gateway::{Gateway, SECRET, ask, config, sha256};
use crate::upstream::{Attempt, Upstream};

const NONE: Value = Value::Null;

fn fixture(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(answers::whole("hello"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1()), ("gpt-5", &upstream.v1())], more));
    (upstream, gateway)
}

/// Two teams, each with a project, a user and a key; the second value is the first team's administrator.
fn two_teams(gateway: &Gateway) -> (String, String) {
    let owner = gateway.token();
    for team in ["red", "blue"] {
        let put = |path: String, body: Value| {
            let got = gateway.admin(&owner, "PUT", &path, &body);
            assert_eq!(got.status, 201, "{got}");
        };
        put(
            format!("teams/{team}"),
            json!({"models": ["alias"], "functions": ["generate", "models"], "addresses": ["127.0.0.0/8"], "regions": ["eu"],
                   "expires": "2100-01-01"}),
        );
        put(format!("projects/{team}-web"), json!({ "team": team }));
        put(format!("users/{team}-ann"), json!({ "team": team }));
        gateway.make_key(&owner, &json!({"id": format!("{team}-key"), "project": format!("{team}-web")}));
    }
    let made = gateway.admin(&owner, "POST", "tokens", &json!({"id": "red-admin", "role": "admin", "team": "red"}));
    let red = made.json()["token"].as_str().unwrap().to_owned();
    (owner, red)
}

#[test]
fn j_02_ids_of_others_are_not_there() {
    let (_upstream, gateway) = fixture("");
    let (owner, red) = two_teams(&gateway);
    let mut asked = 0;
    for path in ["keys/blue-key", "projects/blue-web", "users/blue-ann", "teams/blue", "keys/main", "keys/nothing"] {
        let unknown = gateway.admin(&red, "GET", &path.replace("blue", "unheard-of"), &NONE);
        for (method, body) in [("GET", NONE), ("PATCH", json!({"disabled": true})), ("DELETE", NONE)] {
            if path.starts_with("teams") && method != "GET" {
                continue;
            }
            let got = gateway.admin(&red, method, path, &body);
            assert_eq!(got.status, 404, "{method} {path} {got}");
            let told =
                |got: &client::Response| (got.json()["error"]["code"].clone(), got.json()["error"]["message"].clone());
            assert_eq!(told(&got), told(&unknown), "the same as for what is nobody's");
            asked += 1;
        }
    }
    // Answers that are kept belong to the key that made them.
    let (one, other) = (gateway.make_key(&owner, &json!({})), gateway.make_key(&owner, &json!({})));
    let bearer = |secret: &str| format!("Bearer {secret}");
    let body = json!({"model": "alias", "input": "x"}).to_string();
    let made = client::post(gateway.data, "/v1/responses", &[("authorization", &bearer(&one))], &body);
    let path = format!("/v1/responses/{}", made.json()["id"].as_str().unwrap());
    let see = |secret: &str| client::get(gateway.data, &path, &[("authorization", &bearer(secret))]).status;
    assert_eq!((see(&one), see(&other), see(SECRET)), (200, 404, 404));
    println!("J-2: {} requests for what others have, 0 leaks", asked + 2);
}

#[test]
fn j_03_credentials_count_in_one_order_and_never_twice() {
    let (_upstream, gateway) = fixture("");
    let body = ask("alias", "x").to_string();
    let status = |path: &str, headers: &[(&str, &str)]| client::post(gateway.data, path, headers, &body).status;
    let chat = "/v1/chat/completions";
    let good = format!("Bearer {SECRET}");
    for (headers, wanted) in [
        (vec![], 401),
        (vec![("authorization", "Bearer")], 401),
        (vec![("authorization", "Bearer ")], 401),
        (vec![("authorization", "Basic eDp5")], 401),
        (vec![("x-api-key", "")], 401),
        (vec![("authorization", good.as_str()), ("authorization", "Bearer pk-other")], 401),
        (vec![("authorization", "Bearer pk-other"), ("authorization", good.as_str())], 401),
        (vec![("authorization", good.as_str()), ("x-api-key", "pk-other")], 200),
        (vec![("authorization", "Bearer pk-other"), ("x-api-key", SECRET)], 401),
        (vec![("x-api-key", SECRET)], 200),
        (vec![("cookie", SECRET)], 401),
    ] {
        assert_eq!(status(chat, &headers), wanted, "{headers:?}");
    }
    // Administrators' tokens let no call in, and callers' keys nobody in.
    let token = gateway.token();
    assert_eq!(status(chat, &[("authorization", &format!("Bearer {token}"))]), 401);
    assert_eq!(gateway.admin(SECRET, "GET", "self", &NONE).status, 401);
    let admin = |path: &str, headers: &[(&str, &str)]| client::get(gateway.admin, path, headers).status;
    for (path, headers) in [
        (format!("/admin/v1/self?key={token}"), vec![]),
        ("/admin/v1/self".to_owned(), vec![("x-api-key", token.as_str())]),
        ("/admin/v1/self".to_owned(), vec![("cookie", token.as_str())]),
    ] {
        assert_eq!(admin(&path, &headers), 401, "{path} {headers:?}");
    }
    println!("J-3: 17 ways to show a credential, 0 bypasses");
}

#[test]
fn j_04_nobody_gives_more_than_they_have() {
    let (_upstream, gateway) = fixture("tiers: { gold: { weight: 9 } }\n");
    let (owner, red) = two_teams(&gateway);
    let rules = json!({"limits": {"rpm": 60, "tpm": 1000, "concurrency": 4}, "budget": {"usd": 10}});
    assert_eq!(gateway.admin(&owner, "PATCH", "teams/red", &rules).status, 200);
    let wider = [
        json!({"limits": {"rpm": 61}}),
        json!({"limits": {"rps": 61}}),
        json!({"limits": {"tpm": 1001, "rpm": 1}}),
        json!({"limits": [{"of": "concurrency", "most": 5}]}),
        json!({"budget": {"usd": 10.01}}),
        json!({"budget": {"usd": 11, "per": "day", "time_zone": "Europe/Berlin", "hard": false}}),
        json!({"budgets": [{"usd": 1, "per": "total"}, {"usd": 20}]}),
        json!({"models": ["*"]}),
        json!({"models": ["alias", "gpt-5"]}),
        json!({"models": ["alias*"]}),
        json!({"functions": ["generate", "usage"]}),
        json!({"addresses": ["0.0.0.0/0"]}),
        json!({"addresses": ["127.0.0.1", "10.0.0.1"]}),
        json!({"regions": ["eu", "us"]}),
        json!({"expires": "2100-01-02"}),
        json!({"tier": "gold"}),
        json!({"weight": 1000}),
    ];
    let mut tried = 0;
    for fields in &wider {
        let mut body = fields.clone();
        body["project"] = json!("red-web");
        for (method, path, body) in [
            ("POST", "keys", &body),
            ("PATCH", "keys/red-key", fields),
            ("PATCH", "projects/red-web", fields),
            ("PATCH", "users/red-ann", fields),
        ] {
            if !path.starts_with("keys") && fields.get("weight").is_some() {
                continue;
            }
            let got = gateway.admin(&red, method, path, body);
            assert!(matches!(got.status, 403 | 422), "{method} {path} {body} {got}");
            tried += 1;
        }
    }
    for (method, path, body) in [
        ("PATCH", "teams/red", json!({"models": null})),
        ("POST", "tokens", json!({"id": "x", "role": "owner"})),
        ("POST", "tokens", json!({"id": "x", "role": "admin", "team": "red"})),
        ("PATCH", "keys/red-key", json!({"project": "blue-web"})),
        ("PATCH", "projects/red-web", json!({"team": null})),
    ] {
        let got = gateway.admin(&red, method, path, &body);
        assert!(matches!(got.status, 403 | 404), "{method} {path} {got}");
        tried += 1;
    }
    // Nor do those who have all rights make a child say more; and what narrows is anybody's.
    let got = gateway.admin(&owner, "PATCH", "keys/red-key", &json!({"models": ["*"]}));
    assert_eq!(got.status, 422, "{got}");
    let narrower = json!({"models": ["alias"], "functions": ["generate"], "addresses": ["127.0.0.1"], "expires": "2099-01-01",
        "limits": {"rpm": 60, "concurrency": 4}, "budget": {"usd": 10}});
    assert_eq!(gateway.admin(&red, "PATCH", "keys/red-key", &narrower).status, 200);
    let verdict = gateway.admin(&owner, "GET", "keys/red-key", &NONE).json();
    assert_eq!(verdict["document"]["models"], json!(["alias"]));
    // What is above may be narrowed later: nothing else of the key is stuck for that, and nothing of it can be widened.
    assert_eq!(gateway.admin(&owner, "PATCH", "teams/red", &json!({"limits": {"rpm": 6}})).status, 200);
    for (fields, status) in [
        (json!({"tags": {"a": "b"}}), 200),
        (json!({"limits": {"rpm": 61}}), 422),
        (json!({"limits": {"rpm": 6}}), 200),
    ] {
        assert_eq!(gateway.admin(&red, "PATCH", "keys/red-key", &fields).status, status, "{fields}");
    }
    println!("J-4: {tried} ways to grant oneself more, 0 widenings");
}

#[test]
fn j_05_a_key_that_ends_is_refused_at_once_however_warm_it_is() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let mut slowest = Duration::ZERO;
    let rounds = scaled(10);
    for round in 0..rounds {
        for (number, how) in ["revoke", "disable", "expire", "rotate"].iter().enumerate() {
            let id = format!("k-{round}-{number}");
            let secret = gateway.make_key(&token, &json!({ "id": id }));
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                // It is in use all the time.
                let calls = scope.spawn(|| {
                    let mut last = 200;
                    while !stop.load(Ordering::Relaxed) {
                        let now = gateway.status_of(&secret, "alias");
                        assert!(last == 200 || now != 200, "resurrected");
                        last = now;
                    }
                });
                thread::sleep(Duration::from_millis(5));
                let begun = Instant::now();
                let path = format!("keys/{id}");
                let got = match *how {
                    "revoke" => gateway.admin(&token, "DELETE", &path, &NONE),
                    "disable" => gateway.admin(&token, "PATCH", &path, &json!({"disabled": true})),
                    "expire" => gateway.admin(&token, "PATCH", &path, &json!({"expires": "2020-01-01"})),
                    _ => gateway.admin(&token, "POST", &format!("{path}/rotate"), &json!({"overlap": "0s"})),
                };
                assert!(got.status < 300, "{got}");
                while gateway.status_of(&secret, "alias") == 200 {
                    assert!(begun.elapsed() < Duration::from_secs(1), "{how}: still good");
                }
                slowest = slowest.max(begun.elapsed());
                stop.store(true, Ordering::Relaxed);
                calls.join().unwrap();
            });
        }
    }
    println!(
        "J-5: {} keys ended in use, refused within {} ms at most, 0 resurrections",
        rounds * 4,
        slowest.as_millis()
    );
}

#[test]
fn j_06_secrets_that_look_alike_are_told_apart() {
    // Each shares its beginning, or its end, with another one, up to all but the last character.
    let base = "pk-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut secrets = vec![base.to_owned()];
    for length in 8..=63 {
        secrets.push(format!("{}-{length}", &base[..length]));
        secrets.push(format!("pk-{length}-{}", &base[base.len() - length..]));
    }
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    for (number, secret) in secrets.iter().enumerate() {
        create_with(&gateway, &token, number, secret);
    }
    let mut wrong = 0;
    for (number, secret) in secrets.iter().enumerate() {
        assert_eq!(gateway.status_of(secret, "alias"), 200, "{number}");
        for near in [&secret[..secret.len() - 1], &format!("{secret}x"), &secret.to_uppercase()] {
            wrong += usize::from(gateway.status_of(near, "alias") != 401);
        }
    }
    assert_eq!(wrong, 0);
    gateway.usage(SECRET);
    let rows: HashSet<String> = gateway.ledger("key").into_iter().collect();
    for number in 0..secrets.len() {
        assert!(rows.contains(&format!("k{number} 1")), "k{number} was called once: {rows:?}");
    }
    println!("J-6: {} alike secrets, {} near misses, 0 wrong identities", secrets.len(), secrets.len() * 3);
}

fn create_with(gateway: &Gateway, token: &str, number: usize, secret: &str) {
    let got =
        gateway.admin(token, "POST", "keys", &json!({"id": format!("k{number}"), "secret_sha256": sha256(secret)}));
    assert_eq!(got.status, 201, "{got}");
    assert!(got.json().get("secret").is_none());
}

#[test]
fn j_08_who_is_named_in_a_request_is_not_who_pays() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let secret = gateway.make_key(&token, &json!({"id": "payer"}));
    let bearer = format!("Bearer {secret}");
    for name in [
        "x-user-id",
        "x-openai-user-id",
        "x-portolan-user",
        "x-portolan-key",
        "openai-organization",
        "x-forwarded-user",
    ] {
        let mut body = ask("alias", "x");
        body["user"] = json!("main");
        body["metadata"] = json!({"user_id": "main", "key": "main", "project": "main"});
        let headers = [("authorization", bearer.as_str()), (name, "main")];
        assert_eq!(client::post(gateway.data, "/v1/chat/completions", &headers, body.to_string()).status, 200);
    }
    assert_eq!(gateway.ledger("key"), ["payer 6"]);
    println!("J-8: 6 requests in another's name, 0 misbilled");
}

#[test]
fn j_09_headers_of_proxies_are_nobodys_word() {
    let (upstream, gateway) = fixture("");
    let token = gateway.token();
    let secret = gateway.make_key(&token, &json!({"id": "inside", "addresses": ["10.0.0.0/8"]}));
    let bearer = format!("Bearer {secret}");
    for (name, value) in [
        ("x-forwarded-for", "10.1.1.1"),
        ("forwarded", "for=10.1.1.1"),
        ("x-real-ip", "10.1.1.1"),
        ("true-client-ip", "10.1.1.1"),
        ("cf-connecting-ip", "10.1.1.1"),
        ("x-client-ip", "10.1.1.1"),
    ] {
        let headers = [("authorization", bearer.as_str()), (name, value)];
        let got = client::post(gateway.data, "/v1/chat/completions", &headers, ask("alias", "x").to_string());
        assert_eq!(got.status, 403, "{name} {got}");
    }
    assert_eq!(upstream.count(), 0);
    println!("J-9: 6 headers of proxies, 0 accepted");
}

#[test]
fn j_11_what_is_signed_says_when_and_nothing_is_signed_with_nothing() {
    // We send webhooks and take none: what a receiver needs to refuse forgeries and replays is that the secret is one, and that
    // what is signed says when.
    let upstream = Upstream::always(answers::whole("hello"));
    let failing = || crate::upstream::Reply::json(500, "no");
    let hook = Upstream::each(vec![failing(), failing(), crate::upstream::Reply::json(200, "{}")]);
    let of = |secret: &str| {
        let hooks = format!("alerts: {{ webhooks: [{{ url: \"{}/hook\", secret: {secret} }}] }}\n", hook.v1());
        let text = config(&[("alias", &upstream.v1())], &hooks);
        let text =
            text.replacen("model: alias-real", "model: alias-real, price: { input: 0, output: 0, request: 0.01 }", 1);
        text.replacen("models: [\"*\"] }", "models: [\"*\"], budget: { usd: 0.04, alerts: [1] } }", 1)
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portolan.yaml");
    for empty in ["\"\"", "\" \"", "\"${NOTHING:-}\"", "\"${NOTHING}\""] {
        std::fs::write(&file, of(empty)).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_portolan")).arg("check").arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(!checked.status.success() && told.contains("alerts.webhooks"), "{empty}: {told}");
    }
    let gateway = Gateway::start(&of("whsec-0123456789"));
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let told = hook.wait("the alert, three times", Duration::from_secs(15), |journal| journal.len() == 3);
    let signed: Vec<(u64, &str)> = told
        .iter()
        .map(|told| {
            let text = told.header("x-portolan-signature").unwrap();
            let (at, digest) = text.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
            (at.parse().unwrap(), digest)
        })
        .collect();
    // The same event, signed anew with the time of each sending: an old one cannot pass for a new one. Two sendings may be of
    // the same second, the first and the third are not.
    assert_eq!(told[0].header("x-portolan-event"), told[2].header("x-portolan-event"));
    assert!(signed[2].0 > signed[0].0 && signed[2].1 != signed[0].1, "{signed:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(signed.iter().all(|(at, _)| now.abs_diff(*at) < 30), "{signed:?}");
}

#[test]
fn j_12_no_browser_and_no_guess_gets_in() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let bearer = format!("Bearer {token}");
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        Connection::open(gateway.admin).exchange(&client::request(method, path, headers, body.as_bytes()))
    };
    // Preflights, foreign origins, forms, cookies.
    let origin = ("origin", "https://evil.example");
    let ask_first =
        [origin, ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    for got in [
        send("OPTIONS", "/admin/v1/keys", &ask_first, ""),
        send("GET", "/metrics", &[origin], ""),
        send("GET", "/admin/v1/keys", &[origin, ("authorization", &bearer)], ""),
    ] {
        assert!(
            got.headers.iter().all(|(name, _)| !name.starts_with("access-control-") && name != "set-cookie"),
            "{got}"
        );
        assert!(got.header("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors 'none'")));
        assert_eq!(
            (got.header("cache-control"), got.header("x-content-type-options")),
            (Some("no-store"), Some("nosniff"))
        );
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let got = send("POST", "/admin/v1/keys", &[("authorization", &bearer), ("content-type", kind)], "{}");
        assert_eq!(got.status, 415, "{kind} {got}");
    }
    assert_eq!(
        send("POST", "/admin/v1/keys", &[("cookie", &bearer), ("content-type", "application/json")], "{}").status,
        401
    );
    // Guessing gets slower and no further; who has a token waits for nobody.
    let (guesses, held, slow) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for thread in 0..40 {
            let (guesses, held, send) = (&guesses, &held, &send);
            scope.spawn(move || {
                for number in 0..5 {
                    let guess = format!("Bearer pa-{thread}-{number}");
                    let got = send("GET", "/admin/v1/self", &[("authorization", &guess)], "");
                    assert!(matches!(got.status, 401 | 429), "{got}");
                    guesses.fetch_add(1, Ordering::Relaxed);
                    held.fetch_add(usize::from(got.status == 429), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..10 {
            let begun = Instant::now();
            assert_eq!(gateway.admin(&token, "GET", "self", &NONE).status, 200);
            slow.fetch_or(begun.elapsed() > Duration::from_secs(2), Ordering::Relaxed);
        }
    });
    assert!(!slow.into_inner(), "who has a token waited for those who guess");
    assert!(held.into_inner() > 0, "nobody who guessed was held back");
    println!("J-12: {} guesses and 7 ways of browsers, 0 passes", guesses.into_inner());
}

#[test]
fn j_13_every_answer_is_its_askers() {
    let upstream = Upstream::start(|attempt: &Attempt| {
        let said = attempt.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        answers::whole(&said)
    });
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], ""));
    let token = gateway.token();
    let tenants: Vec<(String, String)> = (0..20)
        .map(|n| (format!("tenant-{n}"), gateway.make_key(&token, &json!({"id": format!("tenant-{n}")}))))
        .collect();
    let (calls, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let each = scaled(20);
    thread::scope(|scope| {
        for (id, secret) in &tenants {
            let (gateway, calls, left) = (&gateway, &calls, &left);
            scope.spawn(move || {
                let bearer = format!("Bearer {secret}");
                let mut connection = Connection::open(gateway.data);
                for number in 0..each {
                    let words = format!("{id} says {number}");
                    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                    let body = ask("alias", &words).to_string();
                    let request = client::request("POST", "/v1/chat/completions", &headers, body.as_bytes());
                    if number % 5 == 4 {
                        // Left in the middle, on a connection that others' calls may come after.
                        connection.send(&request).unwrap();
                        connection = Connection::open(gateway.data);
                        left.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let got = connection.exchange(&request);
                    assert_eq!(got.status, 200, "{got}");
                    assert_eq!(got.json()["choices"][0]["message"]["content"], json!(words), "another's answer");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!(
        "J-13: {} answers to {} tenants, {} calls left, 0 mix-ups",
        calls.into_inner(),
        tenants.len(),
        left.into_inner()
    );
}

#[test]
fn j_14_a_pattern_means_what_it_says() {
    let (upstream, gateway) = fixture("");
    let token = gateway.token();
    let secret = gateway.make_key(&token, &json!({"models": ["gpt-*"]}));
    assert_eq!(gateway.status_of(&secret, "gpt-5"), 200);
    let before = upstream.count();
    let others = [
        "alias",
        "ALIAS",
        "GPT-5",
        "Gpt-5",
        " gpt-5",
        "gpt-5 ",
        "gpt-5\u{0}",
        "gpt-5\n",
        "gрt-5",
        "gpt–5",
        "gpt-５",
        "*",
        "gpt-*",
        "alias-provider/alias-real",
        "../gpt-5",
        "gpt%2D5",
        "gpt-5,alias",
        "alias#gpt-5",
    ];
    for name in others {
        let status = gateway.status_of(&secret, name);
        assert!(matches!(status, 400 | 403 | 404), "{name:?} {status}");
    }
    for fallback in ["alias", "alias-provider/alias-real"] {
        let mut body = ask("gpt-*", "x");
        body["model"] = json!("gpt-none");
        body["fallback"] = json!([fallback]);
        let bearer = format!("Bearer {secret}");
        let got = client::post(gateway.data, "/v1/chat/completions", &[("authorization", &bearer)], body.to_string());
        assert!(got.status >= 400, "{got}");
    }
    assert_eq!(upstream.count(), before, "nothing went out");
    println!("J-14: {} names, 0 bypasses", others.len() + 2);
}

#[test]
fn h_08_no_change_is_lost_while_the_file_is_read_anew() {
    let (upstream, gateway) = fixture("");
    let token = gateway.token();
    gateway.make_key(&token, &json!({"id": "k"}));
    // A level has 64 members of metadata at most.
    let (writers, each) = (6, scaled(10).min(10));
    let (done, conflicts) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                let more = format!("projects: {{ p{round}: {{}} }}\n");
                gateway.reload(&config(&[("alias", &upstream.v1()), ("gpt-5", &upstream.v1())], &more));
                thread::sleep(Duration::from_millis(30));
            }
            round
        });
        let all: Vec<_> = (0..writers)
            .map(|writer| {
                let (gateway, token, conflicts) = (&gateway, &token, &conflicts);
                scope.spawn(move || {
                    for number in 0..each {
                        // One half says which version it saw; those that come too late are told, and try again.
                        let mut member = serde_json::Map::new();
                        member.insert(format!("w{writer}-{number}"), json!("x"));
                        let body = json!({ "metadata": member });
                        loop {
                            let tag = gateway.admin(token, "GET", "keys/k", &NONE).header("etag").unwrap().to_owned();
                            let more = [("if-match", tag.as_str())];
                            let more = if writer % 2 == 0 { &more[..] } else { &[] };
                            let got = gateway.admin_with(token, "PATCH", "keys/k", more, &body);
                            match got.status {
                                200 => break,
                                412 => conflicts.fetch_add(1, Ordering::Relaxed),
                                _ => panic!("{got}"),
                            };
                        }
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        assert!(reloads.join().unwrap() > 1);
    });
    let written = gateway.admin(&token, "GET", "keys/k", &NONE).json()["document"]["metadata"].clone();
    let lost = writers * each - written.as_object().unwrap().len();
    assert_eq!(lost, 0, "{written}");
    assert_eq!(gateway.admin(&token, "GET", "audit/verify", &NONE).json()["flaws"], json!([]));
    println!("H-8: {} changes beside reloads, {} told to look again, 0 lost", writers * each, conflicts.into_inner());
}

#[test]
fn h_09_there_is_no_default_credential() {
    let (_upstream, gateway) = fixture("");
    let printed = gateway.token();
    let (_other_upstream, other) = fixture("");
    assert_ne!(printed, other.token(), "random, for each");
    for guess in ["", "admin", "password", "pa-", "pa-admin", "bootstrap", "sk-1234", "root:123456"] {
        assert_eq!(gateway.admin(guess, "GET", "self", &NONE).status, 401, "{guess}");
    }
    // An empty or a poor secret is no start, rather than an open door.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portolan.yaml");
    let port = crate::gateway::free_port;
    let text = format!(
        "listen: 127.0.0.1:{}\nadmin: {{ listen: \"127.0.0.1:{}\" }}\nstate_dir: {}\n",
        port(),
        port(),
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    for given in ["", " ", "short", "with blanks in the middle of it", "pa-0123456789abcdef\n"] {
        let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["run", "--config"])
            .arg(&file)
            .env("PORTOLAN_ADMIN_TOKEN", given)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("PORTOLAN_ADMIN_TOKEN"), "{given:?}: {told}");
    }
    println!("H-9: 8 guesses and 5 poor secrets, 0 default credentials");
}

#[test]
fn h_10_a_kill_while_changes_are_written_leaves_whole_ones() {
    let (_upstream, mut gateway) = fixture("");
    let token = gateway.token();
    let kills = scaled(5);
    // What was acknowledged, by id; and all that may have been written.
    let mut good: BTreeMap<String, String> = BTreeMap::new();
    let mut attempted = 0;
    for kill in 0..kills {
        let stop = AtomicBool::new(false);
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (stop, token, admin) = (&stop, &token, gateway.admin);
                    scope.spawn(move || {
                        let (mut acknowledged, mut tried) = (Vec::new(), 0);
                        let bearer = format!("Bearer {token}");
                        while !stop.load(Ordering::Relaxed) {
                            let id = format!("k-{kill}-{writer}-{tried}");
                            tried += 1;
                            let headers = [
                                ("authorization", bearer.as_str()),
                                ("content-type", "application/json"),
                                ("connection", "close"),
                            ];
                            let body = json!({ "id": id }).to_string();
                            let request = client::request("POST", "/admin/v1/keys", &headers, body.as_bytes());
                            let Ok(stream) = std::net::TcpStream::connect(admin) else { break };
                            drop(stream);
                            let mut connection = Connection::open(admin);
                            if connection.send(&request).is_err() {
                                break;
                            }
                            let Ok(got) = connection.response() else { break };
                            if got.status == 201 && got.whole {
                                acknowledged.push((id, got.json()["secret"].as_str().unwrap().to_owned()));
                            }
                        }
                        (acknowledged, tried)
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(150 + 40 * kill as u64));
            gateway.kill9();
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().filter_map(|writer| writer.join().ok()).collect::<Vec<_>>()
        });
        for (acknowledged, tried) in written {
            good.extend(acknowledged);
            attempted += tried;
        }
        gateway.start_again();
        let verdict: Value = serde_json::from_str(&gateway.command(&["audit", "verify", "--json"])).unwrap();
        assert_eq!(verdict["flaws"], json!([]), "{verdict}");
    }
    assert!(good.len() > kills, "hardly anything was written: {}", good.len());
    for (id, secret) in &good {
        assert_eq!(gateway.status_of(secret, "alias"), 200, "{id} was acknowledged");
        let shown = gateway.admin(&token, "GET", &format!("keys/{id}"), &NONE).json();
        assert_eq!(shown["secrets"].as_array().map(Vec::len), Some(1), "{shown}");
    }
    println!("H-10: {kills} kills, {attempted} changes begun, {} acknowledged, 0 half states", good.len());
}
