//! Callers who bring a token instead of a key: believed by the keys of its issuer, refused for every flaw, and held to the
//! project that it names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::answers;
use super::client::{self, Response};
use super::gateway::{Gateway, SECRET, ask, config};
use super::upstream::{Reply, Upstream};

/// An issuer of tokens with a server of its own.
pub struct Issuer {
    server: Upstream,
    keys: Arc<Mutex<Vec<(String, EcdsaKeyPair)>>>,
    fetched: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

fn pair() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Issuer {
    pub fn start() -> Issuer {
        let keys = Arc::new(Mutex::new(vec![("one".to_owned(), pair())]));
        let (fetched, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (shown, count, questions) = (keys.clone(), fetched.clone(), asked.clone());
        let server = Upstream::start(move |attempt| {
            let base = format!("http://{}", attempt.header("host").unwrap());
            let told = match attempt.path.as_str() {
                "/.well-known/openid-configuration" => json!({"issuer": base, "jwks_uri": format!("{base}/keys")}),
                "/keys" => {
                    count.fetch_add(1, Ordering::SeqCst);
                    let jwk = |(id, pair): &(String, EcdsaKeyPair)| {
                        let point = pair.public_key().as_ref();
                        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": URL.encode(&point[1..33]), "y": URL.encode(&point[33..])})
                    };
                    json!({"keys": shown.lock().unwrap().iter().map(jwk).collect::<Vec<_>>()})
                }
                "/introspect" => {
                    questions.fetch_add(1, Ordering::SeqCst);
                    // RFC 6749 section 2.3.1: "gateway" and "s+c", both form-encoded.
                    assert_eq!(attempt.header("authorization"), Some("Basic Z2F0ZXdheTpzJTJCYw=="));
                    match attempt.text() {
                        text if text.starts_with("token=admin%2Btoken&") => {
                            json!({"active": true, "sub": "ann", "aud": "portolan-admin", "groups": ["owners"]})
                        }
                        text if text.starts_with("token=good%2Btoken&") => {
                            json!({"active": true, "sub": "ann", "aud": "portolan", "team": "red"})
                        }
                        _ => json!({"active": false}),
                    }
                }
                _ => return Reply::json(404, "{}"),
            };
            Reply::json(200, told.to_string())
        });
        Issuer { server, keys, fetched, asked }
    }

    pub fn name(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// A token as callers have it, changed.
    pub fn token(&self, kid: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims =
            json!({"iss": self.name(), "sub": "ann", "aud": "portolan", "exp": now() + 600, "team": "red"});
        change(&mut claims);
        let header = json!({"alg": "ES256", "kid": kid});
        let signed = format!("{}.{}", URL.encode(header.to_string()), URL.encode(claims.to_string()));
        let keys = self.keys.lock().unwrap();
        let (_, pair) = keys.iter().find(|(id, _)| id == kid).unwrap_or(&keys[0]);
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL.encode(signature))
    }

    fn gateway(&self, upstream: &Upstream, more: &str) -> Gateway {
        let tree = format!(
            "projects: {{ web: {{ limits: {{ rpm: 6 }} }}, shop: {{ models: [\"nothing\"] }} }}\n\
             issuers:\n  corp:\n    issuer: {}\n    audience: portolan\n    claims: {{ project: team }}\n    \
             projects: {{ red: web, blue: shop }}\n    callers: {{ limits: {{ rpm: 4 }}, tags: {{ by: token }} }}\n{more}",
            self.name()
        );
        Gateway::start(&config(&[("alias", &upstream.v1())], &tree))
    }
}

fn call(gateway: &Gateway, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let body = ask("alias", "x").to_string();
    client::post(gateway.data, "/v1/chat/completions", &[("authorization", &bearer)], body)
}

#[track_caller]
fn refused(got: &Response, status: u16, code: &str) -> String {
    let error = got.refusal(status);
    assert_eq!(error["code"], code, "{got}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_is_a_key_of_its_bearer() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, "");
    let token = issuer.token("one", |_| {});
    for left in [3, 2] {
        let got = call(&gateway, &token);
        assert_eq!(got.status, 200, "{got}");
        assert_eq!(got.header("x-ratelimit-remaining-requests"), Some(left.to_string().as_str()), "{got}");
    }
    // Another token of the same bearer has no limits of its own, and another bearer has.
    let again = issuer.token("one", |claims| claims["jti"] = json!("2"));
    let got = call(&gateway, &again);
    assert_eq!((got.status, got.header("x-ratelimit-remaining-requests")), (200, Some("1")), "{got}");
    let other = issuer.token("one", |claims| claims["sub"] = json!("bob with a long name/\u{1F600}"));
    for status in [200, 200, 200, 429] {
        let got = call(&gateway, &other);
        assert_eq!(got.status, status, "{got}");
        if status == 429 {
            assert!(refused(&got, 429, "rate_limit_exceeded").contains("project `web`"), "six of all bearers: {got}");
        }
    }
    // Keys go on as they are, and each bearer has a row of its own.
    assert_eq!(call(&gateway, SECRET).status, 200);
    let rows = gateway.ledger("key,project,tag.by");
    assert!(rows.contains(&"jwt:corp:ann web token 3".to_owned()), "{rows:?}");
    assert!(rows.iter().any(|row| row.starts_with("jwt:corp:#") && row.ends_with(" web token 3")), "{rows:?}");
    assert!(!gateway.logs().contains(&token));
    assert_eq!(issuer.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn tokens_with_flaws_are_refused() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, "");
    let good = issuer.token("one", |_| {});
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let none = URL.encode(r#"{"alg":"none"}"#);
    let symmetric = URL.encode(r#"{"alg":"HS256","kid":"one"}"#);
    let tail =
        format!("{}{}", &signature[..signature.len() - 4], if signature.ends_with("AAAA") { "BBBB" } else { "AAAA" });
    for (token, told) in [
        (format!("{none}.{claims}."), "algorithm not allowed"),
        (format!("{symmetric}.{claims}.{signature}"), "algorithm not allowed"),
        (format!("{head}.{claims}.{tail}"), "wrong signature"),
        (issuer.token("one", |claims| claims["aud"] = json!("others")), "another audience"),
        (issuer.token("one", |claims| claims["iss"] = json!("https://evil.example")), "unknown issuer"),
        (issuer.token("one", |claims| claims["exp"] = json!(now() - 61)), "expired"),
        (issuer.token("one", |claims| claims["nbf"] = json!(now() + 90)), "not valid yet"),
        (issuer.token("one", |claims| claims["sub"] = json!("")), "without subject or expiry"),
    ] {
        // Before and after a good one with nearly the same text was believed (J-6).
        for _ in 0..2 {
            let got = call(&gateway, &token);
            assert!(refused(&got, 401, "invalid_token").contains(told), "{got}");
            assert_eq!(call(&gateway, SECRET).status, 200);
        }
        if told == "wrong signature" {
            assert_eq!(call(&gateway, &good).status, 200);
        }
    }
    let got = call(&gateway, &issuer.token("one", |claims| claims["team"] = json!("green")));
    assert!(refused(&got, 403, "unknown_tenant").contains("`green`"), "{got}");
    let got = call(&gateway, &issuer.token("one", |claims| drop(claims.as_object_mut().unwrap().remove("team"))));
    refused(&got, 403, "unknown_tenant");
    // And what the project forbids is forbidden.
    refused(&call(&gateway, &issuer.token("one", |claims| claims["team"] = json!("blue"))), 403, "model_not_allowed");
    assert_eq!(gateway.metric("portolan_bearer_tokens_total", &["result=\"expired\"", "issuer=\"corp\""]), 2.0);
}

#[test]
fn keys_that_are_rotated_are_found_and_nobody_can_make_us_look_for_ever() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, "");
    assert_eq!(call(&gateway, &issuer.token("one", |_| {})).status, 200);
    // Tokens by keys that do not exist, many at once: the issuer is asked once in ten seconds at most.
    thread::scope(|scope| {
        for n in 0..12 {
            let (gateway, issuer) = (&gateway, &issuer);
            scope.spawn(move || {
                refused(&call(gateway, &issuer.token(&format!("none{n}"), |_| {})), 401, "invalid_token")
            });
        }
    });
    assert!(issuer.fetched.load(Ordering::SeqCst) <= 2, "{}", issuer.fetched.load(Ordering::SeqCst));
    thread::sleep(Duration::from_millis(10_200));
    // The key is changed: the first call with the new one waits for it and is served.
    *issuer.keys.lock().unwrap() = vec![("two".to_owned(), pair())];
    let old = issuer.token("one", |_| {});
    assert_eq!(call(&gateway, &issuer.token("two", |_| {})).status, 200);
    refused(&call(&gateway, &old), 401, "invalid_token");
}

#[test]
fn an_issuer_that_is_down_stops_no_known_caller() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, "");
    let token = issuer.token("one", |_| {});
    assert_eq!(call(&gateway, &token).status, 200);
    issuer.server.set_reply(Reply::json(500, "{}"));
    assert_eq!(call(&gateway, &token).status, 200);
    assert_eq!(
        call(&gateway, &issuer.token("one", |claims| claims["jti"] = json!("x"))).status,
        200,
        "by the keys from before"
    );
    // One that never told its keys: nobody can say whether a token is good.
    let silent = Issuer::start();
    silent.server.set_reply(Reply::json(500, "{}"));
    let gateway = silent.gateway(&upstream, "");
    let got = call(&gateway, &silent.token("one", |_| {}));
    refused(&got, 503, "issuer_unavailable");
    assert_eq!(call(&gateway, SECRET).status, 200);
}

#[test]
fn what_only_its_issuer_can_read_is_asked_about_once() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let asks = format!(
        "    introspection: {{ url: \"{}/introspect\", client_id: gateway, client_secret: \"s+c\" }}\n",
        issuer.name()
    );
    let gateway = issuer.gateway(&upstream, &asks);
    for _ in 0..3 {
        let got = call(&gateway, "good+token");
        assert_eq!(got.status, 200, "{got}");
        refused(&call(&gateway, "good+tokem"), 401, "invalid_token");
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2, "each once");
    assert_eq!(call(&gateway, SECRET).status, 200);
    call(&gateway, "pk-unknown").refusal(401);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2, "keys of ours are nobody else's affair");
    assert!(gateway.ledger("key").contains(&"jwt:corp:ann 3".to_owned()));
}

