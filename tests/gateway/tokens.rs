//! Tokens: fetched before they are needed, renewed before they end, and what happens where there are none.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::gateway::{Gateway, ask, ask_stream, keys, provider};
use super::upstream::{Reply, Step, Upstream};

/// What tokens begin with; a number follows that counts them.
pub const GOOGLE_TOKEN: &str = "ya29.made-for-tests-";
/// The key file of a service account, made for the tests.
const KEY_FILE: &str = include_str!("../../src/provider/cases/service-account.json");

/// Gives tokens for so many seconds, a new one each time.
pub fn giver(seconds: u64) -> Upstream {
    Upstream::start(move |attempt| token(attempt.number, seconds))
}

fn token(number: usize, seconds: u64) -> Reply {
    let body =
        json!({"access_token": format!("{GOOGLE_TOKEN}{number}"), "expires_in": seconds, "token_type": "Bearer"});
    Reply::json(200, body.to_string())
}

/// The `auth` of a service account that gets its tokens there.
pub fn google(giver: &Upstream) -> String {
    let mut file: Value = serde_json::from_str(KEY_FILE).unwrap();
    file["token_uri"] = json!(format!("http://{}/token", giver.addr));
    format!("auth: {{ google_service_account: {{ json: '{file}' }} }}")
}

/// Model `alias` at a provider with tokens, behind it `backup` at another one.
fn config(giver: &Upstream, upstream: &Upstream, backup: &Upstream, more: &str) -> String {
    let auth = google(giver);
    let backup = provider("rescue", &backup.v1());
    format!(
        "providers:\n  cloud: {{ dialect: openai_chat, base_url: \"{}\", {auth} }}\n{backup}\
         models:\n  alias: {{ targets: [{{ provider: cloud }}], fallback: [backup] }}\n  \
         backup: {{ targets: [{{ provider: rescue }}] }}\n\
         retry: {{ tries: 1, failures: 1000 }}\ntimeouts: {{ connect: 1s }}\n{}{more}",
        upstream.v1(),
        keys()
    )
}

fn good(text: &'static str) -> Upstream {
    Upstream::start(move |attempt| answers::good(&attempt.json(), text))
}

/// Which provider answered, or the status of the refusal.
fn who(gateway: &Gateway) -> String {
    let got = gateway.chat(&ask("alias", "x"));
    got.header("x-portolan-provider").map_or_else(|| got.status.to_string(), str::to_owned)
}

fn refreshes(gateway: &Gateway, result: &str) -> f64 {
    counted(gateway, "portolan_token_refreshes_total", &["provider=\"cloud\"", &format!("result=\"{result}\"")])
}

/// A counter that is not shown before it counts.
fn counted(gateway: &Gateway, name: &str, labels: &[&str]) -> f64 {
    let shown = gateway.metrics().contains(&format!("# TYPE {name} "));
    if shown { gateway.metric(name, labels) } else { 0.0 }
}

