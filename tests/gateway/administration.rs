//! Keys, and whom they belong to, made and changed while the gateway serves.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::gateway::{Gateway, SECRET, ask, config, sha256};
use super::upstream::Upstream;

const NONE: Value = Value::Null;
const GIVEN: &str = "pa-given-to-the-process-0123456789";

fn fixture(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(answers::whole("hello"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1()), ("other", &upstream.v1())], more));
    (upstream, gateway)
}

#[track_caller]
fn within_a_second(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(1), "not within a second: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_key_is_made_used_changed_rotated_and_revoked() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let made = gateway.admin(&token, "POST", "keys", &json!({"id": "ci", "models": ["alias"], "tags": {"unit": "x"}}));
    assert_eq!(made.status, 201, "{made}");
    let told = made.json();
    let secret = told["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("pk-") && secret.len() == 46 && secret.starts_with(told["prefix"].as_str().unwrap()));
    assert_eq!((&told["key"]["source"], &told["key"]["read_only"]), (&json!("api"), &json!(false)));
    assert_eq!(gateway.status_of(&secret, "alias"), 200, "in force before the answer came");
    assert_eq!(gateway.status_of(&secret, "other"), 403);

    let shown = gateway.admin(&token, "GET", "keys/ci", &NONE);
    assert_eq!(shown.status, 200);
    assert!(!shown.text().contains(&secret) && !shown.text().contains(&sha256(&secret)));
    let tag = shown.header("etag").unwrap().to_owned();
    let changed = gateway.admin(&token, "PATCH", "keys/ci", &json!({"models": null, "tags": {"more": "y"}}));
    assert_eq!(changed.status, 200, "{changed}");
    assert_eq!(changed.json()["document"], json!({"id": "ci", "tags": {"more": "y", "unit": "x"}}));
    assert_eq!(gateway.status_of(&secret, "other"), 200);
    let late = gateway.admin_with(&token, "PATCH", "keys/ci", &[("if-match", &tag)], &json!({"disabled": true}));
    assert_eq!(late.status, 412, "{late}");

    let rotated = gateway.admin(&token, "POST", "keys/ci/rotate", &json!({"overlap": "2s"}));
    assert_eq!(rotated.status, 201, "{rotated}");
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(
        (gateway.status_of(&secret, "alias"), gateway.status_of(&second, "alias")),
        (200, 200),
        "both for a while"
    );
    thread::sleep(Duration::from_millis(2_100));
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(&second, "alias")), (401, 200));
    let rotated = gateway.admin(&token, "POST", "keys/ci/rotate", &json!({"overlap": "0s"}));
    let third = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!((gateway.status_of(&second, "alias"), gateway.status_of(&third, "alias")), (401, 200));

    for patch in [json!({"disabled": true}), json!({"disabled": null, "expires": "2020-01-01"})] {
        assert_eq!(gateway.admin(&token, "PATCH", "keys/ci", &patch).status, 200);
        assert_eq!(gateway.status_of(&third, "alias"), 401, "{patch}");
    }
    assert_eq!(gateway.admin(&token, "PATCH", "keys/ci", &json!({"expires": null})).status, 200);
    assert_eq!(gateway.status_of(&third, "alias"), 200);
    assert_eq!(gateway.admin(&token, "DELETE", "keys/ci", &NONE).status, 204);
    assert_eq!(gateway.status_of(&third, "alias"), 401, "revoked before the answer came");
    assert_eq!(gateway.admin(&token, "GET", "keys/ci", &NONE).json()["status"], "revoked");
    assert_eq!(gateway.admin(&token, "POST", "keys", &json!({"id": "ci"})).status, 409);
    assert_eq!(gateway.admin(&token, "PATCH", "keys/ci", &json!({"disabled": null})).status, 409);
    let listed = gateway.admin(&token, "GET", "keys", &NONE).json();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["main", "other"], "those of the file");

    let log = gateway.admin(&token, "GET", "audit", &NONE);
    let actions: Vec<_> = log.json()["data"].as_array().unwrap().iter().map(|e| e["action"].clone()).collect();
    assert_eq!(actions.len(), 9, "{log}");
    for secret in [&secret, &second, &third, &token] {
        assert!(!log.text().contains(secret.as_str()) && !log.text().contains(&sha256(secret)));
    }
    let verdict = gateway.admin(&token, "GET", "audit/verify", &NONE).json();
    assert_eq!((&verdict["entries"], &verdict["flaws"]), (&json!(9), &json!([])), "{verdict}");
}

