//! What callers say and are shown: `cases/*.asked.json` are requests, the `.txt` of the same name is what they decode to
//! and what of it Gemini is then sent; `cases/*.shown.*` are answers that came from other dialects.

use super::*;
use crate::wire::json::Extras;
use crate::wire::writer;

/// What a request says, a line a piece.
fn told(request: &Request<'_>) -> String {
    let mut out = String::new();
    writeln!(out, "model {:?}", request.model).unwrap();
    for message in &request.messages {
        writeln!(out, "{:?}{}", message.role, shown(&message.extras)).unwrap();
        for block in &message.blocks {
            writeln!(out, "  {:?}\n{}", block.content, shown(&block.extras)).unwrap();
        }
    }
    for tool in &request.tools {
        writeln!(out, "{tool:?}").unwrap();
    }
    let Request { tool_choice, format, reasoning, sampling, max_tokens, stop, service_tier, extras, .. } = request;
    writeln!(out, "choice {tool_choice:?}\nformat {format:?}\nreasoning {reasoning:?}\n{sampling:?}").unwrap();
    writeln!(out, "most {max_tokens:?} stop {stop:?} tier {service_tier:?}\n{}", shown(extras)).unwrap();
    out
}

#[test]
fn requests() {
    let mut seen = 0;
    for entry in std::fs::read_dir(case("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".asked.json") else { continue };
        let body = std::fs::read(case(&name)).unwrap();
        let request = IN.decode(&body).unwrap();
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        let to = To { model: "gemini-2.5-pro", stream: false, quirks: &quirks, abilities: &abilities };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        OUT.encode(&request, &to, &mut out, &mut losses).unwrap();
        let text = format!("{}\nlosses: {losses}\n\n{}\n", told(&request), pretty(&out));
        golden(&format!("{stem}.asked.txt"), &text);
        seen += 1;
    }
    assert!(seen >= 3, "{seen} requests");
}

fn decoded(body: &str) -> Request<'_> {
    IN.decode(body.as_bytes()).unwrap()
}

#[test]
fn calls_without_ids_are_numbered_and_answered_in_order() {
    let request = decoded(
        r#"{"contents":[{"parts":[{"text":"go"}]},
        {"role":"model","parts":[{"functionCall":{"name":"a","args":{"n":1}}},{"functionCall":{"name":"b"}}]},
        {"role":"model","parts":[{"function_call":{"name":"a","args":{"n":2},"id":"given"}}]},
        {"role":"model","parts":[{"functionCall":{"name":"a","args":{"n":3}}}]},
        {"role":"user","parts":[{"text":"and"},{"functionResponse":{"name":"a","response":{"is":1}}},{"functionResponse":{"name":"a","response":{"is":3}}}]},
        {"role":"function","parts":[{"functionResponse":{"id":"given","name":"a","response":{"is":2}}},{"functionResponse":{"id":"x","name":"b","response":{}}}]}]}"#,
    );
    let mut calls = Vec::new();
    let mut results = Vec::new();
    for block in request.messages.iter().flat_map(|message| &message.blocks) {
        match &block.content {
            Content::ToolCall(call) => calls.push((call.id.to_string(), call.arguments.to_string())),
            Content::ToolResult(result) => results.push((result.id.to_string(), result.structured.clone().unwrap())),
            _ => {}
        }
    }
    let id = |n: usize| calls[n].0.clone();
    assert_eq!([id(0), id(1), id(2), id(3)], ["gem000000", "gem000001", "given", "gem000003"]);
    let answered: Vec<&str> = results.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(answered, ["gem000000", "gem000003", "given", "gem000001"]);
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::User, Role::Tool]);
}

#[test]
fn chunks_that_a_chat_kept_are_one_turn() {
    let request = decoded(
        r#"{"contents":[{"role":"user","parts":[{"text":"go"}]},
        {"role":"model","parts":[{"text":"Hel"}]},{"role":"model","parts":[{"text":"lo"}]},
        {"role":"model","parts":[{"text":" you"},{"text":"!"}]},{"role":"model","parts":[{"text":""}]},
        {"role":"user","parts":[{"text":""}]}]}"#,
    );
    assert_eq!(request.messages.len(), 3);
    let turn = &request.messages[1];
    assert_eq!(turn.blocks, [Block::text("Hello you"), Block::text("!")]);
    assert_eq!(request.messages[2].blocks, [Block::text("")]);
}

