//! The sandbox over a real socket.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

mod dialects;

const MOMENT: Duration = Duration::from_secs(10);

/// A sandbox that stops when it is dropped.
struct Sandbox {
    addr: SocketAddr,
    _stop: oneshot::Sender<()>,
}

async fn start() -> Sandbox {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, async {
        let _ = stopped.await;
    }));
    Sandbox { addr, _stop: stop }
}

#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: String,
    /// The body came to the end that its framing promised.
    whole: bool,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of each event but `[DONE]`.
    fn events(&self) -> Vec<Value> {
        let data = self.body.split("\n\n").filter_map(|frame| frame.lines().find_map(|l| l.strip_prefix("data: ")));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

impl Sandbox {
    async fn send(&self, path: &str, body: &Value) -> io::Result<Got> {
        let mut stream = TcpStream::connect(self.addr).await?;
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: sandbox\r\nanthropic-version: 2023-06-01\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut bytes = Vec::new();
        timeout(MOMENT, stream.read_to_end(&mut bytes)).await.expect("an end")?;
        Ok(parse(&bytes))
    }

    async fn openai(&self, body: Value) -> Got {
        self.send("/openai/v1/chat/completions", &body).await.unwrap()
    }

    async fn anthropic(&self, body: Value) -> Got {
        self.send("/anthropic/v1/messages", &body).await.unwrap()
    }

    async fn gemini(&self, verb: &str, body: Value) -> Got {
        self.send(&format!("/gemini/v1beta/models/sandbox:{verb}"), &body).await.unwrap()
    }
}

fn parse(bytes: &[u8]) -> Got {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let head = head.to_lowercase();
    if let Some((_, length)) = head.split_once("content-length: ") {
        let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
        return Got { status, body: rest.to_owned(), whole: rest.len() == length, head };
    }
    let (mut rest, mut body, mut whole) = (rest, String::new(), false);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole = size == 0;
        if more.len() < size + 2 {
            break;
        }
        body.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    Got { status, head, body, whole }
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

/// A call of that model, streamed or not, in each dialect.
async fn everywhere(sandbox: &Sandbox, model: &str, stream: bool) -> [io::Result<Got>; 3] {
    let openai = json!({"model": model, "stream": stream, "messages": user("x")});
    let anthropic = json!({"model": model, "stream": stream, "max_tokens": 500, "messages": user("x")});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    [
        sandbox.send("/openai/v1/chat/completions", &openai).await,
        sandbox.send("/anthropic/v1/messages", &anthropic).await,
        sandbox.send(&format!("/gemini/v1beta/models/{model}:{verb}"), &gemini).await,
    ]
}

#[tokio::test]
async fn told_to_refuse_it_refuses_in_every_dialect() {
    let sandbox = start().await;
    for (model, status, kinds) in [
        ("sandbox-fail-503", 503, ["server_error", "api_error", "UNAVAILABLE"]),
        ("sandbox-fail-529", 529, ["server_error", "overloaded_error", "UNAVAILABLE"]),
        ("sandbox-fail-401", 401, ["invalid_request_error", "authentication_error", "UNAUTHENTICATED"]),
        ("sandbox-429-7", 429, ["requests", "rate_limit_error", "RESOURCE_EXHAUSTED"]),
        ("unheard-of", 404, ["invalid_request_error", "not_found_error", "NOT_FOUND"]),
    ] {
        for (got, kind) in everywhere(&sandbox, model, true).await.into_iter().zip(kinds) {
            let got = got.unwrap();
            assert_eq!(got.status, status);
            let error = &got.json()["error"];
            assert!(error["type"] == kind || error["status"] == kind, "{kind}: {error}");
            assert_eq!(got.head.contains("\r\nretry-after: 7\r\n"), model == "sandbox-429-7");
        }
    }
    for want in [500, 500, 200, 500, 500, 200] {
        for got in everywhere(&sandbox, "sandbox-flaky-2", false).await {
            assert_eq!(got.unwrap().status, want);
        }
    }
}

#[tokio::test]
async fn told_to_break_it_breaks_in_every_dialect() {
    let sandbox = start().await;
    for stream in [false, true] {
        for got in everywhere(&sandbox, "sandbox-reset", stream).await {
            assert_eq!(got.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        for got in everywhere(&sandbox, "sandbox-garbage", stream).await {
            assert!(got.unwrap().body.starts_with("<!doctype html>"));
        }
        for got in everywhere(&sandbox, "sandbox-empty", stream).await {
            let got = got.unwrap();
            assert!(got.status == 200 && got.body.is_empty() && got.whole);
        }
        for got in everywhere(&sandbox, "sandbox-cut", stream).await {
            let got = got.unwrap();
            assert!(got.status == 200 && !got.body.is_empty() && !got.whole, "{got:?}");
        }
        for got in everywhere(&sandbox, "sandbox-error-first", stream).await {
            let got = got.unwrap();
            assert_eq!(got.status, 200);
            let error = if stream { got.events().remove(0) } else { got.json() };
            assert!(error["error"].is_object() && got.whole, "{got:?}");
        }
    }
    for got in everywhere(&sandbox, "sandbox-cut-2", true).await {
        assert_eq!(got.unwrap().events().len(), 2);
    }
    for got in everywhere(&sandbox, "sandbox-cut-0", true).await {
        assert_eq!(got.unwrap().body, "");
    }
    for got in everywhere(&sandbox, "sandbox-error-mid", true).await {
        let events = got.unwrap().events();
        assert!(events.len() > 3 && events.iter().rev().skip(1).all(|event| event.get("error").is_none()));
        assert!(events.last().unwrap()["error"].is_object());
    }
}

#[tokio::test]
async fn slow_and_long() {
    let sandbox = start().await;
    let begun = Instant::now();
    for got in everywhere(&sandbox, "sandbox-slow-150", false).await {
        assert_eq!(got.unwrap().status, 200);
    }
    assert!(begun.elapsed() >= Duration::from_millis(450));
    let body = json!({"model": "sandbox-long-30", "messages": user("x")});
    let got = sandbox.openai(body).await.json();
    assert_eq!(got["usage"]["completion_tokens"], 30);
}

#[tokio::test]
async fn a_stalled_answer_has_a_head_and_no_more() {
    let sandbox = start().await;
    let mut stream = TcpStream::connect(sandbox.addr).await.unwrap();
    let body = json!({"model": "sandbox-stall", "stream": true, "messages": user("x")}).to_string();
    let head = format!("POST /openai/v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = [0; 4096];
    let n = stream.read(&mut bytes).await.unwrap();
    let head = String::from_utf8_lossy(&bytes[..n]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(timeout(Duration::from_millis(200), stream.read(&mut bytes)).await.is_err());
}

/// Sends text and reads one whole answer, leaving the connection as it is.
async fn exchange(stream: &mut TcpStream, text: &str) -> Got {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let n = timeout(MOMENT, stream.read_buf(&mut bytes)).await.expect("an answer").unwrap();
        let got = parse(&bytes);
        if n == 0 || got.whole {
            return got;
        }
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let sandbox = start().await;
    let mut stream = TcpStream::connect(sandbox.addr).await.unwrap();
    for _ in 0..2 {
        let got = exchange(&mut stream, "GET /openai/v1/models HTTP/1.1\r\n\r\n").await;
        assert_eq!(got.json()["data"][0]["id"], "sandbox");
    }
    let body = json!({"model": "sandbox", "messages": user("x"), "stream": true}).to_string();
    let (one, two) = body.split_at(7);
    let chunked = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
         7;x=y\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\ntrailer: z\r\n\r\n",
        two.len()
    );
    assert!(exchange(&mut stream, &chunked).await.body.ends_with("[DONE]\n\n"));
    let got = exchange(&mut stream, "GET /openai/v1/chat/completions HTTP/1.1\r\n\r\n").await;
    assert_eq!(got.status, 405);
    assert_eq!(exchange(&mut stream, "GET /nowhere HTTP/1.1\r\n\r\n").await.status, 404);
    assert_eq!(exchange(&mut stream, "GET /health HTTP/1.1\r\n\r\n").await.status, 200);
    let got = exchange(&mut stream, "POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n").await;
    assert_eq!(got.status, 413);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "a refused request ends the connection");
}

#[test]
fn paths_are_the_providers_own_or_below_a_base() {
    for (path, want) in [
        ("/v1/chat/completions", "openai"),
        ("/openai/v1/chat/completions", "openai"),
        ("/v1/messages", "anthropic"),
        ("/anthropic/v1/messages", "anthropic"),
        ("/v1beta/models/sandbox:generateContent", "gemini"),
        ("/gemini/v1beta/models/sandbox:streamGenerateContent", "gemini"),
        ("/v1beta/models/sandbox:countTokens", "gemini"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1beta/models/sandbox:embedContent", ""),
        ("/openai/v1/messages/", ""),
    ] {
        assert_eq!(route(path).1, want, "{path}");
    }
}

#[tokio::test]
async fn it_stops_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut held = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    timeout(MOMENT, serve(listener, tokio::time::sleep(Duration::from_millis(50)))).await.expect("an end");
    assert!(matches!(held.read(&mut [0]).await, Ok(0) | Err(_)));
}
