//! What a provider of OpenAI's dialect answers, for upstream scripts.

use serde_json::{Value, json};

use super::upstream::{Reply, Step};

pub const PROMPT_TOKENS: u64 = 11;
pub const CACHED_TOKENS: u64 = 4;
pub const COMPLETION_TOKENS: u64 = 7;
pub const REASONING_TOKENS: u64 = 3;

pub fn usage() -> Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
    })
}

/// A whole answer, in a spelling of its own, so that any rewriting shows.
pub fn whole_text(text: &str) -> String {
    format!(
        "{{ \"object\":\"chat.completion\",\"id\": \"chatcmpl-1\",\n \"created\":1.7e9, \"model\":\"real\", \"vendor\\u0020field\":[1.10],\
         \"choices\":[{{\"index\":0,\"finish_reason\":\"stop\",\"message\":{{\"role\":\"assistant\",\"content\":{}}}}}],\
         \"usage\":{}}}\n",
        Value::from(text),
        usage()
    )
}

pub fn whole(text: &str) -> Reply {
    Reply::json(200, whole_text(text)).header("x-request-id", "req_upstream_1")
}

pub fn error(status: u16, message: &str) -> Reply {
    let body = json!({"error": {"message": message, "type": "server_error", "param": null, "code": null}});
    Reply::json(status, body.to_string())
}

pub fn frame(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn chunk(delta: &str, finish: &str) -> String {
    frame(&format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"real\",\
         \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}"
    ))
}

pub fn role_frame() -> String {
    chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null")
}

pub fn word_frame(word: &str) -> String {
    chunk(&json!({"content": word}).to_string(), "null")
}

pub fn finish_frame() -> String {
    chunk("{}", "\"stop\"")
}

pub fn usage_frame() -> String {
    frame(&format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"real\",\
         \"choices\":[],\"usage\":{}}}",
        usage()
    ))
}

pub fn error_frame() -> String {
    frame(r#"{"error":{"message":"The server had an error.","type":"server_error","param":null,"code":null}}"#)
}

pub fn done_frame() -> String {
    frame("[DONE]")
}

/// The frames of a streamed answer; the usage is in it if it was asked for.
pub fn stream_frames(words: &[&str], include_usage: bool) -> Vec<String> {
    let mut frames = vec![role_frame()];
    frames.extend(words.iter().map(|word| word_frame(word)));
    frames.push(finish_frame());
    if include_usage {
        frames.push(usage_frame());
    }
    frames.push(done_frame());
    frames
}

/// A streamed answer, a chunk a frame, with a pause of so many milliseconds before each.
pub fn stream(frames: &[String], pause: u64) -> Reply {
    let steps = frames.iter().flat_map(|frame| {
        let pause = (pause > 0).then_some(Step::Sleep(pause));
        pause.into_iter().chain([Step::Bytes(frame.clone().into_bytes())])
    });
    Reply::stream(steps.collect())
}

/// Answers as a good provider does, streamed or not as asked, with usage where it was asked for.
pub fn good(body: &Value, text: &str) -> Reply {
    if body["stream"] != true {
        return whole(text);
    }
    let words: Vec<_> = text.split_inclusive(' ').collect();
    stream(&stream_frames(&words, body["stream_options"]["include_usage"] == true), 0)
}