#[test]
fn a_question_for_a_count_is_a_request() {
    let inner = r#"{"model":"models/m","contents":[{"parts":[{"text":"x"}]}],"system_instruction":"Be brief."}"#;
    for body in [inner.to_owned(), format!(r#"{{"generateContentRequest":{inner}}}"#)] {
        let request = decoded(&body);
        assert_eq!((request.model.as_str(), request.messages.len()), ("m", 2), "{body}");
    }
    let wrong = r#"{"generateContentRequest":{"contents":[{"parts":[{"text":1}]}]}}"#;
    assert_eq!(IN.decode(wrong.as_bytes()).unwrap_err().path, "generateContentRequest.contents[0].parts[0].text");
}

/// An answer of another dialect's, with everything that there is.
pub(super) fn foreign<'a>() -> Response<'a> {
    let proven = |text: Option<&'static str>, signature: Option<&'static str>, encrypted: Option<&'static str>| {
        Content::Reasoning(Reasoning {
            text: text.map(Text::from),
            signature: signature.map(Text::from),
            encrypted: encrypted.map(Text::from),
            issuer: Some("anthropic".into()),
            ..Reasoning::default()
        })
    };
    let call = |id: &'static str, arguments: &'static str| {
        Content::ToolCall(ToolCall {
            id: id.into(),
            name: "look".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        })
    };
    let image = Media {
        kind: MediaKind::Image,
        source: Source::Base64("iVBORw0KGgo=".into()),
        mime: None,
        name: None,
        detail: None,
    };
    let audio =
        Media { kind: MediaKind::Audio, source: Source::Id("audio_1".into()), mime: None, name: None, detail: None };
    let blocks = vec![
        proven(Some("First, look."), Some("EqQB+/=="), None),
        proven(None, None, Some("redacted/data+=")),
        Content::Text {
            text: "Looking \"now\".\n".into(),
            citations: vec![Raw::literal(r#"{"type":"char_location"}"#)],
        },
        Content::Refusal("Not that.".into()),
        Content::Media(image),
        Content::Media(audio),
        call("toolu_1", "{\"at\":\n1.10}"),
        call("", ""),
        call("toolu_3", "no JSON"),
        Content::Other { kind: "server_tool_use".into(), json: Raw::literal(r#"{"type":"server_tool_use"}"#) },
        proven(None, None, Some("the end")),
    ];
    let mut blocks: Vec<Block<'_>> = blocks.into_iter().map(Block::new).collect();
    blocks[2].extras.push("odd", Raw::literal("1"));
    let mut extras = Extras::default();
    extras.push("container", Raw::literal("{}"));
    Response {
        origin: Origin("anthropic"),
        id: "msg_1".into(),
        model: "claude-opus-4-8".into(),
        created: Some(1_790_000_000),
        candidates: vec![
            Candidate {
                index: 0,
                blocks,
                finish: Some(Finish {
                    reason: FinishReason::ToolCalls,
                    sequence: None,
                    native: Some("tool_use".into()),
                }),
                logprobs: Some(Raw::literal(
                    r#"{"content":[{"token":"Loo","logprob":-0.5,"bytes":[76],"top_logprobs":[{"token":"Loo","logprob":-0.5,"bytes":null}]},{"token":"king","logprob":-1.5,"bytes":null,"top_logprobs":[]}],"refusal":null}"#,
                )),
                extras: Extras::default(),
            },
            Candidate {
                index: 1,
                finish: Some(Finish {
                    reason: FinishReason::StopSequence,
                    sequence: Some("END".into()),
                    native: Some("stop_sequence".into()),
                }),
                ..Candidate::default()
            },
        ],
        usage: Some(Usage {
            input: 100,
            output: 50,
            cached: 20,
            cache_write: 5,
            audio_input: 3,
            tool_prompt: 10,
            reasoning: 30,
            searches: 1,
            ..Usage::default()
        }),
        service_tier: Some("default".into()),
        fingerprint: Some("fp".into()),
        extras,
    }
}

pub(super) fn shown_to<'a>(costs: &'a [(String, String)], array: bool) -> Shown<'a> {
    let asked = Asked { model: "alias", id: "0123456789abcdef0123456789abcdef", array, ..Asked::default() };
    Shown { cached: false, costs, now: 1, asked }
}

#[test]
fn answers_of_others() {
    let costs = [("cost_usd".to_owned(), "0.000123".to_owned()), ("cost_eur".to_owned(), "0.000110".to_owned())];
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    IN.encode(&foreign(), &shown_to(&costs, false), &mut out, &mut losses);
    golden("foreign.shown.txt", &format!("losses: {losses}\n\n{}\n", pretty(&out)));
    // Reads as an answer of Gemini's.
    let again = OUT.decode(&out).unwrap();
    assert_eq!(
        again.usage.unwrap(),
        Usage { cache_write: 0, searches: 0, stated_total: Some(150), ..foreign().usage.unwrap() }
    );
    assert_eq!(again.candidates.len(), 2);

    let nothing = Response { candidates: vec![Candidate::default()], ..Response::default() };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    IN.encode(&nothing, &shown_to(&[], false), &mut out, &mut losses);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"modelVersion":"alias","responseId":"0123456789abcdef0123456789abcdef"}"#
    );
}

