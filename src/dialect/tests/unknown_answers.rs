//! What nobody knows yet, in answers: new members and new kinds of event. They are never an error; callers are told of
//! them, or they are a loss with a name.

use serde_json::{Value, json};

use super::unknown::{MARK, objects};
use super::*;
use crate::ir::Losses;
use crate::wire::frames::Framing;

/// Names and data of events.
type Frames = Vec<(&'static str, Value)>;

/// A good answer of each provider's dialect, and the frames of a streamed one: event names and data.
fn answers() -> Vec<(&'static str, Value, Frames)> {
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12});
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        ("", json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}))
    };
    let call = json!({"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let mut piece = call.clone();
    piece["index"] = json!(0);
    let block = |index: u32, block: Value| {
        ("content_block_start", json!({"type": "content_block_start", "index": index, "content_block": block}))
    };
    let message = json!({"id": "a", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "usage": {"input_tokens": 5, "output_tokens": 1}});
    let mut whole = message.clone();
    whole["content"] =
        json!([{"type": "text", "text": "answer one"}, {"type": "tool_use", "id": "c", "name": "look", "input": {}}]);
    whole["stop_reason"] = "tool_use".into();
    let candidate = json!({"content": {"role": "model", "parts": [{"text": "answer one"},
        {"functionCall": {"name": "look", "args": {}}}]}, "finishReason": "STOP", "index": 0});
    let google = json!({"candidates": [candidate], "modelVersion": "m", "responseId": "a",
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}});
    let item = json!({"id": "i", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "text": "answer one"}]});
    let response = |status: &str, output: Value| {
        json!({"id": "a", "object": "response", "created_at": 1, "status": status, "model": "m", "output": output,
            "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}})
    };
    let tokens = json!({"inputTokens": 5, "outputTokens": 7, "totalTokens": 12});
    let cohere = json!({"billed_units": {"input_tokens": 5, "output_tokens": 7}, "tokens": {"input_tokens": 5, "output_tokens": 7}});
    let line = |text: &str, done: bool| {
        let mut line = json!({"model": "m", "created_at": "2026-08-05T08:11:02Z",
            "message": {"role": "assistant", "content": text}, "done": done});
        if done {
            line["done_reason"] = "stop".into();
            line["prompt_eval_count"] = 5.into();
            line["eval_count"] = 7.into();
        }
        line
    };
    vec![
        (
            "openai_chat",
            json!({"id": "a", "object": "chat.completion", "created": 1, "model": "m", "usage": usage, "choices": [{"index": 0,
                "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "answer one", "tool_calls": [call]}}]}),
            vec![
                chunk(json!({"role": "assistant", "content": "answer one"}), Value::Null),
                chunk(json!({"tool_calls": [piece]}), Value::Null),
                chunk(json!({}), json!("tool_calls")),
                (
                    "",
                    json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}),
                ),
            ],
        ),
        (
            "openai_responses",
            response("completed", json!([item])),
            vec![
                (
                    "response.created",
                    json!({"type": "response.created", "response": response("in_progress", json!([]))}),
                ),
                (
                    "response.output_item.added",
                    json!({"type": "response.output_item.added", "output_index": 0,
                    "item": {"id": "i", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
                ),
                (
                    "response.content_part.added",
                    json!({"type": "response.content_part.added", "item_id": "i", "output_index": 0,
                    "content_index": 0, "part": {"type": "output_text", "annotations": [], "text": ""}}),
                ),
                (
                    "response.output_text.delta",
                    json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0,
                    "content_index": 0, "delta": "answer one"}),
                ),
                (
                    "response.output_text.done",
                    json!({"type": "response.output_text.done", "item_id": "i", "output_index": 0,
                    "content_index": 0, "text": "answer one"}),
                ),
                (
                    "response.output_item.done",
                    json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                ),
                (
                    "response.completed",
                    json!({"type": "response.completed", "response": response("completed", json!([item]))}),
                ),
            ],
        ),
        (
            "anthropic",
            whole,
            vec![
                ("message_start", json!({"type": "message_start", "message": message})),
                block(0, json!({"type": "text", "text": ""})),
                (
                    "content_block_delta",
                    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "answer one"}}),
                ),
                ("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
                block(1, json!({"type": "tool_use", "id": "c", "name": "look", "input": {}})),
                (
                    "content_block_delta",
                    json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
                ),
                ("content_block_stop", json!({"type": "content_block_stop", "index": 1})),
                (
                    "message_delta",
                    json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
                ),
                ("message_stop", json!({"type": "message_stop"})),
            ],
        ),
        ("gemini", google.clone(), vec![("", google)]),
        (
            "bedrock",
            json!({"output": {"message": {"role": "assistant", "content": [{"text": "answer one"},
                {"toolUse": {"toolUseId": "c", "name": "look", "input": {}}}]}},
                "stopReason": "tool_use", "usage": tokens, "metrics": {"latencyMs": 5}}),
            vec![
                ("messageStart", json!({"role": "assistant"})),
                ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "answer one"}})),
                ("contentBlockStop", json!({"contentBlockIndex": 0})),
                (
                    "contentBlockStart",
                    json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c", "name": "look"}}}),
                ),
                ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}})),
                ("contentBlockStop", json!({"contentBlockIndex": 1})),
                ("messageStop", json!({"stopReason": "tool_use"})),
                ("metadata", json!({"usage": tokens, "metrics": {"latencyMs": 5}})),
            ],
        ),
        (
            "cohere",
            json!({"id": "a", "finish_reason": "TOOL_CALL", "usage": cohere,
                "message": {"role": "assistant", "tool_calls": [call], "content": [{"type": "text", "text": "answer one"}]}}),
            vec![
                ("", json!({"id": "a", "type": "message-start", "delta": {"message": {"role": "assistant"}}})),
                (
                    "",
                    json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
                ),
                (
                    "",
                    json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "answer one"}}}}),
                ),
                ("", json!({"type": "content-end", "index": 0})),
                ("", json!({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}})),
                ("", json!({"type": "tool-call-end", "index": 0})),
                ("", json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": cohere}})),
            ],
        ),
        ("ollama", line("answer one", true), vec![("", line("answer one", false)), ("", line("", true))]),
    ]
}

