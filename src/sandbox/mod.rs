//! Floor 9: the built-in provider: a small upstream of its own, for the quickstart and for tests.
//!
//! It speaks OpenAI Chat Completions, Anthropic Messages and Gemini generateContent with the shapes, the usage and the
//! strictness of the originals, so that everything a gateway does can be seen without a key. It runs only where the
//! configuration names an address for it, and knows nothing of the gateway: calls reach it through a socket, like any
//! provider. Nothing is stored; the same question gets the same answer. What it does is chosen by the model's name:
//!
//! | model | behaviour |
//! |---|---|
//! | `sandbox`, `sandbox-anything` | echoes the last user message; calls a given tool, then tells its result; fills a JSON schema; thinks when asked to; honours stop and limits |
//! | `sandbox-slow`, `sandbox-slow-MS` | waits before the first token (2 s) |
//! | `sandbox-long-N` | N words |
//! | `sandbox-fail-STATUS` | an error with that status (400 to 599) |
//! | `sandbox-429`, `sandbox-429-SECONDS` | 429 with `Retry-After` (1 s) |
//! | `sandbox-flaky`, `sandbox-flaky-N` | over and over: N failures (1) with status 500, then one answer |
//! | `sandbox-error-first`, `sandbox-error-mid` | status 200, and an error as the first event, or after half of the answer |
//! | `sandbox-cut`, `sandbox-cut-N` | the connection is closed after N events (half), without any mark of an end |
//! | `sandbox-reset` | the connection is reset before the head |
//! | `sandbox-stall` | the head, then silence |
//! | `sandbox-empty` | status 200 and no body |
//! | `sandbox-garbage` | status 200 and HTML |
//!
//! Other names are unknown models (404). The paths are the providers' own, also below `/openai`, `/anthropic` and
//! `/gemini`, as a base URL for each; `GET /health` answers 200. A user message with the word "parallel" calls two tools at once. A token is a word, or 16 characters of
//! a longer one; an image counts 85; from the second turn on, everything before the last message counts as cached
//! (with Anthropic, where a part of the prompt is marked so).

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod answer;
mod anthropic;
mod gemini;
mod http;
mod member;
mod openai;
mod schema;
mod script;
#[cfg(test)]
mod tests;

use answer::Ask;
use http::{Connection, Reply, Request, Unread};
use script::Script;

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// Between two events of a stream.
const PACE: Duration = Duration::from_millis(3);
/// How long a stalled answer holds its connection.
const STALL: Duration = Duration::from_secs(600);

/// Serves until `shutdown` is ready; connections that are still busy then are dropped.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let state = Arc::new(State::default());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    tracing::warn!(%error, "sandbox: a connection was not accepted");
                    // Out of descriptors, most likely: they come back as connections end.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            converse(Connection::new(stream), &state).await;
            drop(permit);
        });
    }
}

/// What outlives a call.
struct State {
    /// Unix milliseconds at start: ids do not come again after a restart.
    born: u64,
    calls: AtomicU64,
    /// Calls so far of each path and flaky script.
    flaky: Mutex<HashMap<(&'static str, u32), u32>>,
}

impl Default for State {
    fn default() -> Self {
        let born = u64::try_from(since_epoch().as_millis()).unwrap_or(0);
        State { born, calls: AtomicU64::new(0), flaky: Mutex::default() }
    }
}

impl State {
    fn stamp(&self) -> Stamp {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Stamp { unique: format!("{:x}{number:06x}", self.born), now: since_epoch().as_secs() }
    }