/// A whole answer as the stream that a caller gets of it.
pub(super) fn streamed(response: &Response<'_>, shown: &Shown<'_>) -> (Vec<u8>, Losses) {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let mut encoder = IN.stream(&shown.asked);
    response.events(&mut |event| encoder.event(&event, shown, &mut out, &mut losses));
    (out, losses)
}

#[test]
fn streams_of_others() {
    let costs = [("cost_usd".to_owned(), "0.000123".to_owned())];
    let (events, losses) = streamed(&foreign(), &shown_to(&costs, false));
    golden("foreign.shown.sse", &format!("losses: {losses}\n\n{}", String::from_utf8(events.clone()).unwrap()));
    let (array, _) = streamed(&foreign(), &shown_to(&costs, true));
    let array: Vec<serde_json::Value> = serde_json::from_slice(&array).unwrap();
    let events = String::from_utf8(events).unwrap();
    let frames: Vec<serde_json::Value> = events
        .split_terminator("\r\n\r\n")
        .map(|frame| serde_json::from_str(&frame["data: ".len()..]).unwrap())
        .collect();
    assert_eq!(array, frames);
    assert!(frames.iter().all(|frame| frame["candidates"][0]["content"]["parts"][0].is_object()), "{frames:?}");
}

#[test]
fn calls_are_gathered_and_thoughts_wait_for_their_proof() {
    let mut encoder = IN.stream(&Asked::default());
    let (mut losses, shown) = (Losses::default(), shown_to(&[], false));
    let mut parts = |event: Event<'_>| -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        encoder.event(&event, &shown, &mut out, &mut losses);
        let text = String::from_utf8(out).unwrap();
        let frames = text.split_terminator("\r\n\r\n").filter(|frame| !frame.trim().is_empty());
        let read =
            |frame: &str| serde_json::from_str::<serde_json::Value>(frame.strip_prefix("data: ").unwrap()).unwrap();
        frames.map(|frame| read(frame)["candidates"][0]["content"]["parts"].clone()).collect()
    };
    let none: Vec<serde_json::Value> = Vec::new();
    let delta = |delta| Event::Delta { candidate: 0, block: 0, delta };
    let close = || Event::Close { candidate: 0, block: 0 };
    let thought = Reasoning { text: Some("a".into()), issuer: Some("anthropic".into()), ..Reasoning::default() };
    assert_eq!(parts(Event::Open { candidate: 0, block: 0, content: Content::Reasoning(thought) }), none);
    assert_eq!(parts(delta(Delta::Text("b".into()))), [serde_json::json!([{"text":"a","thought":true}])]);
    assert_eq!(parts(delta(Delta::Signature("sig".into()))), none);
    let proven = parts(close());
    assert!(proven[0][0]["thoughtSignature"].as_str().unwrap().starts_with(signature::MARK), "{proven:?}");
    assert_eq!(proven[0][0]["text"], "b");
    let call = Content::ToolCall(ToolCall { id: "c".into(), name: "f".into(), ..ToolCall::default() });
    assert_eq!(parts(Event::Open { candidate: 0, block: 1, content: call }), none);
    assert_eq!(parts(delta(Delta::Arguments("{\"a\"".into()))), none);
    assert_eq!(parts(delta(Delta::Arguments(":1}".into()))), none);
    let whole = serde_json::json!([{"functionCall":{"id":"c","name":"f","args":{"a":1}}}]);
    assert_eq!(parts(close()), [whole]);
    assert_eq!(parts(Event::Ping), [serde_json::Value::Null; 0]);
    assert!(losses.is_empty());
}

