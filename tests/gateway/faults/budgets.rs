//! Budgets under concurrency, over failures, kills, reloads and two processes.
//!
//! A call costs a cent here, whatever it says, so that what is reserved is what it costs, and a budget for N calls is for
//! exactly N.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::books;
use super::scaled;
use crate::answers;
use crate::client::{self, Connection, Response};
use crate::gateway::{Gateway, SECRET, ask, ask_stream, config, free_port, sha256};
use crate::upstream::{Reply, Step, Upstream};

const CENT: &str = "price: { input: 0, output: 0, request: 0.01 }";

/// Gives the target of a model a price, and the key `main` these fields.
fn priced(text: &str, model: &str, fields: &str) -> String {
    let row = format!("model: {model}-real");
    text.replacen(&row, &format!("{row}, {CENT}"), 1).replacen(
        "models: [\"*\"] }",
        &format!("models: [\"*\"]{fields} }}"),
        1,
    )
}

fn fixture(upstream: &Upstream, fields: &str, more: &str) -> String {
    priced(&config(&[("alias", &upstream.v1())], more), "alias", fields)
}

/// A caller's refusal for its budget.
#[track_caller]
fn refused(got: &Response) -> Value {
    let error = got.refusal(429);
    assert_eq!((&error["type"], &error["code"]), (&json!("insufficient_quota"), &json!("insufficient_quota")), "{got}");
    error
}

/// Dollars that the budgets of a level have spent, and have reserved.
fn seen(gateway: &Gateway, level: &str) -> (f64, f64) {
    let level = format!("level=\"{level}\"");
    let of = |name: &str| gateway.metric(name, &[&level]);
    (of("portolan_budget_spent_usd"), of("portolan_budget_reserved_usd"))
}

/// Waits until no call is under way, and holds the budgets of the key to the rows of the ledger; dollars that are spent.
#[track_caller]
fn quiet(gateway: &Gateway) -> f64 {
    let rows = books::settled(gateway);
    let cost: u64 = rows.iter().map(|row| row.cost).sum();
    let (spent, reserved) = seen(gateway, "key");
    assert_eq!(reserved, 0.0, "leaked");
    assert!((spent - cost as f64 / 1e9).abs() < 1e-9, "{spent} spent, and {cost} nano in the ledger: {rows:#?}");
    spent
}

#[test]
fn g01_callers_at_once_take_what_there_is_and_no_more() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, ", budget: { usd: 0.5, per: month }", ""));
    let (callers, admitted, over) = (scaled(200).min(1_000), AtomicUsize::new(0), AtomicUsize::new(0));
    let barrier = Barrier::new(callers);
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                barrier.wait();
                let got = gateway.chat(&ask("alias", "x"));
                if got.status == 200 {
                    admitted.fetch_add(1, Relaxed);
                } else {
                    refused(&got);
                    over.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!((admitted.load(Relaxed), over.load(Relaxed)), (50, callers - 50));
    assert_eq!(upstream.count(), 50);
    assert_eq!(quiet(&gateway), 0.5);
    println!("G-1: {callers} callers at once on a budget for 50: 50 admitted, 0 nano over");
}

#[test]
fn g02_a_budget_for_n_calls_admits_n() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, ", budget: { usd: 0.2 }", ""));
    for _ in 0..20 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let got = gateway.chat(&ask("alias", "x"));
    let message = refused(&got)["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("The monthly budget of the key `main` (0.2 USD) is spent. It begins anew on "),
        "{message}"
    );
    let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
    assert!(wait <= 31 * 86_400, "{wait}");
    assert_eq!((upstream.count(), quiet(&gateway)), (20, 0.2));
    println!("G-2: 20 calls one after the other on a budget for 20: 0 refused early");
}

