//! K-1, K-2, K-3, K-5, K-6: secrets of every kind are planted, everything is done that can be done with them, and then
//! all that was said and kept is searched for them.
//!
//! What is searched: the log at its most talkative, first the product's own lines and then those of every library; each
//! answer of both ports, head and body; metrics; what commands print; every file below the state directory, while it is in
//! use and after the end. A secret that is shown on purpose (a new key's, the first start's) is counted: once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::search::{Found, Planted, Search, can_find};
use crate::bearers::Issuer;
use crate::callers::{CALLERS, Caller};
use crate::client::{self, Connection, Response};
use crate::gateway::{Gateway, PROVIDER_KEY, sha256};
use crate::upstream::{Attempt, Reply, Step, Upstream};
use crate::voices::{VOICES, Voice};

const KEY_FILE: &str = include_str!("../../../src/provider/cases/service-account.json");

/// The part of a secret that is its own: as good as random, and the same in each run.
fn canary(kind: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = sha256(&format!("canary of {kind}"));
    let pairs = digest.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| char::from(DIGITS[usize::from(u8::from_str_radix(pair, 16).unwrap()) % 62])).collect()
}

/// All that is planted, by kind.
#[derive(Clone, Default)]
struct Garden(Arc<Mutex<BTreeMap<String, Planted>>>);

impl Garden {
    /// Plants a secret with that beginning, which is no secret.
    fn plant(&self, kind: &str, before: &str) -> String {
        self.know(kind, &canary(kind));
        format!("{before}{}", canary(kind))
    }

    /// One with characters that URLs, headers and JSON write in other ways.
    fn plant_odd(&self, kind: &str) -> String {
        let plain = canary(kind);
        let odd = format!("{}+/{}&=%{}~", &plain[..7], &plain[7..14], &plain[14..]);
        self.know(kind, &odd);
        odd
    }

    /// One that somebody else has made.
    fn know(&self, kind: &str, own: &str) {
        self.0.lock().unwrap().insert(kind.to_owned(), Planted::new(kind, own));
    }

    fn all(&self) -> Vec<Planted> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

/// What was said somewhere, and which secret is in it on purpose.
#[derive(Default)]
struct Heard(Mutex<Vec<Said>>);

struct Said {
    what: String,
    bytes: Vec<u8>,
    /// The kind that it shows.
    shows: Option<String>,
}

impl Heard {
    fn hear(&self, what: &str, said: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().push(Said { what: what.to_owned(), bytes: said.into(), shows: None });
    }

    fn hear_of(&self, what: &str, said: impl Into<Vec<u8>>, shown: &str) {
        let shows = Some(shown.to_owned());
        self.0.lock().unwrap().push(Said { what: what.to_owned(), bytes: said.into(), shows });
    }

