//! Errands run against answers as their givers send them, and against those that no giver should.

use ring::rand::SystemRandom;
use serde_json::json;

use super::*;
use crate::provider::aws::{Account, Authorization};
use crate::provider::{Proof, entra, google, sigv4};

const NOW: u64 = 1_795_219_200_000;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn google() -> Source {
    let account = ServiceAccount::parse(include_str!("../cases/service-account.json"), google::SCOPE);
    Source::Google(Box::new(account.unwrap()))
}

fn entra() -> Source {
    let (id, authority) = ("11112222-bbbb-3333-cccc-4444dddd5555", "http://127.0.0.1:9/login");
    Source::Entra(App::new("contoso.com", id, "app-secret", authority, entra::SCOPE).unwrap())
}

fn aws(keys: Keys) -> Source {
    Source::Aws(Account { region: "us-east-1".to_owned(), service: "bedrock".to_owned(), keys })
}

fn instance() -> Source {
    aws(Keys::Instance { endpoint: Node::parse(aws::INSTANCE, 1).unwrap() })
}

fn container(authorization: Authorization) -> Source {
    let endpoint = aws::container("http://169.254.170.23/v1/credentials").unwrap();
    aws(Keys::Container { endpoint, authorization })
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()) }
}

fn keys_until(expiration: &str) -> Answer {
    let body = json!({
        "Code": "Success", "LastUpdated": "2026-11-20T23:00:00Z", "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": SECRET, "Token": "IQoJsession", "Expiration": expiration,
    });
    answer(200, &body.to_string())
}

/// Runs an errand over these answers; the requests it made, and how it ended.
fn run(source: &Source, answers: &[Answer]) -> (Vec<Ask>, Result<Grant, String>) {
    let random = SystemRandom::new();
    let mut errand = source.errand();
    let mut asks = Vec::new();
    let mut answers = answers.iter();
    let mut last = None;
    loop {
        match errand.next(last, NOW, &random) {
            Ok(Next::Ask(ask)) => asks.push(*ask),
            Ok(Next::Done(grant)) => return (asks, Ok(grant)),
            Err(told) => return (asks, Err(told)),
        }
        last = Some(answers.next().expect("an answer to each request"));
    }
}

fn lines(asks: &[Ask]) -> Vec<String> {
    asks.iter().map(|ask| format!("{} {}{}", ask.method, ask.node.authority, ask.path)).collect()
}

