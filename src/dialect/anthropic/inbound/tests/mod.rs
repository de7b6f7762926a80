//! Goldens of the face towards callers, and what must hold of any answer.
//!
//! `cases/*.request.json` is a request of a caller; the `.txt` beside it, what it means. `cases/*.answer.json` and
//! `cases/*.stream.sse` are answers of providers of other dialects, and the `.txt` is what the caller gets of them.
//! `GOLDEN=write cargo test` writes what is expected anew.

use std::path::PathBuf;

use serde_json::{Value, json};

mod properties;
mod refusals;
mod returning;

use super::super::Face as Provider;
use super::*;
use crate::dialect::{Abilities, ErrorClass, Outbound, Quirks, StreamEncoder, To};
use crate::ir::*;
use crate::wire::json::{Extras, Raw, Text};
use crate::wire::sse;

const CALL: &str = "0123456789abcdef0123456789abcdef";

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/anthropic/inbound/cases").join(name)
}

fn input(name: &str) -> String {
    std::fs::read_to_string(case(name)).unwrap()
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(case(name), actual).unwrap();
    }
    let expected = std::fs::read_to_string(case(name)).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; after a look, GOLDEN=write takes it over");
}

fn provider(dialect: &str) -> &'static dyn Outbound {
    crate::dialect::named(dialect).unwrap().outbound.unwrap()
}

fn shown(costs: &[(String, String)]) -> Shown<'_> {
    Shown { costs, asked: Asked { model: "any", id: CALL, ..Asked::default() }, ..Shown::default() }
}

fn costs() -> Vec<(String, String)> {
    vec![("cost_usd".to_owned(), "0.000123".to_owned())]
}