#[test]
fn g04_every_level_holds_and_the_refusal_names_it() {
    let upstream = Upstream::always(answers::whole("fine"));
    let budget = "budget: { usd: 0.01, per: day, time_zone: Europe/Berlin }";
    let mut text = priced(&config(&[("alias", &upstream.v1())], ""), "alias", "");
    let mut more = String::new();
    let levels = ["key", "user", "project", "team", "organisation"];
    for (place, level) in levels.into_iter().enumerate() {
        let at = |kind: &str| if kind == level { format!(", {budget}") } else { String::new() };
        let row = |kind: &str, fields: String| format!("{kind}s: {{ {level}-{kind}: {{ {fields} }} }}\n");
        let id = |kind: &str| format!("{level}-{kind}");
        text.push_str(&format!(
            "  - {{ id: {}, secret_sha256: \"{}\", project: {}, user: {}{} }}\n",
            id("key"),
            sha256(&format!("pk-{place}")),
            id("project"),
            id("user"),
            at("key")
        ));
        more.push_str(&row("organisation", format!("metadata: {{ a: b }}{}", at("organisation"))));
        more.push_str(&row("team", format!("organisation: {}{}", id("organisation"), at("team"))));
        more.push_str(&row("project", format!("team: {}{}", id("team"), at("project"))));
        more.push_str(&row("user", format!("metadata: {{ a: b }}{}", at("user"))));
    }
    // One mapping of each kind, with five rows.
    for kind in ["organisation", "team", "project", "user"] {
        let field = format!("{kind}s: {{ ");
        let rows: Vec<&str> = more.lines().filter_map(|line| line.strip_prefix(&field)?.strip_suffix(" }")).collect();
        text.push_str(&format!("{field}{} }}\n", rows.join(", ")));
    }
    let gateway = Gateway::start(&text);
    for (place, level) in levels.into_iter().enumerate() {
        let bearer = format!("Bearer pk-{place}");
        let call = || {
            let headers = [("authorization", bearer.as_str())];
            client::post(gateway.data, "/v1/chat/completions", &headers, ask("alias", "x").to_string())
        };
        assert_eq!(call().status, 200);
        let error = refused(&call());
        let want = format!("The daily budget of the {level} `{level}-{level}` (0.01 USD) is spent");
        assert!(error["message"].as_str().unwrap().starts_with(&want), "{error}");
        assert_eq!(seen(&gateway, level), (0.01, 0.0));
        assert_eq!(gateway.metric("portolan_over_budget_total", &[level]), 1.0);
    }
    println!("G-4: 5 levels, 5 refusals that name theirs, 0 nano over");
}

#[test]
fn g05_nothing_stays_reserved_however_a_call_ends() {
    let endings: [(&str, Reply); 7] = [
        ("answered", answers::whole("fine")),
        ("error", answers::error(500, "no")),
        ("limited", answers::error(429, "slow down")),
        ("refused", answers::error(400, "bad")),
        ("no answer", Reply::instead(Step::Hang)),
        ("garbage", Reply::json(200, "{")),
        ("cut", Reply::stream(vec![Step::Bytes(answers::role_frame().into_bytes()), Step::Hang])),
    ];
    let upstream = Upstream::always(answers::whole("fine"));
    let more = "retry: { tries: 1, failures: 1000 }\ntimeouts: { first_byte: 300ms, answer: 300ms, idle: 300ms }\n";
    let gateway = Gateway::start(&fixture(&upstream, ", budget: { usd: 5 }", more));
    for (name, reply) in endings {
        upstream.set_reply(reply.clone());
        for stream in [false, true] {
            gateway.chat(&if stream { ask_stream("alias", "x") } else { ask("alias", "x") });
            println!("{name}: {} spent", quiet(&gateway));
        }
    }
    // Callers that leave.
    upstream.set_reply(Reply::instead(Step::Hang));
    let count = upstream.count();
    for _ in 0..5 {
        let mut connection = Connection::open(gateway.data);
        connection.send(&gateway.chat_request(&ask_stream("alias", "x"))).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    upstream.wait("the calls", Duration::from_secs(5), |journal| journal.len() > count);
    let before = quiet(&gateway);
    println!("G-5: 7 endings, whole and streamed, and callers that leave: 0 nano reserved after quiet, {before} spent");
}

#[test]
fn g05_what_a_kill_cut_off_counts_in_full() {
    let upstream = Upstream::always(answers::whole("fine"));
    let mut gateway = Gateway::start(&fixture(&upstream, ", budget: { usd: 0.05 }", ""));
    for _ in 0..2 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    upstream.set_reply(Reply::instead(Step::Hang));
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask("alias", "x"))).unwrap();
    upstream.wait("the call", Duration::from_secs(5), |journal| journal.len() == 3);
    gateway.kill9();
    upstream.set_reply(answers::whole("fine"));
    gateway.start_again();
    // What was under way may have cost its reserve: two cents are left.
    assert_eq!(seen(&gateway, "key"), (0.03, 0.0));
    for _ in 0..2 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    refused(&gateway.chat(&ask("alias", "x")));
    assert_eq!((quiet(&gateway), upstream.count()), (0.05, 5));
    println!("G-5: killed with a call under way: counted at its reserve, and not forgotten for one call");
}