#[test]
fn models_and_counts() {
    let models = [
        ListedModel {
            name: "sonnet",
            owner: "anthropic",
            context: Some(200_000),
            max_output: Some(64_000),
            ..ListedModel::default()
        },
        ListedModel { name: "team/x", ..ListedModel::default() },
    ];
    let mut out = Vec::new();
    IN.models(&models, true, &mut out);
    let list: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(list["nextPageToken"], "team/x");
    assert_eq!(list["models"][1]["name"], "models/team/x");
    let mut out = Vec::new();
    IN.model(&models[0], &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"name":"models/sonnet","displayName":"sonnet","description":"Served by anthropic.","inputTokenLimit":200000,"outputTokenLimit":64000,"supportedGenerationMethods":["generateContent","countTokens"]}"#
    );
    let mut out = Vec::new();
    assert!(IN.count(7, &mut out));
    assert_eq!(out, br#"{"totalTokens":7}"#);
}

#[test]
fn providers_count() {
    let request = decoded(
        r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"temperature":1},"safetySettings":[{"category":"c"}]}"#,
    );
    let counting = OUT.counting().unwrap();
    let ask = |model: &str, quirks: &Quirks| {
        let abilities = Abilities::default();
        let to = To { model, stream: false, quirks, abilities: &abilities };
        let (mut path, mut out) = (String::new(), Vec::new());
        counting.path(&to, &mut path);
        counting.encode(&request, &to, &mut out, &mut Losses::default()).unwrap();
        (path, serde_json::from_slice::<serde_json::Value>(&out).unwrap())
    };
    let (path, body) = ask("gemini-2.5-pro", &Quirks::default());
    assert_eq!(path, "/models/gemini-2.5-pro:countTokens");
    assert_eq!(body["generateContentRequest"]["model"], "models/gemini-2.5-pro");
    assert_eq!(body["generateContentRequest"]["contents"][0]["parts"][0]["text"], "x");
    assert!(body["generateContentRequest"]["safetySettings"].is_array());
    let vertex = serde_json::json!({
        "contents":[{"role":"user","parts":[{"text":"x"}]}], "systemInstruction":{"parts":[{"text":"s"}]},
        "generationConfig":{"temperature":1}
    });
    let (path, body) = ask("publishers/google/models/g", &Quirks::default());
    assert_eq!((path.as_str(), &body), ("/publishers/google/models/g:countTokens", &vertex));
    let refuses = Quirks { refuses: vec!["generateContentRequest".into()], ..Quirks::default() };
    assert_eq!(ask("g", &refuses).1, vertex);
    assert_eq!(counting.decode(br#"{"totalTokens":12,"totalBillableCharacters":47}"#), Ok(12));
    assert_eq!(counting.decode(br#"{"totalTokens":"12"}"#), Ok(12));
    assert_eq!(counting.decode(b"{}").unwrap_err().path, "totalTokens");
}

/// Google's Python SDK ends a line at each of these.
#[test]
fn what_unicode_calls_a_line_break_is_escaped() {
    let text = "Grüße\u{85}\u{2028}\u{2029}🌍";
    for array in [false, true] {
        let mut out = Vec::new();
        chunks::framed(array, &mut true, &mut out, |out| writer::object(out, |o| o.string("text", text)));
        let frame = std::str::from_utf8(&out).unwrap().trim_start_matches("data: ").trim_start_matches(",\r\n");
        assert_eq!(frame.trim_end(), r#"{"text":"Grüße\u0085\u2028\u2029🌍"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(frame).unwrap()["text"], text);
    }
}