/// The request for a target of some dialect.
fn asked_of(dialect: &str, request: &Request<'_>, model: &str) -> (Value, Losses) {
    let to = To { model, stream: request.stream, quirks: &Quirks::default(), abilities: &Abilities::default() };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    provider(dialect).encode(request, &to, &mut out, &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

/// What a caller gets of a provider's stream.
fn relay(dialect: &str, stream: &str, cut: usize) -> (String, Losses) {
    let costs = costs();
    let (mut decoder, mut encoder) = (provider(dialect).stream(), Face.stream(&Asked::default()));
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let mut frames = sse::Decoder::new(1 << 20);
    let mut emit = |event: Event<'_>| encoder.event(&event, &shown(&costs), &mut out, &mut losses);
    for chunk in stream.as_bytes().chunks(cut) {
        frames.push(chunk, &mut |frame| decoder.frame(&frame, &mut emit).unwrap()).unwrap();
    }
    decoder.end(&mut emit).unwrap();
    (String::from_utf8(out).unwrap(), losses)
}

/// Gathers a stream as Anthropic's SDKs do, and checks that its events come in the order that they take for granted.
fn gather(stream: &str) -> Value {
    let mut message = Value::Null;
    let (mut open, mut ended, mut arguments) = (None, false, String::new());
    sse::Decoder::new(1 << 20)
        .push(stream.as_bytes(), &mut |frame| {
            let data: Value = serde_json::from_str(frame.data).unwrap();
            assert_eq!(data["type"], frame.event);
            assert!(!ended && (message.is_object() || matches!(frame.event, "message_start" | "ping")), "{stream}");
            let index = data["index"].as_u64();
            match frame.event {
                "message_start" => {
                    assert!(message.is_null());
                    message = data["message"].clone();
                }
                "content_block_start" => {
                    let content = message["content"].as_array_mut().unwrap();
                    assert_eq!((open.replace(content.len() as u64), index), (None, Some(content.len() as u64)));
                    content.push(data["content_block"].clone());
                    arguments.clear();
                }
                "content_block_delta" => {
                    assert!(open.is_some() && index == open, "{stream}");
                    let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                    let delta = &data["delta"];
                    let mut append = |member: &str| {
                        let more = delta[member].as_str().unwrap();
                        assert!(!more.is_empty());
                        block[member] = format!("{}{more}", block[member].as_str().unwrap()).into();
                    };
                    match delta["type"].as_str().unwrap() {
                        "text_delta" => append("text"),
                        "thinking_delta" => append("thinking"),
                        "signature_delta" => block["signature"] = delta["signature"].clone(),
                        "citations_delta" => {
                            let mut citations = block["citations"].as_array().cloned().unwrap_or_default();
                            citations.push(delta["citation"].clone());
                            block["citations"] = citations.into();
                        }
                        "input_json_delta" => arguments.push_str(delta["partial_json"].as_str().unwrap()),
                        other => panic!("{other}"),
                    }
                }
                "content_block_stop" => {
                    assert!(open.is_some() && index == open.take(), "{stream}");
                    if !arguments.is_empty() {
                        let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                        block["input"] = serde_json::from_str(&arguments).unwrap();
                    }
                }
                "message_delta" => {
                    assert!(open.is_none());
                    for (name, value) in data["delta"].as_object().unwrap() {
                        message[name] = value.clone();
                    }
                    for (name, value) in data["usage"].as_object().unwrap() {
                        message["usage"][name] = value.clone();
                    }
                    for name in ["cached", "cost_usd"] {
                        if let Some(value) = data.get(name) {
                            message[name] = value.clone();
                        }
                    }
                }
                "message_stop" => ended = true,
                "ping" => {}
                other => panic!("{other}"),
            }
        })
        .unwrap();
    assert!(ended, "{stream}");
    message
}

#[test]
fn requests_mean_what_they_say() {
    let body = input("everything.request.json");
    let request = Face.decode(body.as_bytes()).unwrap();
    golden("everything.request.txt", &format!("{request:#?}\n"));
}

#[test]
fn requests_reach_other_dialects_with_their_losses_named() {
    let body = input("everything.request.json");
    let request = Face.decode(body.as_bytes()).unwrap();
    let mut text = String::new();
    for (dialect, model) in [("openai_chat", "gpt"), ("anthropic", "claude-opus-4-8")] {
        let (body, losses) = asked_of(dialect, &request, model);
        text.push_str(&format!("{dialect}\nlosses: {losses}\n{body:#}\n\n"));
    }
    golden("everything.targets.txt", &text);
}

#[test]
fn wishes_to_think() {
    let wish = |members: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],{members}}}"#);
        let request = Face.decode(body.as_bytes()).unwrap();
        let extras: Vec<String> = request.extras.iter().map(|(name, json)| format!("{name}={}", json.get())).collect();
        let wish = request.reasoning.map(|wish| ReasoningWish { summary: None, ..wish });
        (wish, extras.join(" "))
    };
    let none = ReasoningWish::default();
    let told = |wish: ReasoningWish<'static>, extras: &str| (Some(wish), extras.to_owned());
    assert_eq!(
        wish(r#""thinking":{"type":"enabled","budget_tokens":2000,"display":"summarized"}"#),
        told(ReasoningWish { budget: Some(2_000), show: Some(true), ..none.clone() }, "")
    );
    assert_eq!(
        wish(r#""thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#),
        told(ReasoningWish { adaptive: true, effort: Some(Effort::Max), ..none.clone() }, "")
    );
    assert_eq!(
        wish(r#""thinking":{"type":"disabled"},"output_config":{"effort":"low"}"#),
        told(ReasoningWish { effort: Some(Effort::None), ..none.clone() }, r#"output_config.effort="low""#)
    );
    assert_eq!(
        wish(r#""output_config":{"effort":"high"}"#),
        told(ReasoningWish { effort: Some(Effort::High), ..none.clone() }, "")
    );
    assert_eq!(
        wish(r#""thinking":{"type":"later"},"output_config":{"effort":"huge"}"#),
        (None, r#"thinking={"type":"later"} output_config.effort="huge""#.to_owned())
    );
    assert_eq!(
        wish(r#""thinking":{"type":"adaptive","display":"full"}"#),
        told(ReasoningWish { adaptive: true, ..none }, r#"thinking.display="full""#)
    );
}

#[test]
fn answers_of_other_dialects() {
    let costs = costs();
    for name in ["details", "refused"] {
        let body = input(&format!("{name}.answer.json"));
        let response = provider("openai_chat").decode(body.as_bytes()).unwrap();
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        Face.encode(&response, &shown(&costs), &mut out, &mut losses);
        let answer: Value = serde_json::from_slice(&out).unwrap();
        golden(&format!("{name}.answer.txt"), &format!("losses: {losses}\n{answer:#}\n"));
    }
}

#[test]
fn streams_of_other_dialects_at_every_cut() {
    for (name, dialect) in [("gemini", "gemini"), ("chat", "openai_chat")] {
        let stream = input(&format!("{name}.stream.sse"));
        let (told, losses) = relay(dialect, &stream, stream.len());
        golden(&format!("{name}.stream.txt"), &format!("losses: {losses}\n\n{told}"));
        gather(&told);
        for cut in [1, 2, 3, 7, 64, 257] {
            assert_eq!(relay(dialect, &stream, cut).0, told, "{name} in chunks of {cut}");
        }
    }
}

/// Every stream that this dialect's decoder knows comes out as it went in.
#[test]
fn own_streams_say_the_same() {
    let mut seen = 0;
    for entry in std::fs::read_dir(case("../../cases")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_str().unwrap().ends_with(".stream.sse") {
            continue;
        }
        let stream = std::fs::read_to_string(&path).unwrap();
        let Some(wanted) = said(&stream) else { continue };
        seen += 1;
        let (told, _) = relay("anthropic", &stream, stream.len());
        assert_eq!(said(&told).unwrap(), wanted, "{path:?}");
        gather(&told);
    }
    assert!(seen >= 3, "{seen}");
}

/// What a stream of this dialect says; `None` where it fails. Deltas are joined, and blocks without content left out.
fn said(stream: &str) -> Option<Vec<String>> {
    let mut decoder = Provider.stream();
    let (mut said, mut usage, mut failed) = (Vec::<String>::new(), Usage::default(), false);
    let mut note = |event: Event<'_>| match event {
        Event::Start { id, model, service_tier, .. } => said.push(format!("{id:?} {model:?} {service_tier:?}")),
        Event::Open { content: Content::ToolCall(call), .. } => {
            said.push(format!("{} {} {}", call.id, call.name, call.arguments))
        }
        Event::Open { content: Content::Text { text, .. }, .. } => said.push(format!("text {text}")),
        Event::Open { content, .. } => said.push(format!("{content:?}")),
        Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => {
            said.last_mut().unwrap().push_str(&text)
        }
        Event::Delta { delta, .. } => said.last_mut().unwrap().push_str(&format!("{delta:?}")),
        Event::Finish { finish, .. } => said.push(format!("{:?} {:?}", finish.reason, finish.sequence)),
        Event::Usage(now) => usage = now,
        Event::Fault(fault) => said.push(format!("{fault:?}")),
        _ => {}
    };
    sse::Decoder::new(1 << 20)
        .push(stream.as_bytes(), &mut |frame| failed |= decoder.frame(&frame, &mut note).is_err())
        .unwrap();
    failed |= decoder.end(&mut note).is_err();
    said.retain(|block| block != "text ");
    said.push(format!("{usage:?}"));
    (!failed && !said.iter().any(|said| said.starts_with("Fault"))).then_some(said)
}

#[test]
fn own_answers_come_out_as_they_went_in() {
    for name in ["blocks", "stopped"] {
        let body = std::fs::read(case(&format!("../../cases/{name}.answer.json"))).unwrap();
        let response = Provider.decode(&body).unwrap();
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        Face.encode(&response, &shown(&[]), &mut out, &mut losses);
        let again = Provider.decode(&out).unwrap();
        let say = |response: &Response<'_>| {
            let all = (&response.id, &response.model, &response.candidates, &response.usage, &response.extras);
            format!("{all:#?} {:?}", response.service_tier)
        };
        assert_eq!(say(&again), say(&response), "{name}: {losses}");
    }
}

#[test]
fn errors_have_anthropics_shape() {
    let shape = |class, code| ErrorShape {
        class,
        status: class.status(),
        message: "m\"",
        code,
        param: Some("p"),
        request_id: "r",
    };
    let mut out = Vec::new();
    Face.error_event(&shape(ErrorClass::Overloaded, None), &Asked::default(), &mut out);
    let wanted = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\\\"\"},\"request_id\":\"r\"}\n\n";
    assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
    let kind = |class| {
        let mut out = Vec::new();
        Face.error(&shape(class, Some("context_length_exceeded")), &mut out);
        let body: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(body["error"]["message"], "prompt is too long: m\"");
        let fault = Provider.fault(class.status(), &out);
        (body["error"]["type"].as_str().unwrap().to_owned(), fault.kind)
    };
    for (class, word, read) in [
        (ErrorClass::InvalidRequest, "invalid_request_error", FaultKind::ContextLength),
        (ErrorClass::Authentication, "authentication_error", FaultKind::Authentication),
        (ErrorClass::Billing, "billing_error", FaultKind::QuotaExhausted),
        (ErrorClass::Permission, "permission_error", FaultKind::Permission),
        (ErrorClass::NotFound, "not_found_error", FaultKind::NotFound),
        (ErrorClass::Method, "invalid_request_error", FaultKind::ContextLength),
        (ErrorClass::RequestTimeout, "timeout_error", FaultKind::Timeout),
        (ErrorClass::TooLarge, "request_too_large", FaultKind::ContextLength),
        (ErrorClass::RateLimit, "rate_limit_error", FaultKind::RateLimited),
        (ErrorClass::Internal, "api_error", FaultKind::Server),
        (ErrorClass::Upstream, "api_error", FaultKind::Server),
        (ErrorClass::Overloaded, "overloaded_error", FaultKind::Overloaded),
        (ErrorClass::Timeout, "timeout_error", FaultKind::Timeout),
    ] {
        assert_eq!(kind(class), (word.to_owned(), read), "{class:?}");
    }
}

#[test]
fn models_and_counts() {
    let one = ListedModel { name: "a", owner: "x", context: Some(200), max_output: Some(9), ..ListedModel::default() };
    let two = ListedModel { name: "b", ..ListedModel::default() };
    let mut out = Vec::new();
    Face.models(&[one, two], true, &mut out);
    let b = r#"{"type":"model","id":"b","display_name":"b","created_at":"1970-01-01T00:00:00Z"}"#;
    let a = r#"{"type":"model","id":"a","display_name":"a","created_at":"1970-01-01T00:00:00Z","max_input_tokens":200,"max_tokens":9}"#;
    let wanted = format!(r#"{{"data":[{a},{b}],"has_more":true,"first_id":"a","last_id":"b"}}"#);
    assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
    out.clear();
    Face.model(&two, &mut out);
    assert_eq!(std::str::from_utf8(&out).unwrap(), b);
    out.clear();
    Face.models(&[], false, &mut out);
    assert_eq!(std::str::from_utf8(&out).unwrap(), r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#);
    out.clear();
    assert!(Face.count(14, &mut out));
    assert_eq!(std::str::from_utf8(&out).unwrap(), r#"{"input_tokens":14}"#);
    let counting = Provider.counting().unwrap();
    assert_eq!(counting.decode(&out), Ok(14));
    assert_eq!(counting.decode(b"{}").unwrap_err().path, "input_tokens");
}

/// A count needs no limit, and asks nothing but what has tokens.
#[test]
fn counts_are_asked_with_what_has_tokens() {
    let body = input("everything.request.json").replace(r#""max_tokens": 4096,"#, "");
    assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, "max_tokens");
    let request = Face.decode_count(body.as_bytes()).unwrap();
    let to =
        To { model: "claude-opus-4-8", stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
    let (mut out, mut losses, mut path) = (Vec::new(), Losses::default(), String::new());
    let counting = Provider.counting().unwrap();
    counting.path(&to, &mut path);
    assert_eq!(path, "/messages/count_tokens");
    counting.encode(&request, &to, &mut out, &mut losses).unwrap();
    let body: Value = serde_json::from_slice(&out).unwrap();
    let names: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted = vec!["model", "system", "messages", "tools", "tool_choice", "thinking", "output_config"];
    wanted.extend(["context_management", "mcp_servers"]);
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(sorted(names), sorted(wanted));
}

#[test]
fn reasons_to_stop() {
    let word = |reason, native: Option<&'static str>, called, refused| {
        let finish = Finish { reason, sequence: None, native: native.map(Text::from) };
        let mut losses = Losses::default();
        (answer::stop_reason(&finish, called, refused, &mut losses), losses.to_string())
    };
    let kept = |word: &'static str| (word, String::new());
    assert_eq!(word(FinishReason::Stop, Some("stop"), false, false), kept("end_turn"));
    assert_eq!(word(FinishReason::Stop, Some("stop"), true, false), kept("tool_use"));
    assert_eq!(word(FinishReason::Stop, Some("end_turn"), true, false), kept("end_turn"));
    assert_eq!(word(FinishReason::Stop, None, false, true), kept("refusal"));
    assert_eq!(word(FinishReason::Length, Some("length"), true, false), kept("max_tokens"));
    let full = "model_context_window_exceeded";
    assert_eq!(word(FinishReason::Length, Some(full), false, false), kept(full));
    assert_eq!(word(FinishReason::ContentFilter, Some("SAFETY"), false, false), kept("refusal"));
    assert_eq!(word(FinishReason::Pause, None, false, false), kept("pause_turn"));
    let altered = |word: &'static str| (word, "altered:stop_reason".to_owned());
    assert_eq!(word(FinishReason::Error, Some("MALFORMED"), false, false), altered("end_turn"));
    assert_eq!(word(FinishReason::Other, None, true, false), altered("tool_use"));
}
