//! What a provider of each dialect answers, for upstream scripts.

use portolan::wire::eventstream;
use serde_json::{Value, json};

use super::gateway::PROVIDER_KEY;
use super::upstream::{Attempt, Framing, Reply, Step, Upstream};

pub const INPUT_TOKENS: u64 = 11;
pub const OUTPUT_TOKENS: u64 = 7;
/// Dollars for these at 10 and 100 a million.
pub const COST: &str = "0.00081";

/// A dialect of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Chat,
    Responses,
    Messages,
    Gemini,
    Bedrock,
    Cohere,
    Ollama,
}

pub const VOICES: [Voice; 7] =
    [Voice::Chat, Voice::Responses, Voice::Messages, Voice::Gemini, Voice::Bedrock, Voice::Cohere, Voice::Ollama];

use Voice::{Bedrock, Chat, Cohere, Gemini, Messages, Ollama, Responses};

/// Frames of a stream, in order.
type Frames = Vec<Vec<u8>>;

impl Voice {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Chat => "openai_chat",
            Responses => "openai_responses",
            Messages => "anthropic",
            Gemini => "gemini",
            Bedrock => "bedrock",
            Cohere => "cohere",
            Ollama => "ollama",
        }
    }

    /// The name that targets have for the model: some dialects tell families by it.
    pub fn model(self) -> &'static str {
        match self {
            Messages => "claude-sonnet-4-5",
            Gemini => "gemini-2.5-flash",
            Bedrock => "anthropic.claude-sonnet-4-5-20250929-v1:0",
            Cohere => "command-a-03-2025",
            _ => "real",
        }
    }

    /// Where it is asked: the path below the base URL, without its query.
    pub fn path(self, stream: bool) -> String {
        match (self, stream) {
            (Chat, _) => "/chat/completions".into(),
            (Responses, _) => "/responses".into(),
            (Messages, _) => "/messages".into(),
            (Gemini, false) => "/models/gemini-2.5-flash:generateContent".into(),
            (Gemini, true) => "/models/gemini-2.5-flash:streamGenerateContent".into(),
            (Bedrock, false) => "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse".into(),
            (Bedrock, true) => "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream".into(),
            (Cohere | Ollama, _) => "/chat".into(),
        }
    }

    pub fn streams(self, attempt: &Attempt) -> bool {
        match self {
            Gemini | Bedrock => attempt.path.contains("tream"),
            // Ollama streams unless it is told not to.
            Ollama => attempt.json()["stream"] != false,
            _ => attempt.json()["stream"] == true,
        }
    }

    /// The content type of its streams.
    pub fn stream_type(self) -> &'static str {
        match self {
            Bedrock => "application/vnd.amazon.eventstream",
            Ollama => "application/x-ndjson",
            _ => "text/event-stream",
        }
    }

    /// A whole answer's body.
    pub fn answer(self, text: &str) -> Value {
        match self {
            Chat => json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "real",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            }),
            Responses => response(text, "completed"),
            Messages => json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": {"input_tokens": 11, "output_tokens": 7},
            }),
            Gemini => gemini(text, true),
            Bedrock => json!({
                "output": {"message": {"role": "assistant", "content": [{"text": text}]}}, "stopReason": "end_turn",
                "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}, "metrics": {"latencyMs": 5},
            }),
            Cohere => json!({
                "id": "0d3c0de0-0000-4000-8000-000000000001", "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
                "usage": {"billed_units": {"input_tokens": 11, "output_tokens": 7},
                    "tokens": {"input_tokens": 11, "output_tokens": 7}},
            }),
            Ollama => ollama(text, true),
        }
    }

    pub fn whole(self, text: &str) -> Reply {
        Reply::json(200, self.answer(text).to_string())
    }

    /// The pieces of a streamed answer, framed: what comes before the words, the words, and what comes after them.
    pub fn frames(self, words: &[&str]) -> (Frames, Frames, Frames) {
        let text = words.concat();
        let each = |word: &dyn Fn(&str) -> Value| words.iter().map(|text| word(text)).collect::<Vec<_>>();
        let (before, words, after) = match self {
            Chat => {
                let chunk = |delta: Value, finish: Value| {
                    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "real",
                        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
                };
                let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
                    "model": "real", "choices": [], "usage": self.answer("")["usage"]});
                (
                    vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)],
                    each(&|word| chunk(json!({"content": word}), Value::Null)),
                    vec![chunk(json!({}), json!("stop")), usage],
                )
            }
            Responses => {
                let item = |content: Value, status: &str| json!({"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content});
                let part = |text: &str| json!({"type": "output_text", "annotations": [], "text": text});
                let at = |kind: &str, more: Value| {
                    let mut event = json!({"type": kind, "item_id": "msg_1", "output_index": 0, "content_index": 0});
                    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                    event
                };
                (
                    vec![
                        json!({"type": "response.created", "response": response("", "in_progress")}),
                        json!({"type": "response.output_item.added", "output_index": 0, "item": item(json!([]), "in_progress")}),
                        at("response.content_part.added", json!({"part": part("")})),
                    ],
                    each(&|word| at("response.output_text.delta", json!({"delta": word, "logprobs": []}))),
                    vec![
                        at("response.output_text.done", json!({"text": text})),
                        at("response.content_part.done", json!({"part": part(&text)})),
                        json!({"type": "response.output_item.done", "output_index": 0, "item": item(json!([part(&text)]), "completed")}),
                        json!({"type": "response.completed", "response": response(&text, "completed")}),
                    ],
                )
            }
            Messages => {
                let mut message = self.answer("");
                message["content"] = json!([]);
                message["stop_reason"] = Value::Null;
                message["usage"] = json!({"input_tokens": 11, "output_tokens": 1});
                (
                    vec![
                        json!({"type": "message_start", "message": message}),
                        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                    ],
                    each(
                        &|word| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
                    ),
                    vec![
                        json!({"type": "content_block_stop", "index": 0}),
                        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                            "usage": {"output_tokens": 7}}),
                        json!({"type": "message_stop"}),
                    ],
                )
            }
            Gemini => (vec![], each(&|word| gemini(word, false)), vec![gemini("", true)]),
            Bedrock => (
                vec![json!({"type": "messageStart", "role": "assistant"})],
                each(&|word| json!({"type": "contentBlockDelta", "contentBlockIndex": 0, "delta": {"text": word}})),
                vec![
                    json!({"type": "contentBlockStop", "contentBlockIndex": 0}),
                    json!({"type": "messageStop", "stopReason": "end_turn"}),
                    json!({"type": "metadata", "usage": self.answer("")["usage"], "metrics": {"latencyMs": 5}}),
                ],
            ),
            Cohere => (
                vec![
                    json!({"id": "0d3c0de0-0000-4000-8000-000000000001", "type": "message-start",
                        "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
                    json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
                ],
                each(
                    &|word| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": word}}}}),
                ),
                vec![
                    json!({"type": "content-end", "index": 0}),
                    json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": self.answer("")["usage"]}}),
                ],
            ),
            Ollama => (vec![], each(&|word| ollama(word, false)), vec![ollama("", true)]),
        };
        let framed = |events: Vec<Value>| events.into_iter().map(|event| self.frame(event)).collect::<Vec<_>>();
        let mut after = framed(after);
        if self == Chat {
            after.push(b"data: [DONE]\n\n".to_vec());
        }
        (framed(before), framed(words), after)
    }

    /// One event as it goes over the wire; some dialects name events beside their data.
    pub fn frame(self, mut event: Value) -> Vec<u8> {
        match self {
            Bedrock => {
                let kind = event.as_object_mut().unwrap().remove("type").unwrap();
                let mut out = Vec::new();
                eventstream::write_event(&mut out, kind.as_str().unwrap(), event.to_string().as_bytes());
                out
            }
            Ollama => format!("{event}\n").into_bytes(),
            Gemini => format!("data: {event}\r\n\r\n").into_bytes(),
            _ => match event["type"].as_str() {
                Some(name) => format!("event: {name}\ndata: {event}\n\n").into_bytes(),
                None => format!("data: {event}\n\n").into_bytes(),
            },
        }
    }

    /// All of a streamed answer.
    pub fn streamed(self, words: &[&str]) -> Vec<Vec<u8>> {
        let (before, words, after) = self.frames(words);
        [before, words, after].concat()
    }

    /// A stream of these pieces.
    pub fn stream(self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Reply {
        self.steps(pieces.into_iter().map(Step::Bytes).collect())
    }

    pub fn steps(self, steps: Vec<Step>) -> Reply {
        Reply { steps, framing: Framing::Chunked, ..Reply::new(200, self.stream_type(), "") }
    }

    /// Answers as a good provider does, whole or as a stream as it is asked; no two answers have one id.
    pub fn good(self, attempt: &Attempt, text: &str) -> Reply {
        let mut reply = if self.streams(attempt) {
            self.stream(self.streamed(&text.split_inclusive(' ').collect::<Vec<_>>()))
        } else {
            self.whole(text)
        };
        if self == Responses {
            let id = format!("resp_upstream{}", attempt.number);
            for step in &mut reply.steps {
                if let Step::Bytes(bytes) = step {
                    *bytes = String::from_utf8_lossy(bytes).replace("resp_upstream", &id).into_bytes();
                }
            }
        }
        reply
    }

    /// The event with which it says in mid-stream that it failed.
    pub fn failure(self) -> Vec<u8> {
        let message = "The server had an error.";
        match self {
            Chat => {
                self.frame(json!({"error": {"message": message, "type": "server_error", "param": null, "code": null}}))
            }
            Responses => {
                self.frame(json!({"type": "error", "code": "server_error", "message": message, "param": null}))
            }
            Messages => self.frame(json!({"type": "error", "error": {"type": "api_error", "message": message}})),
            Gemini => self.frame(json!({"error": {"code": 500, "message": message, "status": "INTERNAL"}})),
            Bedrock => {
                let mut out = Vec::new();
                let payload = json!({"message": message}).to_string();
                eventstream::write_exception(&mut out, "internalServerException", payload.as_bytes());
                out
            }
            Cohere => self.frame(json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}})),
            Ollama => self.frame(json!({"error": message})),
        }
    }

    /// The row of a provider.
    pub fn provider(self, name: &str, upstream: &Upstream, more: &str) -> String {
        let base = match self {
            Gemini => "/v1beta",
            Bedrock => "",
            Ollama => "/api",
            Cohere => "/v2",
            _ => "/v1",
        };
        format!(
            "  {name}: {{ dialect: {}, base_url: \"http://{}{base}\", api_key: \"{PROVIDER_KEY}\"{more} }}\n",
            self.name(),
            upstream.addr
        )
    }
}