    fn answer(&self, what: &str, got: Response) -> Response {
        self.hear(what, got.to_string());
        got
    }
}

/// What a provider was given to prove who calls, and the operator's own header.
fn credentials(attempt: &Attempt) -> String {
    let secret = |name: &str| {
        matches!(
            name,
            "authorization"
                | "x-api-key"
                | "x-goog-api-key"
                | "api-key"
                | "x-llm-key"
                | "x-amz-security-token"
                | "x-partner-token"
        )
    };
    let given = attempt.headers.iter().filter(|(name, _)| secret(name)).map(|(_, value)| value.as_str());
    given.collect::<Vec<_>>().join(" ")
}

fn url(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// All the ways in which a provider gives a key back.
const ECHOES: [&str; 24] = [
    "fine",
    "400",
    "404",
    "409",
    "413",
    "422",
    "429",
    "500",
    "503",
    "529",
    "redirect",
    "html",
    "garbage",
    "head",
    "status",
    "event",
    "late",
    "cut",
    "headers",
    "error in 200",
    "encoded",
    "402",
    "403",
    "401",
];

fn echo(voice: Voice, attempt: &Attempt) -> Reply {
    let text = String::from_utf8_lossy(&attempt.body).into_owned();
    let how = text.split_once("how: ").and_then(|(_, rest)| rest.split_once('.')).map_or("fine", |(how, _)| how);
    let given = credentials(attempt);
    let word = given.rsplit(' ').next().unwrap_or_default().to_owned();
    let told = format!("Incorrect API key provided: {given}; {word}. See https://x.test/?key={}", url(&word));
    // In every member of the shapes that providers have for errors.
    let body = json!({
        "type": "error", "message": told, "code": word, "status": told, "request_id": word,
        "error": {"type": word, "code": word, "status": word, "message": told, "param": word, "details": [{"reason": word, "@type": told}],
            "metadata": {"raw": told}},
    });
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n").into_bytes();
    let failed = |status: u16| {
        let reply = Reply::json(status, body.to_string()).header("x-request-id", &word).header("request-id", &word);
        let reply = reply.header("x-ratelimit-limit-requests", &word).header("anthropic-ratelimit-tokens-limit", &word);
        let reply = reply.header("retry-after", &word).header("www-authenticate", &format!("Bearer {word}"));
        reply.header("set-cookie", &format!("k={word}")).header("openai-version", &word).header("x-should-retry", &word)
    };
    let streams = voice.streams(attempt);
    match how {
        "redirect" => Reply { status: 307, ..failed(307) }.header("location", &format!("/v1/again?key={word}")),
        "html" => Reply::new(502, "text/html", format!("<html><b>{told}</b></html>")),
        "garbage" => Reply::json(200, format!("{{{told}")),
        "encoded" => Reply::json(200, told.clone()).header("content-encoding", &format!("x-{word}")),
        "head" => {
            Reply::instead(Step::Raw(format!("HTTP/1.1 200 OK\r\n{told}\r\nbad\x01name: {word}\r\n\r\n").into_bytes()))
        }
        "status" => Reply::instead(Step::Raw(format!("HTTP/1.1 {word} {told}\r\n\r\n").into_bytes())),
        "error in 200" => Reply::json(200, body.to_string()),
        "event" if streams && voice != Voice::Bedrock => voice.stream([event("error", &body.to_string())]),
        "late" if streams && voice != Voice::Bedrock => {
            let (before, words, _) = voice.frames(&["one ", "two "]);
            voice.stream(before.into_iter().chain(words).chain([event("error", &body.to_string())]))
        }
        "cut" if streams => {
            let (before, words, _) = voice.frames(&["one ", "two "]);
            let mut reply = voice.stream(before.into_iter().chain(words));
            reply.steps.push(Step::Raw(told.into_bytes()));
            reply.steps.push(Step::Reset);
            reply
        }
        "headers" => {
            let reply = voice.good(attempt, "fine").header("x-request-id", &word).header("request-id", &word);
            let reply = reply.header("openai-version", &format!("v-{word}")).header("set-cookie", &format!("k={word}"));
            reply.header("x-ratelimit-remaining-tokens", &word).header("retry-after", &given)
        }
        how => match how.parse() {
            Ok(status) => failed(status),
            Err(_) => voice.good(attempt, "fine"),
        },
    }
}

/// A caller's request for a model, with text that says how its provider is to answer.
fn request(caller: Caller, model: &str, how: &str, stream: bool, secret: &str) -> Vec<u8> {
    let headers = caller.headers(secret);
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.extend([("content-type", "application/json"), ("connection", "close")]);
    let body = caller.body(model, &format!("how: {how}."), stream).to_string();
    client::request("POST", &caller.path(model, stream), &headers, body.as_bytes())
}

/// What a call is, its path and its headers.
type Odd = (&'static str, String, Vec<(&'static str, String)>);

struct Scene {
    garden: Garden,
    heard: Heard,
    upstreams: Vec<(Voice, Upstream)>,
    /// Further providers, with other kinds of credentials.
    others: Vec<Upstream>,
    issuer: Issuer,
    introspection: Upstream,
    hook: Upstream,
    config: String,
    dir: tempfile::TempDir,
    /// Secrets of callers.
    main: String,
    other: String,
}

/// Providers of every dialect and every kind of credential, keys, an issuer, a webhook: each with a secret of its own.
fn scene() -> Scene {
    let (garden, heard, issuer) = (Garden::default(), Heard::default(), Issuer::start());
    let dir = tempfile::tempdir().unwrap();
    let (main, other) = (garden.plant("caller's key", "pk-main-"), garden.plant("other caller's key", "pk-other-"));
    let mut upstreams = Vec::new();
    let (mut providers, mut models) = (String::new(), String::new());
    for voice in VOICES {
        let upstream = Upstream::start(move |attempt| echo(voice, attempt));
        let key = garden.plant(&format!("provider key, {}", voice.name()), "sk-");
        providers.push_str(&voice.provider(voice.name(), &upstream, "").replace(PROVIDER_KEY, &key));
        models.push_str(&format!(
            "  {0}: {{ targets: [{{ provider: {0}, model: \"{1}\", price: {{ input: 10, output: 100 }} }}] }}\n",
            voice.name(),
            voice.model()
        ));
        upstreams.push((voice, upstream));
    }
    let mut others = Vec::new();
    let mut other_row = |name: &str, row: &dyn Fn(&str) -> String, model: &str| {
        let upstream = Upstream::start(|attempt| echo(Voice::Chat, attempt));
        providers.push_str(&format!("  {name}: {{ {} }}\n", row(&upstream.addr.to_string())));
        models.push_str(&format!("  {name}: {{ targets: [{{ provider: {name}, model: \"{model}\" }}] }}\n"));
        others.push(upstream);
    };
    // Keys in turn; one of a file, one of the environment, one with characters that are written in many ways.
    let file = dir.path().join("key");
    fs::write(&file, format!("{}\n", garden.plant("provider key, of a file", "sk-file-"))).unwrap();
    let odd = garden.plant_odd("provider key, odd");
    let partner = garden.plant("operator's header", "");
    let row = |at: &str| {
        format!(
            "dialect: openai_chat, base_url: \"http://{at}/v1\", api_keys: [\"file:{}\", \"${{CANARY_KEY}}\", \"{odd}\"], \
             auth: {{ header: x-llm-key }}, headers: {{ x-partner-token: \"{partner}\" }}",
            file.display()
        )
    };
    other_row("in-turn", &row, "real");
    let aws_key = format!("{}/+{}", &canary("AWS")[..20], &canary("AWS secret")[..18]);
    garden.know("AWS secret key", &aws_key);
    let session = garden.plant_odd("AWS session token");
    let row = |at: &str| {
        format!(
            "dialect: openai_chat, base_url: \"http://{at}/openai/v1\", auth: {{ aws: {{ region: us-west-2, \
             access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: \"{aws_key}\", session_token: \"{session}\" }} }}"
        )
    };
    other_row("aws", &row, "a.b-v1:0");
    let giver = |garden: &Garden, kind: &str| {
        let token = garden.plant(kind, "tok.");
        let told = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"});
        Upstream::always(Reply::json(200, told.to_string()))
    };
    let entra = giver(&garden, "token of Entra");
    let client = garden.plant_odd("client secret of Entra");
    let row = |at: &str| {
        format!(
            "preset: azure-openai, base_url: \"http://{at}/openai/v1\", auth: {{ entra: {{ tenant: contoso.com, client_id: 11112222-bbbb-3333-cccc-4444dddd5555, \
             client_secret: \"{client}\", authority: \"http://{}/login\" }} }}",
            entra.addr
        )
    };
    other_row("entra", &row, "prod");
    let google = giver(&garden, "token of Google");
    let mut key: Value = serde_json::from_str(KEY_FILE).unwrap();
    key["token_uri"] = json!(format!("http://{}/token", google.addr));
    garden.know("service account's key", key["private_key"].as_str().unwrap().lines().nth(7).unwrap());
    let row = |at: &str| {
        format!(
            "dialect: openai_chat, base_url: \"http://{at}/v1\", auth: {{ google_service_account: {{ json: '{key}' }} }}"
        )
    };
    other_row("google", &row, "real");
    // One that refuses the client, and tells all that it was sent.
    let strict = Upstream::start(|attempt| {
        Reply::json(401, json!({"error": attempt.text(), "error_description": attempt.text()}).to_string())
    });
    let refused = garden.plant_odd("client secret that is refused");
    let row = |at: &str| {
        format!(
            "preset: azure-openai, base_url: \"http://{at}/openai/v1\", auth: {{ entra: {{ tenant: contoso.com, client_id: 11112222-bbbb-3333-cccc-4444dddd5555, \
             client_secret: \"{refused}\", authority: \"http://{}/login\" }} }}",
            strict.addr
        )
    };
    other_row("refused", &row, "prod");
    models.push_str(
        "  chain: { targets: [{ provider: openai_chat, model: real }], fallback: [anthropic, gemini, in-turn] }\n  \
         hasty: { targets: [{ provider: openai_chat, model: real }, { provider: in-turn, model: real }], hedge: { delay: 1ms, percent: 100 } }\n",
    );

    let introspection = Upstream::start(|attempt| {
        // Who asks back what it was asked is not to be believed, and not to be quoted.
        let active = attempt.text().contains("good");
        Reply::json(200, json!({"active": active, "sub": "ann", "aud": "portolan", "token": attempt.text(), "error": attempt.text()}).to_string())
    });
    let hook = Upstream::start(|attempt| Reply::json(500, attempt.text().to_owned()));
    let secret = garden.plant_odd("introspection client secret");
    let (signing, address) = (garden.plant_odd("webhook signing secret"), garden.plant("webhook's address", "T0/B0/"));
    let nowhere = garden.plant("webhook's address, unreachable", "T0/B0/");
    let digests: String = [("main", &main), ("other", &other)]
        .map(|(id, secret)| {
            format!(
                "  - {{ id: {id}, secret_sha256: \"{}\", budget: {{ usd: 0.0001, hard: false, alerts: [1, 50] }} }}\n",
                sha256(secret)
            )
        })
        .concat();
    let config = format!(
        "log: {{ level: trace }}\nretry: {{ tries: 2, pause: 5ms, max_pause: 20ms, failures: 1000, cooldown: 1s }}\n\
         timeouts: {{ connect: 500ms, first_byte: 2s, answer: 2s, idle: 1s, total: 6s }}\n\
         alerts:\n  webhooks:\n    - {{ url: \"{}/{address}?a={address}\", secret: \"{signing}\" }}\n    \
         - {{ url: \"http://127.0.0.1:9/{nowhere}\", form: slack }}\n    - {{ url: \"${{CANARY_HOOK}}\" }}\n\
         issuers:\n  corp:\n    issuer: {}\n    audience: portolan\n    callers: {{ limits: {{ rpm: 10000 }} }}\n    \
         introspection: {{ url: \"{}/introspect\", client_id: gateway, client_secret: \"{secret}\" }}\n\
         keys:\n{digests}providers:\n{providers}models:\n{models}",
        hook.v1(),
        issuer.name(),
        introspection.v1(),
    );
    garden.plant("provider key, of the environment", "sk-env-");
    others.extend([entra, google, strict]);
    Scene { garden, heard, upstreams, others, issuer, introspection, hook, config, dir, main, other }
}

impl Scene {
    fn call(&self, gateway: &Gateway, what: &str, bytes: &[u8]) -> Response {
        let mut connection = Connection::open(gateway.data);
        let _ = connection.send(bytes);
        match connection.response() {
            Ok(got) => self.heard.answer(what, got),
            Err(error) => panic!("{what}: no answer: {error}"),
        }
    }

