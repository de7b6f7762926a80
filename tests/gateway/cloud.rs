//! Cloud providers, each as its API wants it: path, body, and what proves who calls.

use std::fs;

use portolan::provider::sigv4::{Credentials, Scope, Unsigned, sign};
use serde_json::{Value, json};

use super::answers;
use super::gateway::{Gateway, PROVIDER_KEY, ask, ask_stream, keys};
use super::tokens::{self, GOOGLE_TOKEN, google};
use super::upstream::{Attempt, Reply, Step, Upstream};

const PROJECT: &str = "/v1/projects/p-1/locations/europe-west1";
const KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A configuration with one provider and the model `alias`, whose target has that name there.
fn config(provider: &str, target: &str) -> String {
    format!(
        "providers:\n  cloud: {{ {provider} }}\nmodels:\n  alias: {{ targets: [{{ provider: cloud, model: \"{target}\" }}] }}\n{}",
        keys()
    )
}

fn events(events: &[Value]) -> Reply {
    let frame = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => answers::frame(&event.to_string()),
    };
    Reply::stream(events.iter().map(|event| Step::Bytes(frame(event).into_bytes())).collect())
}

/// Claude, as Vertex passes it on.
fn claude(attempt: &Attempt) -> Reply {
    let usage = json!({"input_tokens": 5, "output_tokens": 2});
    let message = json!({"id": "msg_vrtx_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "Bonjour"}], "stop_reason": "end_turn", "stop_sequence": null, "usage": usage});
    if !attempt.path.contains("stream") {
        return Reply::json(200, message.to_string());
    }
    let mut begun = message;
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    events(&[
        json!({"type": "message_start", "message": begun}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bonjour"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ])
}

fn gemini(attempt: &Attempt) -> Reply {
    let answer = json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Ciao"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
        "modelVersion": "gemini-2.5-pro",
    });
    if attempt.path.contains("stream") { events(&[answer]) } else { Reply::json(200, answer.to_string()) }
}

#[test]
fn claude_on_vertex_has_its_model_in_the_path_and_its_version_in_the_body() {
    let (giver, upstream) = (tokens::giver(3600), Upstream::start(claude));
    let auth = google(&giver);
    let row = format!("preset: vertex-anthropic, base_url: \"http://{}{PROJECT}\", {auth}", upstream.addr);
    let gateway = Gateway::start(&config(&row, "claude-sonnet-4-5@20250929"));
    let got = gateway.chat(&ask("alias", "Hello"));
    assert_eq!(got.json()["choices"][0]["message"]["content"], "Bonjour", "{got}");
    let got = gateway.chat(&ask_stream("alias", "Hello"));
    assert_eq!(got.said(), "Bonjour", "{got}");

    let attempts = upstream.attempts();
    let model = format!("{PROJECT}/publishers/anthropic/models/claude-sonnet-4-5@20250929");
    assert_eq!(attempts[0].path, format!("{model}:rawPredict"));
    assert_eq!(attempts[1].path, format!("{model}:streamRawPredict"));
    for (attempt, stream) in attempts.iter().zip([json!(null), json!(true)]) {
        let body = attempt.json();
        assert_eq!(body["anthropic_version"], "vertex-2023-10-16", "{body}");
        assert_eq!((body.get("model"), &body["stream"]), (None, &stream), "{body}");
        assert_eq!(body["messages"][0]["role"], "user");
        assert_eq!(attempt.header("authorization"), Some(format!("Bearer {GOOGLE_TOKEN}0").as_str()));
        for name in ["anthropic-version", "x-api-key", "x-goog-api-key"] {
            assert_eq!(attempt.header(name), None, "{name}");
        }
    }
    assert_eq!(giver.count(), 1, "both calls have one token");
}

#[test]
fn gemini_on_vertex_has_a_path_of_its_own() {
    let (giver, upstream) = (tokens::giver(3600), Upstream::start(gemini));
    let auth = google(&giver);
    let row = format!("preset: vertex-gemini, base_url: \"http://{}{PROJECT}\", {auth}", upstream.addr);
    let gateway = Gateway::start(&config(&row, "gemini-2.5-pro"));
    let got = gateway.chat(&ask("alias", "Hello"));
    assert_eq!(got.json()["choices"][0]["message"]["content"], "Ciao", "{got}");
    let got = gateway.chat(&ask_stream("alias", "Hello"));
    assert_eq!(got.said(), "Ciao", "{got}");
    let attempts = upstream.attempts();
    let model = format!("{PROJECT}/publishers/google/models/gemini-2.5-pro");
    assert_eq!(attempts[0].path, format!("{model}:generateContent"));
    assert_eq!(attempts[1].path, format!("{model}:streamGenerateContent?alt=sse"));
    for attempt in attempts {
        assert_eq!(attempt.json()["contents"][0]["parts"][0]["text"], "Hello");
        assert_eq!(attempt.header("authorization"), Some(format!("Bearer {GOOGLE_TOKEN}0").as_str()));
    }
}

#[test]
fn deployments_of_azure_stand_in_the_path() {
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let row = format!(
        "preset: azure-openai-deployments, base_url: \"http://{}\", api_key: {PROVIDER_KEY}, \
         quirks: {{ api_version: 2025-04-01-preview, adds: {{ data_sources: [{{ type: x }}] }} }}",
        upstream.addr
    );
    let gateway = Gateway::start(&config(&row, "gpt-5 prod"));
    for body in [ask("alias", "x"), ask_stream("alias", "x")] {
        let got = gateway.chat(&body);
        assert_eq!(got.status, 200, "{got}");
    }
    let own = json!({"model": "alias", "messages": [], "data_sources": null});
    assert_eq!(gateway.chat(&own).status, 200);
    for (attempt, added) in upstream.attempts().iter().zip([true, true, false]) {
        let path = "/openai/deployments/gpt-5%20prod/chat/completions?api-version=2025-04-01-preview";
        assert_eq!(attempt.path, path);
        assert_eq!(attempt.header("api-key"), Some(PROVIDER_KEY));
        assert_eq!(attempt.header("authorization"), None);
        let body = attempt.json();
        assert_eq!(body["model"], "gpt-5 prod");
        assert_eq!(body["data_sources"], if added { json!([{"type": "x"}]) } else { Value::Null });
    }
}

#[test]
fn azure_takes_tokens_of_entra() {
    let giver = tokens::giver(3600);
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let row = format!(
        "preset: azure-openai, base_url: \"http://{}/openai/v1\", auth: {{ entra: {{ tenant: contoso.com, \
         client_id: 11112222-bbbb-3333-cccc-4444dddd5555, client_secret: \"${{SECRET}}\", authority: \"http://{}/login\" }} }}",
        upstream.addr, giver.addr
    );
    let gateway = Gateway::start_in(&config(&row, "prod"), &[("SECRET", "a~b&c d")]);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.status, 200, "{got}");
    let attempt = upstream.only();
    assert_eq!(attempt.path, "/openai/v1/chat/completions");
    assert_eq!(attempt.header("authorization"), Some(format!("Bearer {GOOGLE_TOKEN}0").as_str()));
    assert_eq!(attempt.header("api-key"), None);
    let asked = giver.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/login/contoso.com/oauth2/v2.0/token"));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        asked.text(),
        "grant_type=client_credentials&client_id=11112222-bbbb-3333-cccc-4444dddd5555&client_secret=a~b%26c%20d\
         &scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
    );
    assert!(!gateway.logs().contains("a~b"));
}

/// The signature that a request should have, made from the request as it arrived.
#[track_caller]
fn assert_signed(attempt: &Attempt, keys: &Credentials, region: &str) {
    let (path, query) = attempt.path.split_once('?').unwrap_or((&attempt.path, ""));
    let host = attempt.header("host").unwrap();
    let request = Unsigned { method: &attempt.method, host, path, query, body: &attempt.body };
    let date = attempt.header("x-amz-date").unwrap();
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
    let now = date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second();
    for (name, value) in sign(keys, &Scope { region, service: "bedrock" }, &request, now.try_into().unwrap()).unwrap() {
        assert_eq!(attempt.header(name.as_str()), Some(value.to_str().unwrap()), "{name}");
    }
}

/// A provider behind AWS's signature, and its model `alias`.
fn signed_by(upstream: &Upstream, aws: &str) -> String {
    let url = format!("http://{}/openai/v1", upstream.addr);
    config(
        &format!("dialect: openai_chat, base_url: \"{url}\", auth: {{ aws: {{ region: us-west-2, {aws} }} }}"),
        "a.b-v1:0",
    )
}

fn given_keys(token: &str) -> Reply {
    let keys = json!({"Code": "Success", "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET_KEY, "Token": token,
        "Expiration": "2100-01-01T00:00:00Z"});
    Reply::json(200, keys.to_string())
}

#[test]
fn requests_to_aws_are_signed_with_own_keys() {
    let upstream = Upstream::start(|attempt| match attempt.number {
        0 => answers::error(500, "no"),
        _ => answers::good(&attempt.json(), "fine"),
    });
    let more = "access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: \"${SECRET}\"";
    let gateway = Gateway::start_in(&signed_by(&upstream, more), &[("SECRET", SECRET_KEY)]);
    for body in [ask("alias", "é"), ask_stream("alias", "x")] {
        let got = gateway.chat(&body);
        assert_eq!(got.status, 200, "{got}");
    }
    let keys = Credentials::parse("AKIAIOSFODNN7EXAMPLE", SECRET_KEY, None).unwrap();
    let attempts = upstream.attempts();
    assert_eq!(attempts.len(), 3, "one was tried again, and signed for itself");
    for attempt in &attempts {
        assert_signed(attempt, &keys, "us-west-2");
        assert_eq!(attempt.header("x-amz-security-token"), None);
    }
}

#[test]
fn a_container_gets_its_keys_from_the_service_beside_it() {
    let giver = Upstream::always(given_keys("session/1="));
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "pod-token\n").unwrap();
    let url = format!("http://{}/v1/credentials", giver.addr);
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let gateway = Gateway::start_in(&signed_by(&upstream, "from: container"), &env);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.status, 200, "{got}");
    assert_signed(&upstream.only(), &Credentials::parse(KEY_ID, SECRET_KEY, Some("session/1=")).unwrap(), "us-west-2");
    let asked = giver.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/credentials"));
    assert_eq!(asked.header("authorization"), Some("pod-token"));
}