#[test]
fn what_the_file_defines_is_read_only_and_says_so() {
    let more = "teams: { search: { models: [alias] } }\nprojects: { web: { team: search } }\n";
    let (_upstream, gateway) = fixture(more);
    let token = gateway.token();
    for (method, path, body) in [
        ("PATCH", "keys/main", json!({"disabled": true})),
        ("DELETE", "keys/main", NONE),
        ("POST", "keys", json!({"id": "main"})),
        ("POST", "keys/main/rotate", json!({})),
        ("PUT", "teams/search", json!({})),
        ("PATCH", "projects/web", json!({"team": null})),
        ("DELETE", "projects/web", NONE),
    ] {
        let got = gateway.admin(&token, method, path, &body);
        assert_eq!((got.status, &got.json()["error"]["code"]), (409, &json!("read_only")), "{method} {path} {got}");
    }
    assert_eq!(gateway.status_of(SECRET, "alias"), 200);
    let shown = gateway.admin(&token, "GET", "projects/web", &NONE).json();
    assert_eq!((&shown["source"], &shown["team"]), (&json!("file"), &json!("search")));

    // Stored ones under it are held to it, and to it as it is after a reload.
    let secret = gateway.make_key(&token, &json!({"id": "k", "project": "web"}));
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(&secret, "other")), (200, 403));
    let models = format!("{}{more}", gateway_config(&_upstream)).replace("models: [alias]", "models: [other]");
    gateway.reload(&models);
    within_a_second("a reload reaches stored keys", || gateway.status_of(&secret, "other") == 200);
    assert_eq!(gateway.status_of(&secret, "alias"), 403);
    // A file that has a stored key's id now wins; one that no longer has its project shuts it.
    gateway.reload(&gateway_config(&_upstream));
    within_a_second("its project is gone", || gateway.status_of(&secret, "other") == 401);
}

fn gateway_config(upstream: &Upstream) -> String {
    config(&[("alias", &upstream.v1()), ("other", &upstream.v1())], "")
}