    /// Calls to providers of all dialects, in their own and in another, that fail in these ways.
    fn callers(&self, gateway: &Gateway, ways: &[&str]) {
        thread::scope(|scope| {
            for (number, (voice, upstream)) in self.upstreams.iter().enumerate() {
                scope.spawn(move || {
                    let same = match voice {
                        Voice::Messages => Caller::Messages,
                        Voice::Gemini => Caller::Gemini,
                        Voice::Responses => Caller::Responses,
                        _ => Caller::Chat,
                    };
                    let other = CALLERS[(number + 1) % CALLERS.len()];
                    for how in ways {
                        for (caller, stream) in [(same, false), (same, true), (other, false), (other, true)] {
                            let seen = upstream.count();
                            let what = format!("{caller:?} to {} ({how}, stream {stream})", voice.name());
                            let got =
                                self.call(gateway, &what, &request(caller, voice.name(), how, stream, &self.main));
                            // What is wrong with a key lets it rest.
                            assert!(
                                upstream.count() > seen || ["401", "402", "403"].contains(how),
                                "{what}: never asked: {got}"
                            );
                        }
                    }
                });
            }
            scope.spawn(|| {
                for how in ways {
                    for model in ["in-turn", "aws", "entra", "google", "refused", "chain", "hasty"] {
                        for stream in [false, true] {
                            let what = format!("{model} ({how}, stream {stream})");
                            self.call(gateway, &what, &request(Caller::Chat, model, how, stream, &self.other));
                        }
                    }
                }
            });
        });
    }