#[test]
fn g06_no_way_in_goes_around_a_budget() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, ", budget: { usd: 0 }", ""));
    let chat = ask("alias", "x");
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "x" }] }] });
    let ways: [(&str, Value); 7] = [
        ("/v1/chat/completions", chat.clone()),
        ("/v1/chat/completions", ask_stream("alias", "x")),
        ("/v1/completions", json!({ "model": "alias", "prompt": "x" })),
        ("/v1/responses", json!({ "model": "alias", "input": "x" })),
        ("/v1/messages", json!({ "model": "alias", "max_tokens": 5, "messages": chat["messages"] })),
        ("/v1beta/models/alias:generateContent", gemini.clone()),
        ("/v1beta/models/alias:streamGenerateContent", gemini),
    ];
    let count = ways.len();
    for (path, body) in ways {
        let bearer = format!("Bearer {SECRET}");
        let got = client::post(gateway.data, path, &[("authorization", &bearer)], body.to_string());
        assert_eq!(got.status, 429, "{path}: {got}");
        assert!(got.text().contains("The monthly budget of the key `main` (0 USD) is spent"), "{path}: {got}");
        let said = match path {
            "/v1/messages" => "rate_limit_error",
            path if path.starts_with("/v1beta") => "RESOURCE_EXHAUSTED",
            _ => "insufficient_quota",
        };
        assert!(got.text().contains(said), "{path}: {got}");
    }
    // To have tokens counted is free, and says nothing of a budget.
    let body = json!({ "model": "alias", "messages": chat["messages"] });
    let bearer = format!("Bearer {SECRET}");
    let got = client::post(gateway.data, "/v1/messages/count_tokens", &[("authorization", &bearer)], body.to_string());
    assert_eq!(got.status, 200, "{got}");
    assert_eq!(upstream.count(), 0);
    println!("G-6: {count} ways in, 0 that nobody meters");
}