#[test]
fn an_instance_gets_its_keys_from_its_metadata() {
    let giver = Upstream::start(|attempt| match attempt.path.as_str() {
        "/latest/api/token" => Reply::new(200, "text/plain", "imds-session"),
        path if attempt.header("x-aws-ec2-metadata-token") != Some("imds-session") => {
            Reply::new(401, "text/plain", path)
        }
        "/latest/meta-data/iam/security-credentials/" => Reply::new(200, "text/plain", "gateway-role"),
        "/latest/meta-data/iam/security-credentials/gateway-role" => given_keys("session/2="),
        _ => Reply::new(404, "text/plain", ""),
    });
    let upstream = Upstream::start(|attempt| answers::good(&attempt.json(), "fine"));
    let url = format!("http://{}", giver.addr);
    let gateway =
        Gateway::start_in(&signed_by(&upstream, "from: instance"), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.status, 200, "{got}");
    assert_signed(&upstream.only(), &Credentials::parse(KEY_ID, SECRET_KEY, Some("session/2=")).unwrap(), "us-west-2");
    let asked = giver.attempts();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        (asked[0].method.as_str(), asked[0].header("x-aws-ec2-metadata-token-ttl-seconds")),
        ("PUT", Some("21600"))
    );
}

#[test]
fn what_a_provider_repeats_of_a_token_is_not_told() {
    // AWS shows what it would have signed, headers and all.
    let shown = |token: &str| {
        answers::error(400, &format!("The Canonical String should have been x-amz-security-token:{token}"))
    };
    let upstream = Upstream::start(move |attempt| shown(attempt.header("x-amz-security-token").unwrap_or_default()));
    let giver = Upstream::always(given_keys("session-secret"));
    let url = format!("http://{}/c", giver.addr);
    let gateway =
        Gateway::start_in(&signed_by(&upstream, "from: container"), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    let got = gateway.chat(&ask("alias", "x"));
    let error = got.refusal(400);
    assert!(error["message"].as_str().unwrap().contains("[secret]"), "{got}");
    assert!(!got.text().contains("session-secret") && !gateway.logs().contains("session-secret"), "{got}");
}