    /// Who leaves in the middle.
    fn leavers(&self, gateway: &Gateway) {
        for (voice, _) in &self.upstreams {
            let mut connection = Connection::open(gateway.data);
            connection.send(&request(Caller::Chat, voice.name(), "fine", true, &self.main)).unwrap();
            drop(connection);
        }
    }

    /// Credentials where they do not belong, and such that are none (K-3, K-6).
    fn strangers(&self, gateway: &Gateway) {
        let garden = &self.garden;
        let own = garden.plant("caller's own provider key", "sk-proj-");
        let guess = garden.plant("a key that does not exist", "pk-guess-");
        let basic = garden.plant_odd("a password");
        let bearer = format!("Bearer {}", self.main);
        let body = json!({"model": "openai_chat", "messages": [{"role": "user", "content": "how: 400."}]}).to_string();
        let path = "/v1/chat/completions";
        let all: Vec<Odd> = vec![
            (
                "own keys",
                path.into(),
                vec![
                    ("authorization", bearer.clone()),
                    ("x-api-key", own.clone()),
                    ("openai-api-key", own.clone()),
                    ("x-goog-api-key", own.clone()),
                    ("api-key", own.clone()),
                    ("x-amz-security-token", own.clone()),
                    ("cookie", format!("k={own}")),
                    ("proxy-authorization", format!("Bearer {own}")),
                    ("x-portolan-key", own.clone()),
                    ("x-stainless-key", own.clone()),
                ],
            ),
            (
                "own key in the query",
                format!("{path}?key={own}&api_key={own}"),
                vec![("authorization", bearer.clone())],
            ),
            ("a key in the query", format!("/v1beta/models/gemini:generateContent?key={}", self.main), vec![]),
            ("a guess in the query", format!("/v1beta/models/gemini:generateContent?key={guess}"), vec![]),
            ("a key in the path", format!("/v1/{}/chat", self.main), vec![("authorization", bearer.clone())]),
            ("a key in an unknown query", format!("/nothing?token={}", self.main), vec![]),
            ("a guess", path.into(), vec![("authorization", format!("Bearer {guess}"))]),
            ("a guess elsewhere", path.into(), vec![("x-api-key", guess.clone())]),
            ("a password", path.into(), vec![("authorization", format!("Basic {basic}"))]),
            ("two", path.into(), vec![("authorization", bearer.clone()), ("authorization", format!("Bearer {guess}"))]),
            ("blanks", path.into(), vec![("authorization", format!("Bearer  {} {guess}", self.main))]),
            ("no scheme", path.into(), vec![("authorization", self.main.clone())]),
        ];
        for (what, path, headers) in &all {
            let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.extend([("content-type", "application/json"), ("connection", "close")]);
            self.call(gateway, what, &client::request("POST", path, &headers, body.as_bytes()));
        }
        // Keys where a model, a tag, a wish or a whole body should be.
        let authorized =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("connection", "close")];
        for body in [
            format!("{{\"model\": 7, \"api_key\": \"{own}\", \"messages\": []}}"),
            format!("{{\"api_key\": \"{own}\", "),
            own.clone(),
            json!({"model": "openai_chat", "api_key": own, "messages": [{"role": own, "content": "how: 400."}]})
                .to_string(),
        ] {
            self.call(gateway, "a key in a body", &client::request("POST", path, &authorized, body.as_bytes()));
        }
        // K-6: nothing of the operator's is on the callers' port.
        for path in [
            "/metrics",
            "/admin/targets",
            "/admin/v1/keys",
            "/admin/v1/self",
            "/config",
            "/debug",
            "/debug/pprof/",
            "/debug/vars",
            "/.env",
            "/env",
            "/heap",
            "/status",
        ] {
            for headers in [&[("connection", "close")][..], &authorized[..]] {
                let got = self.call(gateway, path, &client::request("GET", path, headers, b""));
                assert_eq!(got.status, 404, "{path}: {got}");
            }
        }
        // Heads that are none.
        for bytes in [
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {}\x01\r\n\r\n", self.main),
            format!("POST {path} HTTP/9\r\nauthorization: Bearer {}\r\n\r\n", self.main),
            format!("Bearer {}\r\n\r\n", self.main),
            format!("POST {path} HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-length: x\r\n\r\n", self.main),
        ] {
            let mut connection = Connection::open(gateway.data);
            let _ = connection.send(bytes.as_bytes());
            let _ = connection.socket().shutdown(std::net::Shutdown::Write);
            if let Ok(got) = connection.response() {
                self.heard.answer("a head that is none", got);
            }
        }
    }