/// A configuration: for each row a provider and a model of the same name, priced.
pub fn config(rows: &[(&str, Voice, &Upstream, &str)], more: &str) -> String {
    let providers: String =
        rows.iter().map(|(name, voice, upstream, quirks)| voice.provider(name, upstream, quirks)).collect();
    let models: String = rows
        .iter()
        .map(|(name, voice, ..)| {
            let price = "price: { input: 10, output: 100, cached: 1 }";
            format!("  {name}: {{ targets: [{{ provider: {name}, model: \"{}\", {price} }}] }}\n", voice.model())
        })
        .collect();
    format!("providers:\n{providers}models:\n{models}{}{more}", super::gateway::keys())
}

/// A provider that answers well.
pub fn upstream(voice: Voice, text: &'static str) -> Upstream {
    Upstream::start(move |attempt| voice.good(attempt, text))
}

fn response(text: &str, status: &str) -> Value {
    let done = status == "completed";
    let item = json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "text": text}]});
    let usage = json!({"input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 18});
    json!({"id": "resp_upstream", "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
        "incomplete_details": null, "previous_response_id": null, "store": false, "model": "real", "output": if done { json!([item]) } else { json!([]) },
        "usage": if done { usage } else { Value::Null }})
}

fn gemini(text: &str, last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": [{"text": text}]}, "index": 0});
    let mut usage = json!({"promptTokenCount": 11, "totalTokenCount": 11});
    if last {
        candidate["finishReason"] = "STOP".into();
        usage = json!({"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18});
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r1"})
}

fn ollama(text: &str, last: bool) -> Value {
    let mut line = json!({"model": "real", "created_at": "2026-08-05T08:11:02.806664Z",
        "message": {"role": "assistant", "content": text}, "done": last});
    if last {
        line.as_object_mut().unwrap().extend(
            json!({"done_reason": "stop", "prompt_eval_count": 11, "eval_count": 7}).as_object().unwrap().clone(),
        );
    }
    line
}
