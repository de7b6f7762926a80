//! Every way to say no: the caller's own error shape, a request id, and a connection that goes on.

use std::time::Duration;

use super::answers;
use super::client::{self, Connection};
use super::gateway::{Gateway, OTHER_SECRET, PROVIDER_KEY, SECRET, ask, config};
use super::upstream::Upstream;

const PATH: &str = "/v1/chat/completions";

fn fixture(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&config(&[("alias", &upstream.v1())], more));
    (upstream, gateway)
}

#[test]
fn without_a_good_key() {
    let (upstream, gateway) = fixture("");
    let body = ask("alias", "x").to_string();
    let almost = format!("Bearer {}", &SECRET[..SECRET.len() - 1]);
    let longer = format!("Bearer {SECRET}x");
    for headers in [
        vec![],
        vec![("authorization", "Bearer nonsense")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", "Basic dXNlcjpwYXNz")],
        vec![("authorization", almost.as_str())],
        vec![("authorization", longer.as_str())],
        vec![("authorization", PROVIDER_KEY)],
        vec![("x-api-key", "")],
        vec![("api-key", "pk-\u{e9}")],
    ] {
        let got = client::post(gateway.data, PATH, &headers, &body);
        let error = got.refusal(401);
        assert_eq!(error["code"], "invalid_api_key", "{headers:?}");
    }
    for path in ["/v1/models", "/v1/models/alias", "/v1/usage"] {
        client::get(gateway.data, path, &[("connection", "close")]).refusal(401);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn keys_that_are_over() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], "");
    let disabled = text.replace("id: main,", "id: main, disabled: true,");
    let expired = text.replace("id: main,", "id: main, expires: \"2020-01-01T00:00:00Z\",");
    for text in [disabled, expired] {
        let gateway = Gateway::start(&text);
        gateway.chat(&ask("alias", "x")).refusal(401);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_model_that_is_not_there_or_not_allowed() {
    let (upstream, gateway) = fixture("");
    let error = gateway.chat(&ask("gpt-nonsense", "x")).refusal(404);
    assert_eq!((&error["code"], &error["param"]), (&"model_not_found".into(), &"model".into()));
    assert!(error["message"].as_str().unwrap().contains("gpt-nonsense"));
    let body = ask("alias", "x").to_string();
    client::post(gateway.data, PATH, &[("x-api-key", OTHER_SECRET)], &body).refusal(403);
    // A way around the list, through a fallback.
    let body = r#"{"model":"open-nothing","fallback":["alias"],"messages":[]}"#;
    let got = client::post(gateway.data, PATH, &[("x-api-key", OTHER_SECRET)], body);
    assert!(matches!(got.status, 403 | 404), "{got}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_model_whose_provider_has_no_key_says_so() {
    let more = "  slept: { targets: [{ provider: sleeper }] }\n";
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], "").replacen("models:\n", &format!("models:\n{more}"), 1);
    let row = "  sleeper: { preset: openai, api_key: \"${PORTOLAN_TEST_UNSET}\" }\n";
    let gateway = Gateway::start(&text.replacen("providers:\n", &format!("providers:\n{row}"), 1));
    let error = gateway.chat(&ask("slept", "x")).refusal(404);
    assert!(error["message"].as_str().unwrap().contains("PORTOLAN_TEST_UNSET"), "{error}");
    assert!(gateway.logs().contains("PORTOLAN_TEST_UNSET"), "the start names what is missing");
}

#[test]
fn bodies_that_cannot_be_read() {
    let (upstream, gateway) = fixture("");
    let deep = |levels: usize| {
        format!(r#"{{"model":"alias","messages":[],"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    let (far_too_deep, too_deep) = (deep(100_000), deep(64));
    for (body, param) in [
        (&b""[..], None),
        (b"{", None),
        (b"[]", None),
        (b"\"model\"", None),
        (b"nonsense", None),
        (b"{\"model\":\"alias\",\"messages\":[]} trailing", None),
        (b"{\"model\":\"alias\",\"messages\":[\"\xff\xfe\"]}", None),
        (b"{\"model\":\"alias\",\"messages\":[\"\\ud800x\x01\"]}", None),
        (b"{\"model\":\"alias\" \"messages\":[]}", None),
        (b"{\"model\":\"alias\",\"n\":01,\"messages\":[]}", None),
        (too_deep.as_bytes(), None),
        (far_too_deep.as_bytes(), None),
        (b"{\"messages\":[]}", Some("model")),
        (b"{\"model\":5,\"messages\":[]}", Some("model")),
        (b"{\"model\":\"\",\"messages\":[]}", Some("model")),
        (b"{\"model\":\"alias\",\"messages\":[],\"model\":\"other\"}", Some("model")),
        (b"{\"model\":\"alias\",\"messages\":[],\"mod\\u0065l\":\"other\"}", Some("model")),
        (b"{\"model\":\"alias\",\"messages\":[],\"stream\":true,\"stream\":false}", Some("stream")),
        (b"{\"model\":\"alias\",\"messages\":[],\"stream\":\"yes\"}", Some("stream")),
        (b"{\"model\":\"alias\",\"messages\":[],\"max_tokens\":1,\"max_tokens\":100000}", Some("max_tokens")),
        (b"{\"model\":\"alias\",\"messages\":[],\"fallback\":\"other\"}", Some("fallback")),
        (b"{\"model\":\"alias\",\"messages\":[],\"timeout\":-1}", Some("timeout")),
        (b"{\"model\":\"alias\",\"messages\":[],\"timeout\":\"soon\"}", Some("timeout")),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let got = gateway.chat_with(&[], body);
        assert_eq!(got.status, 400, "{shown}: {got}");
        let error = got.refusal(400);
        if let Some(param) = param {
            assert_eq!(error["param"], param, "{shown}: {error}");
        }
    }
    assert_eq!(upstream.count(), 0, "a bad body reached the provider");
    // 62 levels within the object are allowed.
    assert_eq!(gateway.chat_with(&[], deep(60)).status, 200);
}

#[test]
fn bodies_that_are_too_large() {
    let (upstream, gateway) = fixture("limits: { body_bytes: 10KiB }\n");
    let bearer = format!("Bearer {SECRET}");
    let headers = [("authorization", bearer.as_str())];
    let large = ask("alias", &"x".repeat(20_000)).to_string();
    let error = gateway.chat_with(&[], &large).refusal(413);
    assert!(error["message"].as_str().unwrap().contains("10240"), "{error}");
    // The length alone is enough to refuse: nothing is waited for.
    let mut stated = headers.to_vec();
    stated.push(("content-length", "99999999999"));
    Connection::open(gateway.data).exchange(&client::request("POST", PATH, &stated, b"{")).refusal(413);
    let mut chunked = headers.to_vec();
    chunked.push(("transfer-encoding", "chunked"));
    let body = client::chunked(large.as_bytes(), 1_000);
    Connection::open(gateway.data).exchange(&client::request("POST", PATH, &chunked, &body)).refusal(413);
    let mut expecting = stated.clone();
    expecting.push(("expect", "100-continue"));
    Connection::open(gateway.data).exchange(&client::request("POST", PATH, &expecting, b"")).refusal(413);
    assert_eq!(upstream.count(), 0);
    let fits = ask("alias", &"x".repeat(9_000)).to_string();
    assert_eq!(gateway.chat_with(&[], fits).status, 200);
}

#[test]
fn bodies_that_do_not_come() {
    let (upstream, gateway) = fixture("limits: { body_time: 500ms }\n");
    let bearer = format!("Bearer {SECRET}");
    let headers = [("authorization", bearer.as_str()), ("content-length", "100")];
    let mut connection = Connection::open(gateway.data);
    connection.exchange(&client::request("POST", PATH, &headers, b"{\"model\"")).refusal(408);
    assert!(connection.closed_within(Duration::from_secs(5)), "the rest of the body would be the next request");
    // A body that ends early is never answered as if it were whole.
    let mut connection = Connection::open(gateway.data);
    connection.send(&client::request("POST", PATH, &headers, b"{}")).unwrap();
    connection.finish_sending();
    if let Ok(got) = connection.response() {
        got.refusal(400);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let (_, gateway) = fixture("");
    let bearer = format!("Bearer {SECRET}");
    let send = |method: &str, path: &str| {
        let headers = [("authorization", bearer.as_str()), ("connection", "close")];
        Connection::open(gateway.data).exchange(&client::request(method, path, &headers, b""))
    };
    for (method, path) in [
        ("POST", "/"),
        ("POST", "/v1/nonsense"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat/../chat/completions"),
        ("GET", "/metrics"),
        ("GET", "/admin/targets"),
    ] {
        let error = send(method, path).refusal(404);
        assert_eq!(error["code"], "unknown_url", "{method} {path}");
    }
    for (method, path, allow) in [
        ("GET", PATH, "POST"),
        ("PUT", PATH, "POST"),
        ("DELETE", PATH, "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/v1/usage", "GET"),
    ] {
        let got = send(method, path);
        got.refusal(405);
        assert!(got.header("allow").is_some_and(|methods| methods.contains(allow)), "{method} {path}: {got}");
    }
}

#[test]
fn a_connection_goes_on_after_refusals() {
    let (upstream, gateway) = fixture("");
    let bearer = format!("Bearer {SECRET}");
    let good = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = ask("alias", "x").to_string();
    let mut connection = Connection::open(gateway.data);
    for (method, path, headers, body, status) in [
        ("POST", PATH, &[][..], body.as_bytes(), 401),
        ("POST", PATH, &good[..], b"{", 400),
        ("POST", PATH, &good[..], body.as_bytes(), 200),
        ("POST", "/v1/nonsense", &good[..], body.as_bytes(), 404),
        ("GET", PATH, &good[..], b"", 405),
        ("POST", PATH, &good[..], b"{\"model\":\"nonsense\",\"messages\":[]}", 404),
        ("GET", "/v1/models", &good[..], b"", 200),
        ("POST", PATH, &good[..], body.as_bytes(), 200),
    ] {
        let got = connection.exchange(&client::request(method, path, headers, body));
        assert_eq!(got.status, status, "{method} {path}: {got}");
        assert!(got.whole, "{got}");
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn heads_that_are_not_http() {
    let (upstream, gateway) = fixture("");
    let many: String = (0..1_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(200_000));
    for text in [
        format!("\x16\x03\x01\x02\x00{}\r\n\r\n", "\x01".repeat(100)),
        format!("GET\r\n{}\r\n\r\n", "x".repeat(100)),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: nonsense\r\n\r\n"),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{large}\r\n"),
    ] {
        let shown = text.chars().take(60).collect::<String>();
        let mut connection = Connection::open(gateway.data);
        let _ = connection.send(text.as_bytes());
        // Refused or cut, but never left hanging and never served.
        match connection.response() {
            Ok(got) => assert!((400..500).contains(&got.status), "{shown:?}: {got}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{shown:?}: {error}"),
        }
    }
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_few_bytes_of_nonsense_hold_no_connection() {
    // Shorter than the preface of HTTP/2, for which a server may be waiting.
    let (_, gateway) = fixture("");
    for text in ["\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "GET\r\n\r\n"] {
        let mut connection = Connection::open(gateway.data);
        connection.send(text.as_bytes()).unwrap();
        match connection.response() {
            Ok(got) => assert_eq!(got.status, 400, "{got}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{text:?}: {error}"),
        }
    }
}

#[test]
fn secrets_are_nowhere_in_the_log() {
    let upstream = Upstream::each(vec![
        answers::whole("fine"),
        answers::error(401, &format!("Incorrect API key provided: {PROVIDER_KEY}")),
        answers::error(400, &format!("The header Bearer {PROVIDER_KEY} is odd")),
    ]);
    let text = config(&[("alias", &upstream.v1())], "retry: { tries: 1 }\nlog: { level: debug, format: json }\n");
    let gateway = Gateway::start(&text);
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let got = gateway.chat(&ask("alias", "x"));
    got.refusal(502);
    assert!(!got.text().contains(PROVIDER_KEY), "{got}");
    let got = gateway.chat(&ask("alias", "x"));
    assert!(!got.text().contains(PROVIDER_KEY), "{got}");
    client::post(gateway.data, PATH, &[("authorization", "Bearer pk-guess-9w8e7r")], "{}").refusal(401);
    client::get(gateway.data, &format!("/v1/models?key={SECRET}"), &[("connection", "close")]);
    let everything = format!("{}{}", gateway.logs(), gateway.metrics());
    for secret in [SECRET, PROVIDER_KEY, "pk-guess-9w8e7r"] {
        assert!(!everything.contains(secret), "{secret} was written:\n{everything}");
    }
}

#[test]
fn too_many_headers_are_refused_by_their_limit() {
    let (upstream, gateway) = fixture("limits: { headers: 20 }\n");
    let names: Vec<String> = (0..30).map(|n| format!("x-{n}")).collect();
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let secret = format!("Bearer {SECRET}");
    headers.push(("authorization", &secret));
    let got = client::post(gateway.data, PATH, &headers, ask("alias", "x").to_string());
    assert_eq!(got.refusal(431)["code"], "headers_too_large", "{got}");
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
}