#[test]
fn a_team_sees_and_changes_its_own_alone() {
    let (_upstream, gateway) = fixture("");
    let owner = gateway.token();
    let put = |path: &str, body: Value| {
        let got = gateway.admin(&owner, "PUT", path, &body);
        assert_eq!(got.status, 201, "{path} {got}");
    };
    put("organisations/acme", json!({"models": ["alias", "other"]}));
    put("teams/red", json!({"organisation": "acme", "models": ["alias"]}));
    put("teams/blue", json!({}));
    put("projects/red-web", json!({"team": "red"}));
    put("projects/blue-web", json!({"team": "blue"}));
    put("users/blue-ann", json!({"team": "blue"}));
    gateway.make_key(&owner, &json!({"id": "blue-key", "project": "blue-web"}));
    gateway.make_key(&owner, &json!({"id": "free-key"}));
    let made = gateway.admin(&owner, "POST", "tokens", &json!({"id": "red-admin", "role": "admin", "team": "red"}));
    let red = made.json()["token"].as_str().unwrap().to_owned();
    let see = |path: &str| gateway.admin(&red, "GET", path, &NONE);
    assert_eq!(see("self").json(), json!({"id": "red-admin", "role": "admin", "team": "red"}));
    let ids = |path: &str| -> Vec<String> {
        let listed = see(path).json();
        listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let secret = gateway.make_key(&red, &json!({"id": "red-key", "project": "red-web"}));
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(&secret, "other")), (200, 403));
    assert_eq!(ids("keys"), ["red-key"]);
    assert_eq!(gateway.status_of(SECRET, "alias"), 200);
    gateway.settled(1);
    let used = |token: &str, path: &str| -> Vec<String> {
        let told = gateway.admin(token, "GET", path, &NONE).json();
        told["data"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(used(&red, "usage?group_by=key"), ["red-key"]);
    assert_eq!(used(&red, "usage?group_by=key&team=blue&key=main"), [""; 0]);
    assert_eq!(used(&owner, "usage?group_by=key").len(), 2);
    assert_eq!(see("usage?group_by=weather").status, 400);
    assert_eq!((ids("projects"), ids("teams"), ids("users")), (vec!["red-web".into()], vec!["red".into()], vec![]));
    assert_eq!(ids("keys?team=blue"), [""; 0]);
    for path in ["keys/blue-key", "keys/free-key", "keys/main", "projects/blue-web", "users/blue-ann", "teams/blue"] {
        assert_eq!(see(path).status, 404, "{path}");
    }
    // Nothing can be put under others, taken from them, or taken out of the team.
    for (method, path, body, status) in [
        ("POST", "keys", json!({"id": "x", "project": "blue-web"}), 404),
        ("POST", "keys", json!({"id": "x", "project": "nothing"}), 404),
        ("POST", "keys", json!({"id": "x", "project": "red-web", "user": "blue-ann"}), 404),
        ("POST", "keys", json!({"id": "x"}), 403),
        ("PATCH", "keys/red-key", json!({"project": "blue-web"}), 404),
        ("PATCH", "keys/red-key", json!({"project": null}), 403),
        ("PATCH", "projects/red-web", json!({"team": "blue"}), 404),
        ("PATCH", "projects/red-web", json!({"team": null}), 403),
        ("PUT", "projects/blue-web", json!({"team": "red"}), 404),
        ("PATCH", "keys/blue-key", json!({"disabled": true}), 404),
        ("DELETE", "keys/blue-key", NONE, 404),
        ("POST", "keys/blue-key/rotate", json!({}), 404),
        ("PATCH", "teams/red", json!({"models": ["*"]}), 403),
        ("PUT", "teams/new", json!({}), 403),
        ("GET", "organisations", NONE, 403),
        ("GET", "audit", NONE, 403),
        ("GET", "tokens", NONE, 403),
        ("POST", "tokens", json!({"id": "x", "role": "owner"}), 403),
        ("POST", "keys", json!({"id": "x", "project": "red-web", "models": ["*"]}), 422),
        ("POST", "keys", json!({"id": "x", "project": "red-web", "weight": 1000}), 403),
    ] {
        let got = gateway.admin(&red, method, path, &body);
        assert_eq!(got.status, status, "{method} {path} {body} {got}");
    }
    assert_eq!(gateway.admin(&owner, "DELETE", "teams/red", &NONE).json()["error"]["code"], "in_use");
    assert_eq!(gateway.admin(&owner, "DELETE", "tokens/red-admin", &NONE).status, 204);
    assert_eq!(see("self").status, 401);
}

#[test]
fn calls_go_on_when_the_register_is_gone_locked_or_damaged() {
    let (_upstream, mut gateway) = fixture("");
    let token = gateway.token();
    let secret = gateway.make_key(&token, &json!({"id": "k"}));
    let path = gateway.state().join("directory.sqlite");

    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    assert_eq!(gateway.status_of(&secret, "alias"), 200);
    assert!(begun.elapsed() < Duration::from_secs(1));
    let refused = gateway.admin(&token, "POST", "keys", &json!({"id": "l"}));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused}");
    assert_eq!(gateway.admin(&token, "GET", "keys/k", &NONE).status, 200, "reading goes on");
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    gateway.make_key(&token, &json!({"id": "l"}));

    let away = gateway.dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    assert_eq!(gateway.status_of(&secret, "alias"), 200);
    assert_eq!(gateway.admin(&token, "POST", "keys", &json!({"id": "m"})).status, 503);
    assert_eq!(gateway.admin("", "GET", "/health/ready", &NONE).status, 200);
    thread::sleep(Duration::from_millis(600));
    assert_eq!(gateway.status_of(&secret, "alias"), 200, "nothing is forgotten");
    fs::rename(&away, &path).unwrap();
    gateway.make_key(&token, &json!({"id": "m"}));

    gateway.kill9();
    for part in ["-wal", "-shm"] {
        let _ = fs::remove_file(gateway.state().join(format!("directory.sqlite{part}")));
    }
    fs::write(&path, vec![0x5a; 8_192]).unwrap();
    gateway.start_again();
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(SECRET, "alias")), (401, 200));
    assert!(gateway.logs().contains("it was moved aside"), "{}", gateway.logs());
}