#[test]
fn tokens_come_for_forms() {
    let good = answer(200, r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer","scope":"x"}"#);
    for (source, line) in [
        (google(), "POST oauth2.googleapis.com/token"),
        (entra(), "POST 127.0.0.1:9/login/contoso.com/oauth2/v2.0/token"),
    ] {
        let (asks, grant) = run(&source, std::slice::from_ref(&good));
        assert_eq!(lines(&asks), [line]);
        assert_eq!(asks[0].headers[0].1, "application/x-www-form-urlencoded");
        assert!(asks[0].body.starts_with(b"grant_type="));
        let grant = grant.unwrap();
        assert_eq!(grant.expires(), NOW + 3_599_000);
        assert!(matches!(&grant.proof, Proof::Bearer { header, .. } if header.1 == "Bearer ya29.x"));
        assert!(source.lasting().is_none());
    }
    let ends = |body: &str| run(&google(), &[answer(200, body)]).1.map(|grant| grant.expires() - NOW);
    assert_eq!(ends(r#"{"access_token":"t","expires_in":"60"}"#), Ok(60_000), "as text");
    assert_eq!(ends(r#"{"access_token":"t","expires_in":1.5e30}"#), Ok(86_400_000), "no token is believed for ever");
    assert_eq!(ends(r#"{"access_token":"t"}"#), Ok(300_000));
}

#[test]
fn what_is_no_token_is_told_without_secrets() {
    for (status, body, told) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
            "status 400: invalid_grant: Invalid JWT Signature.",
        ),
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#,
            "AADSTS7000215",
        ),
        (500, "<h1>hunter2</h1>", "status 500"),
        (302, "", "status 302"),
        (200, "", "not the JSON"),
        (200, r#"["hunter2"]"#, "not the JSON"),
        (200, r#"{"access_token":5,"expires_in":"hunter2"}"#, "not the JSON"),
        (200, r#"{"access_token":"hunter2","expires_in":"soon"}"#, "`expires_in`"),
        (200, r#"{"access_token":"hunter2","expires_in":-5}"#, "ended already"),
        (200, r#"{"access_token":"hunter2\n","expires_in":60}"#, "no header"),
        (200, r#"{"access_token":"","expires_in":60}"#, "empty"),
        (200, r#"{"id_token":"hunter2","expires_in":60}"#, "`access_token`"),
    ] {
        let message = run(&google(), &[answer(status, body)]).1.unwrap_err();
        assert!(message.contains(told), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let endless = json!({"error": "x".repeat(100_000)}).to_string();
    assert!(run(&google(), &[answer(400, &endless)]).1.unwrap_err().len() < 400);
}

#[test]
fn an_instance_is_asked_in_three_steps() {
    let answers = [answer(200, "session-1"), answer(200, "gateway-role\n"), keys_until("2026-11-21T06:00:00Z")];
    let (asks, grant) = run(&instance(), &answers);
    let wanted = [
        "PUT 169.254.169.254/latest/api/token",
        "GET 169.254.169.254/latest/meta-data/iam/security-credentials/",
        "GET 169.254.169.254/latest/meta-data/iam/security-credentials/gateway-role",
    ];
    assert_eq!(lines(&asks), wanted);
    assert_eq!(
        asks[0].headers,
        [(HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"), "21600".parse().unwrap())]
    );
    for ask in &asks[1..] {
        assert_eq!(ask.headers, [(HeaderName::from_static("x-aws-ec2-metadata-token"), "session-1".parse().unwrap())]);
    }
    let grant = grant.unwrap();
    assert_eq!(grant.expires(), NOW + 6 * 3_600_000);
    assert_eq!(grant.secrets().collect::<Vec<_>>(), [SECRET, "IQoJsession"]);
    assert!(!format!("{asks:?} {grant:?}").contains("session-1"));
}

#[test]
fn a_container_shows_its_token() {
    let until = "2026-11-21T01:00:00Z";
    let (asks, grant) = run(&container(Authorization::Token(Secret::new("pod".to_owned()))), &[keys_until(until)]);
    assert_eq!(lines(&asks), ["GET 169.254.170.23/v1/credentials"]);
    assert_eq!(asks[0].headers[0].1, "pod");
    assert_eq!(grant.unwrap().expires(), NOW + 3_600_000);
    let (asks, _) = run(&container(Authorization::File("/var/run/token".into())), &[keys_until(until)]);
    assert_eq!(asks[0].authorization_file.as_deref(), Some(std::path::Path::new("/var/run/token")));
    let (asks, grant) = run(
        &container(Authorization::None),
        &[answer(200, &json!({"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": SECRET}).to_string())],
    );
    assert!(asks[0].headers.is_empty());
    assert_eq!(grant.unwrap().expires(), NOW + 900_000, "keys without an end are asked for again");
}

#[test]
fn what_is_no_key_is_told_without_secrets() {
    let good = || keys_until("2026-11-21T06:00:00Z");
    let with = |name: &str, value: serde_json::Value| {
        let mut body: serde_json::Value = serde_json::from_slice(&good().body).unwrap();
        body[name] = value;
        answer(200, &body.to_string())
    };
    for (given, told) in [
        (answer(403, r#"{"code":"AccessDenied","message":"no such task"}"#), "status 403: AccessDenied: no such task"),
        (answer(200, "hunter2"), "not the JSON"),
        (with("Code", json!("AssumeRoleUnauthorizedAccess")), "`Code`"),
        (with("AccessKeyId", json!(null)), "`AccessKeyId`"),
        (with("SecretAccessKey", json!(null)), "`SecretAccessKey`"),
        (with("SecretAccessKey", json!("hunter2")), "secret access key"),
        (with("Token", json!(null)), "ASIA"),
        (with("Expiration", json!("hunter2")), "`Expiration`"),
        (with("Expiration", json!("2020-01-01T00:00:00Z")), "ended already"),
    ] {
        let message = run(&container(Authorization::None), &[given]).1.unwrap_err();
        assert!(message.contains(told), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let steps = |answers: &[Answer]| run(&instance(), answers).1.unwrap_err();
    assert!(steps(&[answer(405, "")]).contains("status 405"));
    assert!(steps(&[answer(200, " ")]).contains("session"));
    assert!(steps(&[answer(200, "a\u{1}b")]).contains("no header"));
    assert!(steps(&[answer(200, "s"), answer(404, "")]).contains("instance profile"));
    for role in ["", "../x", "a b", "a/b", &"r".repeat(129)] {
        assert!(steps(&[answer(200, "s"), answer(200, role)]).contains("no role"), "{role}");
    }
}

#[test]
fn own_keys_need_no_errand() {
    let source = aws(Keys::Own(sigv4::Credentials::parse("AKIAIOSFODNN7EXAMPLE", SECRET, None).unwrap()));
    let (asks, grant) = run(&source, &[]);
    assert!(asks.is_empty() && grant.unwrap().is_good(NOW));
    assert!(source.lasting().is_some() && instance().lasting().is_none());
    for source in
        [source, google(), entra(), instance(), container(Authorization::Token(Secret::new("pod-token".into())))]
    {
        let shown = format!("{source:?}");
        for secret in [SECRET, "app-secret", "pod-token", "PRIVATE"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(source, source);
    }
    assert_ne!(google(), entra());
}