#[track_caller]
fn wait(what: &str, mut wish: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !wish() {
        assert!(Instant::now() < deadline, "never {what}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_first_call_waits_for_the_first_token() {
    let mut slow = token(0, 3600);
    slow.before_head = vec![Step::Sleep(600)];
    let (giver, upstream, backup) = (Upstream::always(slow), good("fine"), good("rescued"));
    let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
    assert_eq!(who(&gateway), "cloud");
    assert_eq!(upstream.only().header("authorization"), Some(format!("Bearer {GOOGLE_TOKEN}0").as_str()));
    assert_eq!(refreshes(&gateway, "ok"), 1.0);
    let expiry = gateway.metric("portolan_token_expiry_timestamp_seconds", &["provider=\"cloud\""]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now + 3_500.0..now + 3_601.0).contains(&expiry), "{expiry}");
    let asked = giver.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert!(asked.text().starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey"));
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let (giver, upstream, backup) = (giver(3), good("fine"), good("rescued"));
    let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(who(&gateway), "cloud", "no call finds itself without a token: {}", gateway.logs());
        sleep(Duration::from_millis(100));
    }
    let shown: Vec<_> = upstream.attempts().iter().map(|a| a.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(shown.first(), Some(&format!("Bearer {GOOGLE_TOKEN}0")));
    assert_ne!(shown.first(), shown.last());
    // Half of three seconds is over a few times in five, and not at each call.
    assert!((3..8).contains(&giver.count()), "{}", giver.count());
    assert_eq!(backup.count(), 0);
}

#[test]
fn the_old_token_serves_while_no_new_one_can_be_had() {
    let giver = Upstream::start(|attempt| match attempt.number {
        0 => token(0, 6),
        _ => Reply::new(503, "text/html", "<p>later"),
    });
    let (upstream, backup) = (good("fine"), good("rescued"));
    let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
    assert_eq!(who(&gateway), "cloud");
    wait("a failed renewal", || refreshes(&gateway, "failed") >= 1.0);
    assert_eq!(who(&gateway), "cloud", "{}", gateway.logs());
    // Its end comes, and calls go on elsewhere.
    wait("a call that goes elsewhere", || who(&gateway) == "rescue");
    let sent = upstream.count();
    assert_eq!(who(&gateway), "rescue");
    assert_eq!(upstream.count(), sent, "no call is sent without a token");
    let asked = giver.count();
    assert!((2..12).contains(&asked), "tries have pauses between: {asked}");
}

#[test]
fn without_a_token_a_call_fails_over_and_is_not_sent() {
    let error = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    for reply in [
        Reply::json(400, error),
        Reply::json(200, "{\"access_token\":"),
        Reply::json(200, "x".repeat(100_000)),
        Reply::json(200, r#"{"access_token":"t","expires_in":0}"#),
        Reply::new(302, "text/html", "").header("location", "/elsewhere"),
        Reply::instead(Step::Close),
        Reply::instead(Step::Hang),
    ] {
        let what = format!("{reply:?}").chars().take(200).collect::<String>();
        let (giver, upstream, backup) = (Upstream::always(reply), good("fine"), good("rescued"));
        let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
        let begun = Instant::now();
        let got = gateway.chat(&ask_stream("alias", "x"));
        assert_eq!((got.status, got.header("x-portolan-provider")), (200, Some("rescue")), "{what}: {got}");
        assert_eq!(got.header("x-portolan-attempts"), Some("2"), "{what}: {got}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{what}: {:?}", begun.elapsed());
        let alone = gateway.chat(&ask("cloud/alias", "x"));
        let error = alone.refusal(502);
        assert!(!error["message"].as_str().unwrap().contains("Signature"), "{alone}");
        assert_eq!(upstream.count(), 0, "{what}");
        assert!(giver.attempts().iter().all(|asked| asked.path == "/token"), "{what}");
        for secret in ["assertion=", "PRIVATE KEY"] {
            assert!(!gateway.logs().contains(secret), "{}", gateway.logs());
        }
    }
}

#[test]
fn a_token_that_is_refused_fails_over() {
    let (giver, backup) = (giver(3600), good("rescued"));
    let upstream = Upstream::always(answers::error(401, "Request had invalid authentication credentials."));
    let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
    for _ in 0..3 {
        assert_eq!(who(&gateway), "rescue");
    }
    assert_eq!(upstream.count(), 3);
    assert_eq!(giver.count(), 1, "a token that is quite new is not replaced for it");
}

#[test]
fn a_reload_keeps_tokens_whose_source_stays() {
    let (giver, other) = (giver(3600), giver(3600));
    let (upstream, backup) = (good("fine"), good("rescued"));
    let gateway = Gateway::start(&config(&giver, &upstream, &backup, ""));
    assert_eq!(who(&gateway), "cloud");
    let reloads = || counted(&gateway, "portolan_config_reloads_total", &["ok"]);
    gateway.reload(&config(&giver, &upstream, &backup, "currencies: { cny: 7.12 }\n"));
    wait("a reload", || reloads() >= 1.0);
    assert_eq!(who(&gateway), "cloud");
    assert_eq!((giver.count(), other.count()), (1, 0));
    gateway.reload(&config(&other, &upstream, &backup, ""));
    wait("another reload", || reloads() >= 2.0);
    assert_eq!(who(&gateway), "cloud");
    assert_eq!((giver.count(), other.count()), (1, 1));
}