#[test]
fn what_one_process_writes_holds_in_the_other() {
    let (upstream, gateway) = fixture("");
    let token = gateway.token();
    let dir = tempfile::tempdir().unwrap();
    let port = super::gateway::free_port;
    let (data, admin) = (format!("127.0.0.1:{}", port()), format!("127.0.0.1:{}", port()));
    let text = format!(
        "listen: {data}\nadmin: {{ listen: \"{admin}\" }}\nstate_dir: {}\n{}",
        gateway.state().display(),
        gateway_config(&upstream)
    );
    fs::write(dir.path().join("second.yaml"), text).unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["run", "--config"])
        .arg(dir.path().join("second.yaml"))
        .env_clear()
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let data: std::net::SocketAddr = data.parse().unwrap();
    let status = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("connection", "close")];
        super::client::post(data, "/v1/chat/completions", &headers, ask("alias", "x").to_string()).status
    };
    let begun = Instant::now();
    while std::net::TcpStream::connect(data).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(20));
    }
    let printed = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(!printed.contains("pa-"), "the first token is shown once, by whoever made it: {printed}");
    let secret = gateway.make_key(&token, &json!({"id": "k"}));
    within_a_second("made here, good there", || status(&secret) == 200);
    assert_eq!(gateway.admin(&token, "DELETE", "keys/k", &NONE).status, 204);
    within_a_second("revoked here, refused there", || status(&secret) == 401);
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn the_first_token_is_shown_once_or_given() {
    let upstream = Upstream::always(answers::whole("x"));
    let mut gateway = Gateway::start(&gateway_config(&upstream));
    let token = gateway.token();
    gateway.stop(Duration::from_secs(10));
    gateway.start_again();
    assert_eq!(gateway.logs().matches("pa-").count(), 1, "shown at the first start alone");
    assert_eq!(gateway.admin(&token, "GET", "self", &NONE).json()["role"], "owner");
    assert_eq!(gateway.admin(&token, "DELETE", "tokens/bootstrap", &NONE).json()["error"]["code"], "last_owner");

    let given = Gateway::start_in(&gateway_config(&upstream), &[("PORTOLAN_ADMIN_TOKEN", GIVEN)]);
    assert!(!given.logs().contains("pa-"), "{}", given.logs());
    assert_eq!(given.admin(GIVEN, "GET", "self", &NONE).json()["id"], "environment");
    assert_eq!(given.admin("pa-something-else-012345", "GET", "self", &NONE).status, 401);
}