    /// Tokens of an issuer, good and bad.
    fn bearers(&self, gateway: &Gateway) {
        let good = self.issuer.token("one", |_| {});
        let late = self.issuer.token("one", |claims| claims["exp"] = json!(1));
        let opaque = self.garden.plant("opaque token", "good.");
        let unknown = self.garden.plant("opaque token, not good", "");
        for (kind, token) in [("JWT", &good), ("JWT, expired", &late)] {
            self.garden.know(kind, token.rsplit('.').next().unwrap());
        }
        let mut forged = good.clone();
        forged.truncate(good.len() - 4);
        for (what, token) in
            [("a JWT", good), ("a late JWT", late), ("a forged JWT", forged), ("opaque", opaque), ("unknown", unknown)]
        {
            let got = self.call(gateway, what, &request(Caller::Chat, "openai_chat", "fine", false, &token));
            let wanted = if matches!(what, "a JWT" | "opaque") { 200 } else { 401 };
            assert_eq!(got.status, wanted, "{what}: {got}");
        }
    }

    /// Keys and tokens made, changed, rotated, revoked; every page read; and what is wrong refused.
    fn administrators(&self, gateway: &Gateway, owner: &str, round: &str) {
        let (garden, heard) = (&self.garden, &self.heard);
        let ask = |method: &str, path: &str, body: &Value| heard.answer(path, gateway.admin(owner, method, path, body));
        // Its answer shows a secret once, and its beginning is shown again.
        let makes = |kind: &str, path: &str, member: &str, body: &Value| {
            let got = gateway.admin(owner, "POST", path, body);
            assert_eq!(got.status, 201, "{got}");
            let secret = got.json()[member].as_str().unwrap().to_owned();
            let kind = format!("{kind}, {round}");
            garden.know(&kind, &secret[7..]);
            heard.hear_of(path, got.to_string(), &kind);
            secret
        };
        let key = format!("stored-{round}");
        let first = makes("stored key", "keys", "secret", &json!({"id": key, "tags": {"a": "b"}}));
        let second = makes("stored key, rotated", &format!("keys/{key}/rotate"), "secret", &json!({"overlap": "1h"}));
        let brought = garden.plant(&format!("stored key, brought, {round}"), "pk-own-");
        let digest = json!({"id": format!("brought-{round}"), "secret_sha256": sha256(&brought)});
        assert_eq!(ask("POST", "keys", &digest).status, 201);
        for secret in [&first, &second, &brought] {
            for how in ["fine", "400"] {
                let got = self.call(gateway, "a stored key", &request(Caller::Chat, "openai_chat", how, false, secret));
                assert!([200, 400, 502].contains(&got.status), "{got}");
            }
        }
        let token = makes(
            "administrator's token",
            "tokens",
            "token",
            &json!({"id": format!("viewer-{round}"), "role": "viewer"}),
        );
        for (token, method, path) in [
            (token.as_str(), "GET", "keys"),
            (&token, "POST", "keys"),
            (&token, "GET", "audit"),
            ("", "GET", "keys"),
            (&self.main, "GET", "keys"),
            (&first, "GET", "self"),
        ] {
            heard.answer(path, gateway.admin(token, method, path, &Value::Null));
        }
        // Secrets in the wrong places.
        ask("POST", "keys", &json!({"id": second, "secret": second}));
        ask("POST", "keys", &json!({"id": "x", "secret_sha256": second}));
        ask("PATCH", &format!("keys/{key}"), &json!({"secret": second, "models": 7}));
        ask("GET", &format!("keys/{second}"), &Value::Null);
        ask("GET", &format!("/admin/v1/keys?page={second}&limit={second}&token={owner}"), &Value::Null);
        ask("GET", &format!("/admin/v1/usage?group_by={second}"), &Value::Null);
        heard.answer(
            "a bad body",
            gateway.admin_with(owner, "POST", "keys", &[("content-type", "text/plain")], &json!(second)),
        );
        ask("PATCH", &format!("keys/{key}"), &json!({"models": ["open*"]}));
        for path in [
            "/metrics",
            "/admin/targets",
            "/health/ready",
            "/admin/v1/openapi.json",
            "self",
            "models",
            "usage?group_by=key,model,outcome",
            "keys",
            "organisations",
            "teams",
            "projects",
            "users",
            "tokens",
            "audit",
            "audit/verify",
            &format!("keys/{key}"),
            "keys/main",
        ] {
            let got = ask("GET", path, &Value::Null);
            assert_eq!(got.status, 200, "{path}: {got}");
        }
        let kept = self.call(gateway, "explained", &request(Caller::Chat, "chain", "500", false, &self.main));
        let id = kept.header("x-portolan-request-id").unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(5);
        while ask("GET", &format!("/admin/requests/{id}"), &Value::Null).status != 200 {
            assert!(Instant::now() < deadline, "the call is not kept");
            thread::sleep(Duration::from_millis(20));
        }
        let usage = client::get(
            gateway.data,
            "/v1/usage",
            &[("authorization", &format!("Bearer {}", self.main)), ("connection", "close")],
        );
        assert_eq!(heard.answer("usage", usage).status, 200);
        ask("DELETE", &format!("keys/brought-{round}"), &Value::Null);
        ask("DELETE", &format!("tokens/viewer-{round}"), &Value::Null);
    }