const ADMINISTRATORS: &str = "    administrators:\n      audience: portolan-admin\n      claim: groups\n      roles:\n        \
    - { value: owners, role: owner }\n        - { value: leads, role: admin, team_claim: department }\n";

fn administering(issuer: &Issuer, change: impl FnOnce(&mut Value)) -> String {
    issuer.token("one", |claims| {
        claims["aud"] = json!("portolan-admin");
        claims["groups"] = json!(["owners"]);
        change(claims);
    })
}

#[test]
fn who_has_a_role_by_a_token_administers_and_is_named_in_the_log() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, ADMINISTRATORS);
    let owner = administering(&issuer, |claims| claims["sub"] = json!("auth0|ann+ops@example.com"));
    let myself = |token: &str| gateway.admin(token, "GET", "self", &Value::Null);
    assert_eq!(myself(&owner).json(), json!({"id": "jwt:corp:auth0|ann+ops@example.com", "role": "owner"}));
    assert_eq!(gateway.admin(&owner, "PUT", "teams/search", &json!({})).status, 201);
    let lead = administering(&issuer, |claims| {
        claims["sub"] = json!("bob\n the second");
        claims["groups"] = json!(["leads", "others"]);
        claims["department"] = json!(["somewhere", "search"]);
    });
    let who = myself(&lead).json();
    assert_eq!((&who["role"], &who["team"]), (&json!("admin"), &json!("search")), "{who}");
    assert!(who["id"].as_str().unwrap().starts_with("jwt:corp:#"), "{who}");
    assert_eq!(gateway.admin(&lead, "PUT", "projects/find", &json!({"team": "search"})).status, 201);
    assert_eq!(gateway.admin(&lead, "PUT", "teams/other", &json!({})).status, 403);
    let log = gateway.admin(&owner, "GET", "audit", &Value::Null).json();
    let actors: Vec<_> = log["data"].as_array().unwrap().iter().map(|entry| entry["actor"].clone()).collect();
    assert_eq!(actors[..2], [who["id"].clone(), json!("jwt:corp:auth0|ann+ops@example.com")], "{log}");
    assert_eq!(gateway.admin(&owner, "GET", "audit/verify", &Value::Null).json()["flaws"], json!([]));
    assert!(!gateway.logs().contains(&owner) && !gateway.logs().contains(&lead));
}