#[test]
fn the_port_answers_within_bounds() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let code = |got: &super::client::Response| got.json()["error"]["code"].as_str().unwrap().to_owned();
    let got = gateway.admin("", "GET", "keys", &NONE);
    assert_eq!((got.status, got.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(got.json()["error"]["request_id"].as_str(), got.header("x-portolan-request-id"));
    let got = gateway.admin(&token, "POST", "keys", &json!({"id": "x".repeat(1 << 20)}));
    assert_eq!((got.status, code(&got).as_str()), (413, "too_large"));
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let headers = [("authorization", format!("Bearer {token}")), ("content-type", "application/json".into())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let post = |body: &str| super::client::post(gateway.admin, "/admin/v1/keys", &headers, body);
    for body in [deep.as_str(), "", "{", "{} {}", "\u{0}", "[1,", "\"x"] {
        assert_eq!(post(body).status, 400, "{body:.20}");
    }
    for body in ["[]", "1", "{\"id\":1}", "{\"id\":\"a b\"}", "{\"id\":\"a\",\"modles\":[]}", "{\"expires\":\"soon\"}"]
    {
        assert_eq!(post(body).status, 422, "{body}");
    }
    let got = gateway.admin_with(&token, "POST", "keys", &[("content-type", "text/plain")], &NONE);
    assert_eq!(got.status, 400, "{got}");
    for path in
        ["keys?limit=0", "keys?limit=501", "keys?limit=x", "keys?after=%ff", "audit?below=-1", "keys?revoked=yes"]
    {
        assert_eq!(gateway.admin(&token, "GET", path, &NONE).status, 400, "{path}");
    }
    let got = gateway.admin(&token, "POST", "audit", &NONE);
    assert_eq!((got.status, got.header("allow")), (405, Some("GET")));
    let foreign = super::client::request("GET", "/metrics", &[("connection", "close")], b"");
    let foreign = String::from_utf8(foreign).unwrap();
    let host = foreign.lines().find(|line| line.to_ascii_lowercase().starts_with("host:")).unwrap().to_owned();
    let foreign = foreign.replace(&host, "host: rebound.example");
    assert_eq!(super::client::Connection::open(gateway.admin).exchange(foreign.as_bytes()).status, 421);
    for secret in ["'; DROP TABLE secrets; --", "%", "_", "pk-*"] {
        assert_eq!(
            gateway.admin(&token, "GET", &format!("keys?prefix={}", secret.replace(['%', ' '], "%25")), &NONE).status,
            200
        );
    }
}

#[test]
fn the_command_line_does_the_same() {
    let (_upstream, gateway) = fixture("");
    let token = gateway.token();
    let file = gateway.dir.path().join("portolan.yaml");
    let run = |token: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.env_clear().env("PORTOLAN_ADMIN_TOKEN", token).args(arguments).arg("--config").arg(&file);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let good = |arguments: &[&str]| {
        let (done, out, err) = run(&token, arguments);
        assert!(done, "{arguments:?}: {err}");
        out
    };
    good(&["organisations", "create", "acme"]);
    good(&["teams", "create", "search", "--organisation", "acme", "--models", "alias,gpt-*"]);
    good(&["projects", "create", "web", "--team", "search", "--tag", "unit=x"]);
    good(&["users", "create", "ann", "--team", "search", "--set", "email=\"ann@example.com\""]);
    let made = good(&["keys", "create", "ci", "--project", "web", "--user", "ann", "--models", "alias"]);
    let secret = made.lines().last().unwrap().to_owned();
    assert!(secret.starts_with("pk-"), "{made}");
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(&secret, "other")), (200, 403));
    let listed: Value = serde_json::from_str(&good(&["keys", "list", "--team", "search", "--json"])).unwrap();
    assert_eq!(listed["data"][0]["id"], "ci");
    assert!(good(&["keys", "list"]).lines().any(|line| line.starts_with("main") && line.contains("file")));
    assert!(good(&["keys", "show", "ci"]).contains("acme"));
    good(&["keys", "update", "ci", "--disabled", "true"]);
    assert_eq!(gateway.status_of(&secret, "alias"), 401);
    good(&["keys", "update", "ci", "--set", "disabled=null"]);
    let rotated = good(&["keys", "rotate", "ci", "--overlap", "0s"]);
    let second = rotated.lines().last().unwrap();
    assert_eq!((gateway.status_of(&secret, "alias"), gateway.status_of(second, "alias")), (401, 200));
    let viewer = good(&["tokens", "create", "eve", "--role", "viewer", "--team", "search"]);
    let (done, _, err) = run(viewer.trim(), &["keys", "revoke", "ci"]);
    assert!(!done && err.contains("role does not allow"), "{err}");
    good(&["keys", "revoke", "ci"]);
    good(&["tokens", "revoke", "eve"]);
    assert!(good(&["tokens", "list"]).contains("revoked"));
    let (done, _, err) = run("", &["keys", "list"]);
    assert!(!done && err.contains("PORTOLAN_ADMIN_TOKEN"), "{err}");
    let (done, _, err) = run(&token, &["projects", "create", "x", "--team", "serach"]);
    assert!(!done && err.contains("search"), "{err}");
    assert!(good(&["audit", "list", "--limit", "3"]).contains("revoke"));
    let verified = good(&["audit", "verify"]);
    let head = verified.split_whitespace().last().unwrap().to_owned();
    good(&["keys", "create"]);
    good(&["audit", "verify", "--head", &head]);

    // Somebody gives themselves a key behind the gateway's back.
    let conn = rusqlite::Connection::open(gateway.state().join("directory.sqlite")).unwrap();
    conn.execute("UPDATE secrets SET gone = 0 WHERE key = 'ci'", []).unwrap();
    let (done, out, _) = run(&token, &["audit", "verify"]);
    assert!(!done && out.contains("`ci` is not stored as the log says"), "{out}");
    conn.execute_batch(
        "UPDATE secrets SET gone = 1 WHERE key = 'ci'; DROP TRIGGER audit_keeps; DELETE FROM audit WHERE number > 3;",
    )
    .unwrap();
    let (done, out, _) = run(&token, &["audit", "verify", "--head", &head]);
    assert!(!done && out.contains("were removed") && out.contains("any more"), "{out}");
}