    fn fails(&self, family: &'static str, failures: u32) -> bool {
        let mut flaky = self.flaky.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = flaky.entry((family, failures)).or_default();
        let fails = *calls < failures;
        *calls = if fails { *calls + 1 } else { 0 };
        fails
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What makes one answer differ from the same answer given again.
#[derive(Debug)]
struct Stamp {
    unique: String,
    /// Unix seconds.
    now: u64,
}

impl Stamp {
    fn id(&self, kind: &str) -> String {
        let dash = if kind == "chatcmpl" { '-' } else { '_' };
        format!("{kind}{dash}{}", self.unique)
    }

    fn call(&self, kind: &str, at: usize) -> String {
        format!("{kind}_{}_{at}", self.unique)
    }
}

/// One dialect, as its provider speaks it.
trait Speaker: Sync {
    /// Reads a call, as strictly as the provider does.
    ///
    /// # Errors
    /// The provider would refuse it.
    fn read(&self, request: &Request) -> Result<Ask, Refused>;
    /// The answer to a question for the number of input tokens.
    fn count(&self, input: u64) -> Value;
    fn whole(&self, ask: &Ask, answer: &answer::Answer, stamp: &Stamp) -> Value;
    /// The events of a streamed answer, framing included; the last one says that the answer is whole.
    fn frames(&self, ask: &Ask, answer: &answer::Answer, stamp: &Stamp) -> Vec<Vec<u8>>;
    fn error(&self, refused: &Refused, stamp: &Stamp) -> Value;
    fn error_frame(&self, refused: &Refused, stamp: &Stamp) -> Vec<u8>;
    fn headers(&self, stamp: &Stamp) -> Vec<(&'static str, String)>;
}

/// An error that a provider answers with.
#[derive(Debug)]
struct Refused {
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Refused {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Refused { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    fn param(self, param: impl Into<String>) -> Self {
        Refused { param: Some(param.into()), ..self }
    }

    fn code(self, code: &'static str) -> Self {
        Refused { code: Some(code), ..self }
    }
}

/// Serves the requests of one connection, one after the other.
async fn converse(mut connection: Connection, state: &State) {
    loop {
        let request = match connection.request().await {
            Ok(request) => request,
            Err(Unread::Gone) => return,
            Err(Unread::Refused(status, text)) => {
                let headers = vec![("connection", "close".to_owned())];
                let body = json!({"error": {"message": text}}).to_string().into_bytes();
                // The peer may well be gone; there is nobody to tell.
                let _ = connection.reply(&Reply { status, content_type: "application/json", headers, body }).await;
                return;
            }
        };
        match answer(&mut connection, &request, state).await {
            Ok(true) if request.keep_alive => {}
            _ => return,
        }
    }
}

/// Answers one request; whether the connection can be used again.
async fn answer(connection: &mut Connection, request: &Request, state: &State) -> io::Result<bool> {
    let stamp = state.stamp();
    let (method, family, speaker) = route(&request.path);
    let refused = match (method, family) {
        ("", _) => Refused::new(404, format!("Invalid URL ({} {})", request.method, request.path)).code("unknown_url"),
        _ if request.method != method => {
            Refused::new(405, format!("Not allowed to {} on {}", request.method, request.path))
        }
        ("GET", "health") => return reply(connection, speaker, &stamp, 200, &json!({"status": "ok"})).await,
        ("GET", _) => {
            let row = |id| json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "sandbox"});
            let list = ["sandbox", "sandbox-slow", "sandbox-long-200"].map(row);
            return reply(connection, speaker, &stamp, 200, &json!({"object": "list", "data": list})).await;
        }
        _ => match speaker.read(request) {
            Ok(ask) => match Script::of(&ask.model) {
                Some(Script::Plain | Script::Slow(_) | Script::Long(_)) if ask.only_count => {
                    return reply(connection, speaker, &stamp, 200, &speaker.count(ask.before + ask.latest)).await;
                }
                Some(script) => return play(connection, request, family, speaker, &ask, script, state, &stamp).await,
                None => Refused::new(404, format!("The model `{}` does not exist.", ask.model)),
            },
            Err(refused) => refused,
        },
    };
    refuse(connection, speaker, &stamp, &refused).await
}

/// Method and name of a path, both empty if there is nothing at it, and who answers.
fn route(path: &str) -> (&'static str, &'static str, &'static dyn Speaker) {
    let below = ["/openai", "/anthropic", "/gemini"].into_iter().find_map(|base| path.strip_prefix(base));
    match below.unwrap_or(path) {
        "/health" => ("GET", "health", &openai::OpenAi),
        "/v1/models" => ("GET", "models", &openai::OpenAi),
        "/v1/chat/completions" => ("POST", "openai", &openai::OpenAi),
        "/v1/messages" | "/v1/messages/count_tokens" => ("POST", "anthropic", &anthropic::Anthropic),
        _ if gemini::target(path).is_some() => ("POST", "gemini", &gemini::Gemini),
        _ if path.starts_with("/anthropic/") => ("", "", &anthropic::Anthropic),
        _ if path.starts_with("/gemini/") || path.starts_with("/v1beta/") => ("", "", &gemini::Gemini),
        _ => ("", "", &openai::OpenAi),
    }
}

async fn reply(
    connection: &mut Connection,
    speaker: &dyn Speaker,
    stamp: &Stamp,
    status: u16,
    body: &Value,
) -> io::Result<bool> {
    let (headers, body) = (speaker.headers(stamp), body.to_string().into_bytes());
    connection.reply(&Reply { status, content_type: "application/json", headers, body }).await?;
    Ok(true)
}

async fn refuse(
    connection: &mut Connection,
    speaker: &dyn Speaker,
    stamp: &Stamp,
    refused: &Refused,
) -> io::Result<bool> {
    let mut headers = speaker.headers(stamp);
    headers.extend(refused.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    let body = speaker.error(refused, stamp).to_string().into_bytes();
    connection.reply(&Reply { status: refused.status, content_type: "application/json", headers, body }).await?;
    Ok(true)
}

/// Plays a script; whether the connection can be used again.
#[expect(clippy::too_many_arguments, reason = "one call, all of it already taken apart")]
async fn play(
    connection: &mut Connection,
    request: &Request,
    family: &'static str,
    speaker: &dyn Speaker,
    ask: &Ask,
    script: Script,
    state: &State,
    stamp: &Stamp,
) -> io::Result<bool> {
    let overloaded = || Refused::new(529, "The sandbox is overloaded, as it was told to be.");
    let refused = match script {
        Script::Fail(status) => Some(Refused::new(status, format!("The sandbox was told to fail with {status}."))),
        Script::RateLimit(seconds) => Some(Refused {
            retry_after: Some(seconds),
            ..Refused::new(429, format!("Rate limit reached. Please try again in {seconds}s."))
        }),
        Script::Flaky(failures) if state.fails(family, failures) => {
            Some(Refused::new(500, "The sandbox fails now and then, as it was told to."))
        }
        _ => None,
    };
    if let Some(refused) = refused {
        return refuse(connection, speaker, stamp, &refused).await;
    }
    let headers = speaker.headers(stamp);
    let content_type = if ask.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    match script {
        Script::Reset => {
            connection.reset();
            return Ok(false);
        }
        Script::Empty => {
            connection.reply(&Reply { status: 200, content_type, headers, body: Vec::new() }).await?;
            return Ok(true);
        }
        Script::Garbage => {
            let body = b"<!doctype html><title>Ahoy</title><p>This is a harbour, not an API.</p>\n".to_vec();
            connection.reply(&Reply { status: 200, content_type: "text/html", headers, body }).await?;
            return Ok(true);
        }
        Script::ErrorFirst | Script::ErrorMid if !ask.stream => {
            return reply(connection, speaker, stamp, 200, &speaker.error(&overloaded(), stamp)).await;
        }
        _ => {}
    }
    let answer = answer::compose(ask, script);
    let wait = if let Script::Slow(time) = script { time } else { Duration::ZERO };
    if !ask.stream {
        connection.pause(wait).await?;
        let body = speaker.whole(ask, &answer, stamp).to_string().into_bytes();
        let half = match script {
            Script::Stall => 0,
            Script::Cut(events) => events.unwrap_or(usize::MAX).min(body.len() / 2),
            _ => {
                connection.reply(&Reply { status: 200, content_type, headers, body }).await?;
                return Ok(true);
            }
        };
        connection.head(content_type, &headers, Some(body.len())).await?;
        connection.raw(body.get(..half).unwrap_or_default()).await?;
        if script == Script::Stall {
            connection.pause(STALL).await?;
        }
        return Ok(false);
    }
    // Without `alt=sse` Gemini streams the elements of one JSON array.
    let array = family == "gemini" && !request.query.split('&').any(|pair| pair == "alt=sse");
    connection.head(if array { "application/json" } else { content_type }, &headers, None).await?;
    let mut frames = speaker.frames(ask, &answer, stamp);
    let mut whole = true;
    match script {
        Script::Stall => {
            connection.pause(STALL).await?;
            return Ok(false);
        }
        Script::Cut(events) => {
            let most = frames.len().saturating_sub(1);
            frames.truncate(events.unwrap_or(frames.len() / 2).min(most));
            whole = false;
        }
        Script::ErrorFirst => frames = vec![speaker.error_frame(&overloaded(), stamp)],
        Script::ErrorMid => {
            frames.truncate(frames.len() / 2);
            frames.push(speaker.error_frame(&overloaded(), stamp));
        }
        _ => {}
    }
    connection.pause(wait).await?;
    for (at, frame) in frames.iter().enumerate() {
        if at > 0 {
            connection.pause(PACE).await?;
        }
        if array {
            connection.chunk(if at == 0 { b"[" } else { b",\r\n" }).await?;
            let element = frame.strip_prefix(b"data: ").unwrap_or(frame);
            connection.chunk(element.trim_ascii_end()).await?;
        } else {
            connection.chunk(frame).await?;
        }
    }
    if !whole {
        return Ok(false);
    }
    if array {
        connection.chunk(b"]\n").await?;
    }
    connection.last_chunk().await?;
    Ok(true)
}

/// One frame of server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
fn sse(event: Option<&str>, data: &Value) -> Vec<u8> {
    match event {
        Some(event) => format!("event: {event}\ndata: {data}\n\n").into_bytes(),
        None => format!("data: {data}\n\n").into_bytes(),
    }
}

/// The names that all three providers allow for a tool, and for an id of a call.
fn tool_name(name: &str, longest: usize) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !name.is_empty() && name.len() <= longest && name.bytes().all(letter)
}

/// Media type of a data URL without its `data:`, if it holds base64 of an image.
fn data_url(url: &str) -> Option<String> {
    let (kind, data) = url.split_once(";base64,")?;
    (kind.starts_with("image/") && base64(data)).then(|| kind.to_owned())
}

fn base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    !data.is_empty() && text.len() - data.len() <= 2 && data.bytes().all(letter)
}
