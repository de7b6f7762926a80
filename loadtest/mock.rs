//! An upstream that costs next to nothing: prepared answers of OpenAI's and Anthropic's shape, whole and streamed.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Content events of a streamed answer.
pub const CHUNKS: usize = 100;
/// A caller's `user` who is answered by 64 events, 20 ms apart, and one who is answered by 30, a second apart.
pub const PACED: &str = "paced-20ms";
pub const SLOW: &str = "paced-1s";
/// What stands before the 16 digits of the moment at which such an event was sent.
pub const STAMP: &[u8] = b"sent at ";

/// Microseconds since the first call of this: one clock for those who send and those who read.
pub fn micros() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

pub struct Answers {
    chat: Vec<u8>,
    chat_stream: Vec<Vec<u8>>,
    messages: Vec<u8>,
    messages_stream: Vec<Vec<u8>>,
}

impl Answers {
    pub fn new() -> Answers {
        let text = "The quick brown fox jumps over the lazy dog, again and again. ".repeat(4);
        let chat = format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":60,"completion_tokens":56,"total_tokens":116,"prompt_tokens_details":{{"cached_tokens":0}}}}}}"#
        );
        let messages = format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"mock","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":60,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":56}}}}"#
        );
        Answers {
            chat: whole(&chat),
            messages: whole(&messages),
            chat_stream: stream(chat_events()),
            messages_stream: stream(messages_events()),
        }
    }
}

fn whole(json: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}", json.len())
        .into_bytes()
}

/// Each event a chunk of its own, the head first, the terminating chunk with the last.
fn stream(events: Vec<String>) -> Vec<Vec<u8>> {
    let mut chunks =
        vec![b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    chunks.extend(events.into_iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()));
    chunks.push(b"0\r\n\r\n".to_vec());
    chunks
}

fn chat_event(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn chat_events() -> Vec<String> {
    let event = chat_event;
    let mut events = vec![event(r#"{"role":"assistant","content":""}"#, "null")];
    events.extend((0..CHUNKS).map(|n| event(&format!(r#"{{"content":" word{n}"}}"#), "null")));
    events.push(event("{}", "\"stop\""));
    events.push("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":100,\"total_tokens\":160}}\n\n".to_owned());
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn messages_events() -> Vec<String> {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let mut events = vec![
        event(
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"mock","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":60,"output_tokens":1}}}"#,
        ),
        event(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
    ];
    events.extend((0..CHUNKS).map(|n| {
        event(
            "content_block_delta",
            &format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":" word{n}"}}}}"#),
        )
    }));
    events.push(event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#));
    events.push(event("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":100}}"#));
    events.push(event("message_stop", r#"{"type":"message_stop"}"#));
    events
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener) {
    let answers = Arc::new(Answers::new());
    while let Ok((socket, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move {
            let _ = connection(socket, &answers).await;
        });
    }
}

async fn connection(mut socket: TcpStream, answers: &Answers) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(request) = read_request(&mut socket, &mut buffer).await? else { return Ok(()) };
        if let Some((count, pause)) = request.paced {
            paced(&mut socket, count, pause).await?;
            continue;
        }
        match (request.anthropic, request.stream) {
            (false, false) => socket.write_all(&answers.chat).await?,
            (true, false) => socket.write_all(&answers.messages).await?,
            (false, true) => chunks(&mut socket, &answers.chat_stream).await?,
            (true, true) => chunks(&mut socket, &answers.messages_stream).await?,
        }
    }
}

/// Each event a write of its own: what arrives together would make the proxies' work look smaller than it is.
async fn chunks(socket: &mut TcpStream, chunks: &[Vec<u8>]) -> std::io::Result<()> {
    for chunk in chunks {
        socket.write_all(chunk).await?;
    }
    Ok(())
}

/// Events of the Chat dialect, one after another.
async fn paced(socket: &mut TcpStream, count: usize, pause: Duration) -> std::io::Result<()> {
    let chunk = |event: String| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
    socket
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    for _ in 0..count {
        let delta = format!(r#"{{"content":"{}{:016}"}}"#, String::from_utf8_lossy(STAMP), micros());
        socket.write_all(&chunk(chat_event(&delta, "null"))).await?;
        tokio::time::sleep(pause).await;
    }
    let end = [chunk(chat_event("{}", "\"stop\"")), chunk("data: [DONE]\n\n".to_owned()), b"0\r\n\r\n".to_vec()];
    socket.write_all(&end.concat()).await
}

struct Request {
    anthropic: bool,
    stream: bool,
    /// So many events, and the time between them.
    paced: Option<(usize, Duration)>,
}

async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0);
            let total = end + 4 + length;
            while buffer.len() < total {
                if socket.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            // The flag is looked for where both generators and encoders put it: somewhere in the last or first kilobyte.
            let body = &buffer[end + 4..total];
            let near = |what: &[u8]| {
                find(&body[..body.len().min(1_024)], what).is_some()
                    || find(&body[body.len().saturating_sub(1_024)..], what).is_some()
            };
            let stream = near(b"\"stream\":true");
            let paced = match () {
                () if near(PACED.as_bytes()) => Some((64, Duration::from_millis(20))),
                () if near(SLOW.as_bytes()) => Some((30, Duration::from_secs(1))),
                () => None,
            };
            let anthropic = head.lines().next().is_some_and(|line| line.contains("/messages"));
            buffer.drain(..total);
            return Ok(Some(Request { anthropic, stream, paced }));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