#[test]
fn g10_the_next_call_obeys_a_budget_that_is_changed() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = |fields: &str| fixture(&upstream, fields, "");
    let gateway = Gateway::start(&text(", budget: { usd: 0.05 }"));
    let reload = |fields: &str| {
        let reloads = || {
            let text = gateway.metrics();
            text.lines().find(|line| line.starts_with("portolan_config_info{")).map(str::to_owned)
        };
        let before = reloads();
        gateway.reload(&text(fields));
        let deadline = Instant::now() + Duration::from_secs(10);
        while reloads() == before {
            assert!(Instant::now() < deadline, "never reloaded\n{}", gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let call = || gateway.chat(&ask("alias", "x"));
    for _ in 0..3 {
        assert_eq!(call().status, 200);
    }
    reload(", budget: { usd: 0.02 }");
    refused(&call());
    reload(", budget: { usd: 0.04 }");
    assert_eq!(call().status, 200);
    refused(&call());
    reload("");
    assert_eq!(call().status, 200);
    // One that is new has been spent of already, also where nobody counted.
    reload(", budget: { usd: 0.06, per: day }");
    assert_eq!(call().status, 200);
    refused(&call());
    assert_eq!((upstream.count(), quiet(&gateway)), (6, 0.06));
    println!("G-10: lowered, raised, deleted, begun again: obeyed by the next call");
}

#[test]
fn g11_a_budget_is_what_the_ledger_says_over_restarts_and_beside_another_process() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = fixture(&upstream, ", budget: { usd: 0.1 }", "");
    let mut gateway = Gateway::start(&text);
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    quiet(&gateway);
    assert!(gateway.stop(Duration::from_secs(20)).success());
    gateway.start_again();
    assert_eq!(seen(&gateway, "key"), (0.03, 0.0), "known before anybody calls");

    // Another process on the same state, as in an upgrade.
    let other = Beside::start(&gateway, &text);
    assert_eq!(seen_at(other.admin), 0.03);
    for _ in 0..4 {
        assert_eq!(other.chat().status, 200);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen(&gateway, "key").0 < 0.07 - 1e-9 {
        assert!(Instant::now() < deadline, "never seen: {:?}\n{}", seen(&gateway, "key"), gateway.logs());
        thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    refused(&gateway.chat(&ask("alias", "x")));
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen_at(other.admin) < 0.1 - 1e-9 {
        assert!(Instant::now() < deadline, "never seen by the other");
        thread::sleep(Duration::from_millis(100));
    }
    refused(&other.chat());
    assert_eq!(upstream.count(), 10);
    assert_eq!(gateway.metric("portolan_budget_corrections_total", &[]), 0.0, "{}", gateway.logs());
    println!("G-11: a restart and two processes at once: drift 0 nano");
}

/// A second process with the state of a gateway, and ports of its own.
struct Beside {
    data: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    child: std::process::Child,
}

impl Beside {
    fn start(gateway: &Gateway, text: &str) -> Beside {
        let local = |port| std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        let (data, admin) = (local(free_port()), local(free_port()));
        let state = gateway.state();
        let head = format!("listen: {data}\nadmin: {{ listen: \"{admin}\" }}\nstate_dir: {}\n", state.display());
        let file = gateway.dir.path().join("beside.yaml");
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let log = std::fs::File::create(gateway.dir.path().join("beside.log")).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["run", "--config"])
            .arg(&file)
            .current_dir(gateway.dir.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(data).is_err() {
            assert!(Instant::now() < deadline, "the other process is not ready");
            thread::sleep(Duration::from_millis(20));
        }
        Beside { data, admin, child }
    }

    fn chat(&self) -> Response {
        let bearer = format!("Bearer {SECRET}");
        client::post(self.data, "/v1/chat/completions", &[("authorization", &bearer)], ask("alias", "x").to_string())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn seen_at(admin: std::net::SocketAddr) -> f64 {
    let text = client::get(admin, "/metrics", &[("connection", "close")]).text().to_owned();
    let line = text.lines().find(|line| line.starts_with("portolan_budget_spent_usd{"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
}

#[test]
fn g12_each_attempt_of_a_chain_is_billed_at_its_own_price() {
    let frames = answers::stream_frames(&["one ", "two "], true);
    let cut = Upstream::always(answers::stream(&frames[..2], 0).then(Step::Close));
    let broken = Upstream::always(answers::error(500, "no"));
    let good = Upstream::always(answers::whole("fine"));
    let models = [("alias", cut.v1()), ("second", broken.v1()), ("third", good.v1())];
    let models: Vec<(&str, &str)> = models.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let mut text = priced(&config(&models, "retry: { tries: 1, failures: 1000 }\n"), "alias", ", budget: { usd: 1 }");
    for (name, price) in [("second", "0.02"), ("third", "0.04")] {
        let row = format!("model: {name}-real");
        text = text.replacen(&row, &format!("{row}, price: {{ input: 0, output: 0, request: {price} }}"), 1);
    }
    let gateway = Gateway::start(&text);
    let mut body = ask("alias", "x");
    body["fallback"] = json!(["second", "third"]);
    // The first one answers a stream that breaks off, which nobody has asked for: it fails.
    assert_eq!(gateway.chat(&body).status, 200);
    let spent = quiet(&gateway);
    let rows = books::settled(&gateway);
    assert_eq!(rows.iter().filter(|row| row.served).count(), 1, "{rows:#?}");
    assert_eq!(rows.len(), 3, "{rows:#?}");
    let costs: Vec<u64> = rows.iter().map(|row| row.cost).collect();
    assert!(matches!(costs[..], [0 | 10_000_000, 0, 40_000_000]), "{costs:?}");
    println!("G-12: a chain of 3 attempts, billed {costs:?} nano: difference 0, {spent} USD spent");
}