#[test]
fn a_token_for_calls_administers_nothing_and_one_for_administration_makes_no_call() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let gateway = issuer.gateway(&upstream, ADMINISTRATORS);
    let status = |token: &str| gateway.admin(token, "GET", "self", &Value::Null).status;
    let good = administering(&issuer, |_| {});
    assert_eq!((status(&good), call(&gateway, &good).status), (200, 401));
    let callers = issuer.token("one", |claims| claims["groups"] = json!(["owners"]));
    assert_eq!((status(&callers), call(&gateway, &callers).status), (401, 200));
    let (head, tail) = good.rsplit_once('.').unwrap();
    let changed = if tail.starts_with("AAAA") { "BBBB" } else { "AAAA" };
    for (token, wanted) in [
        (format!("{head}.{changed}{}", &tail[4..]), 401),
        (administering(&issuer, |claims| claims["exp"] = json!(now() - 61)), 401),
        (administering(&issuer, |claims| claims["iss"] = json!("https://evil.example")), 401),
        (administering(&issuer, |claims| claims["groups"] = json!(["strangers"])), 403),
        (administering(&issuer, |claims| claims["groups"] = json!(["leads"])), 403),
        (administering(&issuer, |claims| claims["groups"] = json!({"owners": true})), 403),
        (
            administering(&issuer, |claims| {
                claims["groups"] = json!("leads");
                claims["department"] = json!("nowhere");
            }),
            403,
        ),
        ("opaque".to_owned(), 401),
    ] {
        assert_eq!(status(&token), wanted, "{token}");
    }
    // An issuer that nobody has given administrators gives none.
    let plain = issuer.gateway(&upstream, "");
    assert_eq!(plain.admin(&good, "GET", "self", &Value::Null).status, 401);
    // One that never told its keys: nobody can say.
    let silent = Issuer::start();
    silent.server.set_reply(Reply::json(500, "{}"));
    let gateway = silent.gateway(&upstream, ADMINISTRATORS);
    let got = gateway.admin(&administering(&silent, |_| {}), "GET", "self", &Value::Null);
    assert_eq!((got.status, &got.json()["error"]["code"]), (503, &json!("issuer_unavailable")), "{got}");
    assert_eq!(gateway.admin(&gateway.token(), "GET", "self", &Value::Null).status, 200, "our own go on");
}

#[test]
fn an_administrators_token_that_only_its_issuer_can_read_is_asked_about_once() {
    let (upstream, issuer) = (Upstream::always(answers::whole("fine")), Issuer::start());
    let asks = format!(
        "    introspection: {{ url: \"{}/introspect\", client_id: gateway, client_secret: \"s+c\" }}\n{ADMINISTRATORS}",
        issuer.name()
    );
    let gateway = issuer.gateway(&upstream, &asks);
    for _ in 0..3 {
        let got = gateway.admin("admin+token", "GET", "self", &Value::Null);
        assert_eq!(got.json()["id"], "jwt:corp:ann", "{got}");
        assert_eq!(gateway.admin("admin+tokem", "GET", "self", &Value::Null).status, 401);
        assert_eq!(gateway.admin("pa-guessed", "GET", "self", &Value::Null).status, 401);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2, "each once");
    assert_eq!(gateway.admin("good+token", "GET", "self", &Value::Null).status, 401, "it is for calls");
    refused(&call(&gateway, "admin+token"), 401, "invalid_token");
}