    /// Configurations with secrets where they are a mistake: told by `check`, and by a reload.
    fn mistakes(&self, gateway: &Gateway) {
        let plain = self.garden.plant("secret in a bad file", "");
        let odd = self.garden.plant_odd("odd secret in a bad file");
        let first = format!(
            "  openai_chat: {{ dialect: openai_chat, base_url: \"http://{}/v1\", api_key: ",
            self.upstreams[0].1.addr
        );
        assert!(self.config.contains(&first));
        for secret in [&plain, &odd] {
            let mistakes = [
                self.config.replacen(&first, &format!("{first}[\"{secret}\"], x: "), 1),
                self.config.replacen(&first, &format!("{first}{{ a: \"{secret}\" }}, x: "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret}\", api_kye: "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret}\", api_key: "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret}\", \"{secret}\": "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret}, api_kye: "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret} \\n\", z: "), 1),
                self.config.replacen(&first, &format!("{first}\"{secret}\\u0001\", auth: bearer, z: "), 1),
                self.config.replacen(&first, &format!("{first}\"${{{secret}}}\", z: "), 1),
                self.config.replacen(&first, &format!("{first}\"${{{secret}\", z: "), 1),
                self.config.replacen(&first, &format!("{first}\"file:/nothing/{secret}\", z: "), 1),
                self.config.replacen(
                    &first,
                    &format!("{first}\"x\", headers: {{ authorization: \"{secret}\\u0001\" }}, z: "),
                    1,
                ),
                self.config.replacen(&first, &format!("{first}\"x\", headers: {{ \"{secret} y\": z }}, z: "), 1),
                self.config.replacen("base_url: \"http://", &format!("base_url: \"http://user:{secret}@"), 1),
                self.config.replacen("base_url: \"http://", &format!("base_url: \"{secret}://"), 1),
                self.config.replacen("/v1\", api_key", &format!("/v1?key={secret}\", api_key"), 1),
                self.config.replacen("id: main, secret_sha256: \"", &format!("id: main, secret_sha256: \"{secret}"), 1),
                self.config.replacen(
                    "id: main, secret_sha256",
                    &format!("id: main, secret: \"{secret}\", secret_sha256"),
                    1,
                ),
                self.config.replacen("id: main,", &format!("id: \"{secret} x\","), 1),
                self.config.replacen("{ url: \"http://127.0.0.1:9/", &format!("{{ url: \"ftp://{secret}/"), 1),
                self.config.replacen("{ url: \"http://127.0.0.1:9/", &format!("{{ url: \"{secret} "), 1),
                self.config.replacen(
                    "{ url: \"http://127.0.0.1:9/",
                    &format!("{{ url: \"http://u:{secret}@127.0.0.1:x/"),
                    1,
                ),
                self.config.replacen("client_secret: \"", &format!("client_secret: [\"{secret}\"], a: \""), 1),
                self.config.replacen("secret_access_key: \"", &format!("secret_access_key: \"{secret}\\n"), 1),
                self.config.replacen("json: '", &format!("json: '{secret}"), 1),
                self.config.replacen("json: '", &format!("json: '{{\"private_key\": \"{secret}\"}}', b: '"), 1),
            ];
            for (number, text) in mistakes.iter().enumerate() {
                assert_ne!(*text, self.config, "mistake {number} changes nothing");
                let file = self.dir.path().join("mistake.yaml");
                fs::write(&file, text).unwrap();
                let output = Command::new(env!("CARGO_BIN_EXE_portolan")).arg("check").arg(&file).output().unwrap();
                self.heard.hear(&format!("mistake {number}"), [output.stdout, output.stderr].concat());
                gateway.rewrite(text);
                let before = gateway.logs().len();
                gateway.signal(libc::SIGHUP);
                let deadline = Instant::now() + Duration::from_secs(10);
                while !gateway.logs()[before..].contains("configuration") {
                    assert!(Instant::now() < deadline, "mistake {number}: nothing is told of the reload");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        gateway.reload(&self.config);
    }

    fn commands(&self, gateway: &Gateway) {
        for command in [&["usage", "--json"][..], &["usage"], &["ledger", "verify"], &["targets"], &["audit", "verify"]]
        {
            self.heard.hear(&command.join(" "), gateway.command(command));
        }
    }

    /// What providers were sent: never what callers or administrators have (K-3).
    fn forwarded(&self) {
        let attempts = self.upstreams.iter().flat_map(|(_, upstream)| upstream.attempts());
        let attempts = attempts.chain(self.others.iter().chain([&self.hook]).flat_map(Upstream::attempts));
        let own: Vec<_> = self.garden.all().into_iter().filter(|planted| is_callers(&planted.kind)).collect();
        let search = Search::new(&own);
        for attempt in attempts {
            let head: String = attempt.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let found = search.find(format!("{}\n{head}", attempt.path).as_bytes());
            assert!(found.is_empty(), "forwarded to a provider: {found:?} in {} {head}", attempt.path);
        }
    }
}