/// An answer, as a caller of this dialect is told it.
fn shown(provider: &dyn Outbound, caller: &dyn Inbound, body: &Value) -> (String, Losses) {
    let body = body.to_string();
    let response = provider.decode(body.as_bytes()).unwrap_or_else(|invalid| panic!("{invalid}: {body}"));
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    caller.encode(&response, &Shown::default(), &mut out, &mut losses);
    (String::from_utf8(out).unwrap(), losses)
}

/// The same for a streamed one.
fn streamed(provider: &dyn Outbound, caller: &dyn Inbound, frames: &[(&str, Value)]) -> (String, Losses) {
    let shown = Shown::default();
    let (mut decoder, mut encoder) = (provider.stream(), caller.stream(&shown.asked));
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let done = (provider.framing() == Framing::Sse).then(|| ("", "[DONE]".to_owned()));
    for (event, data) in frames.iter().map(|(event, data)| (*event, data.to_string())).chain(done) {
        let frame = Frame { event, data: &data, end: 0, comment: false };
        let mut emit = |event: Event<'_>| {
            assert!(!matches!(event, Event::Fault(_)), "{event:?}: {data}");
            encoder.event(&event, &shown, &mut out, &mut losses);
        };
        // What comes after the end is not looked at.
        if data != "[DONE]" {
            decoder.frame(&frame, &mut emit).unwrap_or_else(|fault| panic!("{fault:?}: {data}"));
        }
    }
    decoder.end(&mut |event| encoder.event(&event, &shown, &mut out, &mut losses)).unwrap();
    (String::from_utf8(out).unwrap(), losses)
}

/// Whether nothing need be told of a place, in a whole answer or in the frame of a stream: counts and times that the IR
/// has no word for, what tools were called with, padding around an event, and what a later event repeats.
fn is_passed(provider: &str, place: &str, frame: Option<usize>) -> bool {
    let within = |member: &str| place.split('/').any(|name| name == member);
    let counted = ["usage", "usageMetadata", "metrics"].into_iter().any(within);
    let padded =
        frame.is_some() && place.is_empty() && ["anthropic", "openai_responses", "bedrock"].contains(&provider);
    let repeated = provider == "openai_responses" && frame.is_some_and(|n| n < 5 || within("output"));
    counted || padded || repeated || within("input") || within("args")
}

#[test]
fn new_members_of_answers_ride_along_or_have_a_name() {
    let mut silent = Vec::new();
    for (name, sample, frames) in answers() {
        let provider = named(name).unwrap().outbound.unwrap();
        for to in DIALECTS.into_iter().filter(|dialect| dialect.inbound.is_some()) {
            let caller = to.inbound.unwrap();
            let (_, lost) = shown(provider, caller, &sample);
            let mut places = Vec::new();
            objects(&sample, String::new(), &mut places);
            for place in places.into_iter().filter(|place| !is_passed(name, place, None)) {
                let mut marked = sample.clone();
                marked.pointer_mut(&place).unwrap()["x_new"] = json!(MARK);
                let (after, losses) = shown(provider, caller, &marked);
                if !after.contains(MARK) && losses == lost {
                    silent.push(format!("{name} to {to:?}: {place}"));
                }
            }
            let (_, lost) = streamed(provider, caller, &frames);
            for (n, (_, data)) in frames.iter().enumerate() {
                let mut places = Vec::new();
                objects(data, String::new(), &mut places);
                for place in places {
                    let passed = is_passed(name, &place, Some(n));
                    let mut marked = frames.clone();
                    marked[n].1.pointer_mut(&place).unwrap()["x_new"] = json!(MARK);
                    let (after, losses) = streamed(provider, caller, &marked);
                    if !passed && !after.contains(MARK) && losses == lost {
                        silent.push(format!("{name} to {to:?}: frame {n}: {place}"));
                    }
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn new_kinds_of_event_are_no_error_and_have_a_name() {
    let mut silent = Vec::new();
    for (name, _, frames) in answers() {
        let provider = named(name).unwrap().outbound.unwrap();
        for to in DIALECTS.into_iter().filter(|dialect| dialect.inbound.is_some()) {
            let caller = to.inbound.unwrap();
            let (before, lost) = streamed(provider, caller, &frames);
            for n in 0..frames.len() {
                let mut more = frames.clone();
                more.insert(n, ("x_new", json!({"type": "x_new", "x_new": MARK})));
                let (after, losses) = streamed(provider, caller, &more);
                // What was said is said all the same.
                assert!(!before.contains("answer one") || after.contains("answer one"), "{name} to {to:?}: {after}");
                if !after.contains(MARK) && losses == lost {
                    silent.push(format!("{name} to {to:?}: before frame {n}"));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