fn is_callers(kind: &str) -> bool {
    ["caller", "stored", "JWT", "opaque", "administrator", "bootstrap", "a key that", "a password"]
        .iter()
        .any(|of| kind.starts_with(of))
}

/// Every file below a directory, with its name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            all.push((path.display().to_string(), bytes));
        }
    }
    all
}

#[test]
fn k01_k02_k03_k05_k06_no_secret_is_said_or_kept() {
    let scene = scene();
    let (garden, heard) = (&scene.garden, &scene.heard);
    let hook = format!("http://127.0.0.1:9/{}", garden.plant("webhook's address, of the environment", "T1/"));
    let given = garden.plant("admin token", "pa-given-");
    let key = format!("sk-env-{}", canary("provider key, of the environment"));
    let env = [("CANARY_KEY", key.as_str()), ("CANARY_HOOK", &hook)];
    let mut gateway = Gateway::start_with(&scene.config, &env, ", explain: {}");
    let bootstrap = gateway.token();
    garden.know("bootstrap token", &bootstrap[7..]);

    // Something that is no secret goes the same ways, and must be found: or the search would prove nothing.
    let bait = canary("bait");
    let bearer = format!("Bearer {}", scene.main);
    let tags = format!("bait={bait}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-portolan-tags", &tags),
        ("connection", "close"),
        ("content-type", "application/json"),
    ];
    let body = json!({"model": "openai_chat", "messages": [{"role": "user", "content": "how: fine."}]}).to_string();
    for path in ["/v1/chat/completions".to_owned(), format!("/v1beta/models/{bait}:generateContent")] {
        scene.call(&gateway, "bait", &client::request("POST", &path, &headers, body.as_bytes()));
    }

    scene.callers(&gateway, &ECHOES);
    scene.leavers(&gateway);
    scene.strangers(&gateway);
    scene.bearers(&gateway);
    scene.administrators(&gateway, &bootstrap, "first");
    scene.mistakes(&gateway);
    scene.commands(&gateway);
    assert!(!scene.hook.attempts().is_empty() && !scene.introspection.attempts().is_empty(), "nobody was told");
    for (name, bytes) in files(&gateway.state()) {
        heard.hear(&format!("{name} in use"), bytes);
    }
    heard.hear("the command line", fs::read(format!("/proc/{}/cmdline", gateway.pid())).unwrap());
    assert_eq!(gateway.metric("portolan_log_lines_dropped_total", &[]), 0.0, "not all of the log was read");

    // Killed in the middle, and again with the lines of every library and another administrator.
    gateway.kill9();
    for (name, bytes) in files(&gateway.state()) {
        heard.hear(&format!("{name} after a kill"), bytes);
    }
    gateway.set_env("PORTOLAN_LOG", "trace");
    gateway.set_env("PORTOLAN_ADMIN_TOKEN", &given);
    // Panics too, where this binary has places for them.
    #[cfg(feature = "failpoints")]
    gateway.set_env("PORTOLAN_PANICS", "admission:41,dispatch:43,relaying:47");
    gateway.start_again();
    #[cfg(feature = "failpoints")]
    {
        for _ in 0..200 {
            let mut connection = Connection::open(gateway.data);
            let _ = connection.send(&request(Caller::Chat, "openai_chat", "fine", true, &scene.main));
            let _ = connection.response();
        }
        let panics = gateway.metric("portolan_panics_total", &[]);
        assert!(panics >= 6.0, "{panics} panics in 200 calls");
        gateway.kill9();
        gateway.set_env("PORTOLAN_PANICS", "");
        gateway.start_again();
    }
    scene.callers(&gateway, &["fine", "401", "429", "500", "head", "late", "headers"]);
    scene.strangers(&gateway);
    scene.bearers(&gateway);
    scene.administrators(&gateway, &given, "second");
    scene.leavers(&gateway);
    gateway.stop(Duration::from_secs(70));
    for (name, bytes) in files(&gateway.state()) {
        heard.hear(&format!("{name} at the end"), bytes);
    }
    scene.forwarded();

    // K-5: what a programmer would print.
    let text = format!("listen: 127.0.0.1:1\nadmin: {{ listen: \"127.0.0.1:2\" }}\n{}", scene.config);
    let known = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let outside = portolan::config::Outside {
        env: &known,
        read: &|path| if path.ends_with("portolan.yaml") { Ok(text.clone().into_bytes()) } else { fs::read(path) },
    };
    let live = portolan::policy::Live::default();
    let snapshot =
        portolan::config::load(Path::new("/portolan.yaml"), &outside, &portolan::config::Catalogue::EMPTY, &live)
            .unwrap();
    heard.hear("a dump of the configuration", format!("{snapshot:#?}"));

    let planted = garden.all();
    let search = Search::new(&planted);
    can_find(&search, &planted);
    let log = fs::read(gateway.dir.path().join("log")).unwrap();
    let shown = search.find(&log);
    let of_start = |found: &&Found| found.kind == "bootstrap token" && found.form == "raw";
    assert_eq!(shown.iter().filter(of_start).count(), 1, "the first start shows its token, once: {shown:?}");
    let mut bytes = log.len();
    let excerpt = |text: &[u8], found: &Found| {
        let from = found.at.saturating_sub(200);
        format!("{found:?}: ...{}...", String::from_utf8_lossy(&text[from..(found.at + 100).min(text.len())]))
    };
    let mut finds: Vec<String> = shown
        .iter()
        .filter(|found| !of_start(found))
        .map(|found| format!("the log: {}", excerpt(&log, found)))
        .collect();
    let mut baited = 0;
    let bait = Search::new(&[Planted::new("bait", &bait)]);
    for Said { what, bytes: said, shows } in heard.0.lock().unwrap().iter() {
        bytes += said.len();
        baited += usize::from(!bait.find(said).is_empty());
        let found = search.find(said);
        let found = found.iter().filter(|found| shows.as_ref() != Some(&found.kind));
        finds.extend(found.map(|found| format!("{what}: {}", excerpt(said, found))));
    }
    assert!(!bait.find(&log).is_empty() && baited >= 3, "what is no secret is not found either: {baited}");
    println!("secrets: {} kinds, {bytes} bytes searched, {} found", planted.len(), finds.len());
    finds.truncate(60);
    assert!(finds.is_empty(), "{}", finds.join("\n\n"));
}
