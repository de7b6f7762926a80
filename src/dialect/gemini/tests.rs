//! Goldens of this dialect: what a request becomes, what answers and streams mean; and properties that hold for any.
//!
//! `cases/*.request.txt` holds the losses and the body; `cases/*.answer.json` and `cases/*.stream.sse` are answers, and
//! the `.txt` of the same name is what they decode to. `GOLDEN=write cargo test` writes what is expected anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::dialect::{Abilities, Quirks};
use crate::ir::*;
use crate::wire::json::{self, Number, Raw, Text};
use crate::wire::scan::scan;
use crate::wire::sse;

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/gemini/cases").join(name)
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(case(name), actual).unwrap();
    }
    let expected = std::fs::read_to_string(case(name)).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; after a look, GOLDEN=write takes it over");
}

/// The same JSON over many lines: members in order, scalars as they were written.
fn pretty(json: &[u8]) -> String {
    fn write(out: &mut String, raw: &Raw<'_>, depth: usize) {
        let line = |out: &mut String, depth: usize| write!(out, "\n{:1$}", "", 2 * depth).unwrap();
        let (open, close, items): (_, _, Vec<(String, Raw<'_>)>) = match raw.kind() {
            json::Kind::Object => {
                let bag: wire::Bag<'_> = raw.read().unwrap();
                let members = bag.extras.0.into_iter().map(|(name, json)| (format!("{name:?}: "), json.into_owned()));
                ('{', '}', members.collect())
            }
            json::Kind::Array => {
                let items: Vec<Raw<'_>> = raw.read().unwrap();
                ('[', ']', items.into_iter().map(|json| (String::new(), json.into_owned())).collect())
            }
            _ => return out.push_str(raw.get()),
        };
        out.push(open);
        for (i, (name, json)) in items.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            line(out, depth + 1);
            out.push_str(name);
            write(out, json, depth + 1);
        }
        if !items.is_empty() {
            line(out, depth);
        }
        out.push(close);
    }
    let mut out = String::new();
    write(&mut out, &Raw::parse(std::str::from_utf8(json).unwrap()).unwrap(), 0);
    out
}

fn encode_for(request: &Request<'_>, model: &str, quirks: &Quirks) -> (String, String) {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let to = To { model, stream: false, quirks, abilities: &Abilities::default() };
    Face.encode(request, &to, &mut out, &mut losses).unwrap();
    (pretty(&out), losses.to_string())
}

#[track_caller]
fn request(name: &str, request: &Request<'_>, model: &str, quirks: &Quirks) {
    let (body, losses) = encode_for(request, model, quirks);
    golden(&format!("{name}.request.txt"), &format!("model: {model}\nlosses: {losses}\n\n{body}\n"));
}

fn number(digits: &'static str) -> Option<Number<'static>> {
    Some(serde_json::from_str(digits).unwrap())
}

fn message<'a>(role: Role, contents: Vec<Content<'a>>) -> Message<'a> {
    Message { role, blocks: contents.into_iter().map(Block::new).collect(), ..Message::default() }
}

fn text(text: &str) -> Content<'_> {
    Content::Text { text: text.into(), citations: Vec::new() }
}

fn call<'a>(id: &'a str, name: &'a str, arguments: &'a str, signature: Option<&'a str>) -> Content<'a> {
    Content::ToolCall(ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        signature: signature.map(Text::from),
        ..ToolCall::default()
    })
}

fn result<'a>(id: &'a str, contents: Vec<Content<'a>>) -> Content<'a> {
    let blocks = contents.into_iter().map(Block::new).collect();
    Content::ToolResult(ToolResult { id: id.into(), blocks, ..ToolResult::default() })
}

fn image(source: Source<'_>) -> Media<'_> {
    Media { kind: MediaKind::Image, source, mime: None, name: None, detail: None }
}

fn chat(messages: Vec<Message<'_>>) -> Request<'_> {
    Request { origin: Origin("openai_chat"), messages, ..Request::default() }
}

fn conversation<'a>() -> Request<'a> {
    let url = Source::Url("https://example.com/a/cat.PNG?w=1".into());
    chat(vec![
        message(Role::System, vec![text("Be \"brief\".")]),
        message(Role::Developer, vec![text("Answer in German.")]),
        message(
            Role::User,
            vec![
                text("What is on these?"),
                Content::Media(Media { detail: Some("high".into()), ..image(url) }),
                Content::Media(image(Source::Base64("iVBORw0KGgoAAAANSUhEUg==".into()))),
                Content::Media(Media { kind: MediaKind::Video, ..image(Source::Url("https://youtu.be/x".into())) }),
                Content::Media(Media {
                    kind: MediaKind::File,
                    name: Some("a.txt".into()),
                    ..image(Source::Text("a document".into()))
                }),
                Content::Media(Media { kind: MediaKind::File, ..image(Source::Id("file-abc".into())) }),
            ],
        ),
        message(
            Role::Assistant,
            vec![
                Content::Reasoning(Reasoning {
                    text: Some("Hm.".into()),
                    signature: Some("foreign".into()),
                    issuer: Some("anthropic".into()),
                    ..Reasoning::default()
                }),
                text("Let me look."),
                call("call_1", "look", r#"{"at": 1.10}"#, None),
                call("call_2", "look", "", None),
                call("call_3", "say", "not JSON", None),
            ],
        ),
        message(Role::Tool, vec![result("call_1", vec![text(r#" {"seen":"a cat","n":12345678901234567890123} "#)])]),
        message(
            Role::Tool,
            vec![result("call_2", vec![text("a dog"), Content::Media(image(Source::Base64("/9j/4AAQ".into())))])],
        ),
        message(
            Role::Tool,
            vec![Content::ToolResult(ToolResult {
                id: "call_3".into(),
                blocks: vec![Block::text("[\"too loud\"]")],
                is_error: Some(true),
                ..ToolResult::default()
            })],
        ),
        message(Role::Tool, vec![result("call_9", vec![text("whose?")])]),
        message(Role::System, vec![text("Be kind.")]),
        message(Role::User, vec![text(""), text("And now?")]),
    ])
}

#[test]
fn a_conversation() {
    request("conversation", &conversation(), "gemini-3.5-flash", &Quirks::default());
    request("conversation-2.5", &conversation(), "models/gemini-2.5-flash", &Quirks::default());
}

#[test]
fn signatures_go_back_where_they_came_from() {
    let bare = |signature: &'static str| {
        Content::Reasoning(Reasoning {
            signature: Some(signature.into()),
            issuer: Some("gemini".into()),
            ..Reasoning::default()
        })
    };
    let thought = Content::Reasoning(Reasoning {
        text: Some("First the weather.".into()),
        issuer: Some("gemini".into()),
        ..Reasoning::default()
    });
    let whole = chat(vec![
        message(Role::User, vec![text("Trip?")]),
        message(
            Role::Assistant,
            vec![
                thought,
                bare("sig/of+text=="),
                text("Looking."),
                call("a", "weather", "{}", Some("sig-of-call")),
                call("b", "hotels", "{}", None),
            ],
        ),
        message(Role::Tool, vec![result("a", vec![text("sun")])]),
        message(Role::Tool, vec![result("b", vec![text("none")])]),
        message(Role::Assistant, vec![call("c", "trains", "{}", None), call("d", "buses", "{}", None)]),
        message(Role::Tool, vec![result("c", vec![text("late")])]),
        message(Role::Tool, vec![result("d", vec![text("full")])]),
        message(Role::Assistant, vec![text("Stay home."), bare("sig-of-the-end")]),
        message(Role::User, vec![text("Thanks")]),
    ]);
    request("signatures", &whole, "gemini-3-pro-preview", &Quirks::default());
}

fn everything<'a>() -> Request<'a> {
    let function = |name: &'static str, parameters: Option<&'static str>, strict| Tool::Function {
        name: name.into(),
        description: Some("Does it.".into()),
        parameters: parameters.map(|json| Raw::parse(json).unwrap()),
        strict,
        cache: None,
        extras: json::Extras::default(),
    };
    let mut request = chat(vec![message(Role::User, vec![text("Go.")])]);
    request.tools = vec![
        function("plain", Some(r#"{"type":"object","properties":{}}"#), None),
        function(
            "weather",
            Some(
                r##"{"$schema":"s","type":"object","properties":{"at":{"$ref":"#/$defs/P"},"n":{"type":["integer","null"],"exclusiveMinimum":0}},"required":["at"],"additionalProperties":false,"$defs":{"P":{"type":"string"}}}"##,
            ),
            Some(true),
        ),
        function("typeless", Some(r#"{"properties":{"a":{"type":"string"}}}"#), Some(false)),
        Tool::Other { kind: "custom".into(), json: Raw::literal(r#"{"type":"custom"}"#) },
    ];
    request.tool_choice = Some(ToolChoice::Allowed { required: false, names: vec!["plain".into(), "weather".into()] });
    request.parallel_tool_calls = Some(false);
    request.format = Format::JsonSchema {
        name: Some("answer".into()),
        description: Some("The answer.".into()),
        schema: Raw::literal(r#"{"type":"object","properties":{"x":{"const":1.10}},"title":"Answer"}"#),
        strict: Some(true),
    };
    request.reasoning = Some(ReasoningWish { effort: Some(Effort::Low), ..ReasoningWish::default() });
    request.sampling = Sampling {
        temperature: number("2.5"),
        top_p: number("0.90"),
        top_k: number("40"),
        seed: number("7"),
        frequency_penalty: number("0.5"),
        presence_penalty: number("-0.5"),
        logit_bias: Some(Raw::literal(r#"{"1":2}"#)),
        logprobs: Some(true),
        top_logprobs: Some(3),
        candidates: Some(2),
    };
    request.max_tokens = Some(100);
    request.stop = ["a", "b", "c", "d", "e", "f"].into_iter().map(Text::from).collect();
    request.user = Some("u".into());
    request.metadata = Some(Raw::literal("{}"));
    request.service_tier = Some("flex".into());
    request.cache_key = Some("k".into());
    request.extras.push("modalities", Raw::literal(r#"["text","image"]"#));
    request.extras.push("store", Raw::literal("true"));
    request
}

#[test]
fn every_member_is_sent_or_named() {
    request("everything", &everything(), "gemini-3.8-flash", &Quirks::default());
    let quirks = Quirks { refuses: vec!["seed".into(), "topK".into()], no_json_schema: true, ..Quirks::default() };
    request("everything-2.5-quirks", &everything(), "gemini-2.5-pro", &quirks);
    let mut free = everything();
    free.tools.clear();
    request("everything-old", &free, "gemini-1.5-pro", &Quirks::default());
}

#[test]
fn instructions_alone_become_the_question() {
    let alone = chat(vec![message(Role::System, vec![text("Say hello.")])]);
    let (body, losses) = encode_for(&alone, "gemini-2.5-flash", &Quirks::default());
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, serde_json::json!({"contents":[{"role":"user","parts":[{"text":"Say hello."}]}]}));
    assert_eq!(losses, "altered:messages[0].role");
}

#[test]
fn choices_of_tools() {
    let config = |choice: ToolChoice<'static>, strict, model: &str| {
        let mut request = everything();
        request.tool_choice = Some(choice);
        for tool in &mut request.tools {
            if let Tool::Function { strict: is, .. } = tool {
                *is = Some(strict);
            }
        }
        let (body, losses) = encode_for(&request, model, &Quirks::default());
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (body["toolConfig"]["functionCallingConfig"].to_string(), losses.matches("strict").count())
    };
    let new = "gemini-2.5-flash";
    assert_eq!(config(ToolChoice::Auto, false, new), (r#"{"mode":"AUTO"}"#.into(), 0));
    assert_eq!(config(ToolChoice::Auto, true, new), (r#"{"mode":"VALIDATED"}"#.into(), 3));
    assert_eq!(config(ToolChoice::Auto, true, "gemini-2.0-flash"), (r#"{"mode":"AUTO"}"#.into(), 3));
    assert_eq!(config(ToolChoice::None, true, new), (r#"{"mode":"NONE"}"#.into(), 0));
    assert_eq!(config(ToolChoice::Required, true, new), (r#"{"mode":"ANY"}"#.into(), 0));
    let one = config(ToolChoice::Function("plain".into()), false, new);
    assert_eq!(one, (r#"{"allowedFunctionNames":["plain"],"mode":"ANY"}"#.into(), 0));
}

#[test]
fn names_that_gemini_refuses_come_back_as_they_were() {
    let odd = Tool::Function {
        name: "3d_render".into(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
        extras: json::Extras::default(),
    };
    let mut request = chat(vec![
        message(Role::User, vec![text("Go.")]),
        message(Role::Assistant, vec![call("c", "3d_render", "null", None)]),
        message(Role::Tool, vec![result("c", vec![text("done")])]),
    ]);
    request.tools = vec![odd.clone()];
    request.tool_choice = Some(ToolChoice::Function("3d_render".into()));
    let (body, losses) = encode_for(&request, "gemini-2.5-flash", &Quirks::default());
    assert_eq!((body.matches("3d_render").count(), body.matches(r#""_portolan.3d_render""#).count()), (4, 4), "{body}");
    assert_eq!(losses, "emulated:tools[0].function.name");
    let answer = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"_portolan.3d_render"}}]},"finishReason":"STOP"}]}"#;
    let answer = Face.decode(answer.as_bytes()).unwrap();
    let Content::ToolCall(call) = &answer.candidates[0].blocks[0].content else { panic!("{answer:?}") };
    assert_eq!(call.name, "3d_render");

    let long = "x".repeat(129);
    request.tools = vec![odd.clone(), odd];
    let Some(Tool::Function { name, .. }) = request.tools.last_mut() else { panic!("a function") };
    *name = long.as_str().into();
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: "gemini-2.5-flash", stream: false, quirks: &quirks, abilities: &abilities };
    let refused = Face.encode(&request, &to, &mut Vec::new(), &mut Losses::default()).unwrap_err();
    assert_eq!(refused.path, "tools[1].function.name");
}

#[test]
fn paths_are_safe() {
    let path = |model, stream| {
        let mut out = String::new();
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        Face.path(&To { model, stream, quirks: &quirks, abilities: &abilities }, &mut out);
        out
    };
    assert_eq!(path("gemini-2.5-pro", false), "/models/gemini-2.5-pro:generateContent");
    assert_eq!(path("models/gemini-2.5-pro", true), "/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    assert_eq!(path("publishers/google/models/g@001", false), "/publishers/google/models/g@001:generateContent");
    assert_eq!(path("tunedModels/x", false), "/tunedModels/x:generateContent");
    assert_eq!(path("models/../../x?y=#:z ä", false), "/models/%2E%2E/%2E%2E/x%3Fy%3D%23%3Az%20%C3%A4:generateContent");
    assert_eq!(path("a/b", false), "/models/a%2Fb:generateContent");
}

/// What an answer says, a line a piece.
fn show(response: &Response<'_>) -> String {
    let mut out = String::new();
    let Response { id, model, created, candidates, usage, service_tier, extras, .. } = response;
    writeln!(out, "id {id:?} model {model:?} created {created:?} tier {service_tier:?}").unwrap();
    for candidate in candidates {
        writeln!(out, "candidate {} finish {:?}", candidate.index, candidate.finish).unwrap();
        for block in &candidate.blocks {
            writeln!(out, "  {:?}{}", block.content, shown(&block.extras)).unwrap();
        }
        if let Some(logprobs) = &candidate.logprobs {
            writeln!(out, "  logprobs {logprobs:?}").unwrap();
        }
        out.push_str(&shown(&candidate.extras));
    }
    writeln!(out, "usage {usage:?}\n{}", shown(extras)).unwrap();
    out
}

fn shown(extras: &json::Extras<'_>) -> String {
    extras.iter().map(|(name, json)| format!("  extra {name} {json:?}\n")).collect()
}

#[test]
fn answers() {
    let mut seen = 0;
    for entry in std::fs::read_dir(case("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".answer.json") else { continue };
        let body = std::fs::read(case(&name)).unwrap();
        golden(&format!("{stem}.answer.txt"), &show(&Face.decode(&body).unwrap()));
        seen += 1;
    }
    assert!(seen >= 6, "{seen} answers");
}

#[test]
fn what_is_no_answer_is_refused() {
    for (body, path) in [
        ("{}", "candidates"),
        ("[]", "candidates"),
        (r#"{"candidates":[]}"#, "candidates"),
        (r#"{"candidates":[{"content":{"parts":[{"text":5}]}}]}"#, "candidates[0].content.parts[0].text"),
        (r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, "error"),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    assert!(Face.decode(b"<html>").is_err());
}

/// All events of a stream, a line each; `cut` is the size of the chunks it comes in.
fn events(stream: &[u8], cut: usize) -> String {
    let mut out = String::new();
    let mut decoder = Face.stream();
    let mut sse = sse::Decoder::new(1 << 20);
    for chunk in stream.chunks(cut) {
        sse.push(chunk, &mut |frame| {
            let read = decoder.frame(&frame, &mut |event| writeln!(out, "{event:?}").unwrap());
            if let Err(fault) = read {
                writeln!(out, "unreadable: {fault:?}").unwrap();
            }
        })
        .unwrap();
    }
    if let Err(fault) = decoder.end(&mut |event| writeln!(out, "{event:?}").unwrap()) {
        writeln!(out, "not whole: {fault:?}").unwrap();
    }
    out
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".stream.sse"))
        .map(|name| {
            let bytes = std::fs::read(case(&name)).unwrap();
            (name.replace(".sse", ""), bytes)
        })
        .collect()
}

#[test]
fn streams_at_every_cut() {
    let streams = streams();
    assert!(streams.len() >= 6, "{} streams", streams.len());
    for (name, bytes) in streams {
        let whole = events(&bytes, bytes.len());
        golden(&format!("{name}.txt"), &whole);
        for cut in [1, 2, 3, 7, 64, 257] {
            assert_eq!(events(&bytes, cut), whole, "{name} in chunks of {cut}");
        }
    }
}

#[test]
fn the_sniffer_agrees_with_the_decoder() {
    for (name, bytes) in streams() {
        let (mut usage, mut whole) = (None, false);
        let mut decoder = Face.stream();
        let mut sniffer = Face.sniffer();
        let (mut sniffed, mut faults, mut sniffed_faults) = (None, 0, 0);
        let mut note = |event: Event<'_>| match event {
            Event::Usage(now) => usage = Some(now),
            Event::End => whole = true,
            Event::Fault(_) => faults += 1,
            _ => {}
        };
        sse::Decoder::new(1 << 20)
            .push(&bytes, &mut |frame| {
                // A frame that cannot be read is the relay's to judge.
                let _ = decoder.frame(&frame, &mut note);
                let seen = sniffer.frame(&frame);
                sniffed = seen.usage.or(sniffed);
                sniffed_faults += usize::from(seen.fault.is_some());
                assert!(!seen.usage_only || !seen.content, "{name}");
            })
            .unwrap();
        let _ = decoder.end(&mut note);
        assert_eq!((sniffed, sniffer.whole(), sniffed_faults), (usage, whole, faults), "{name}");
    }
}

#[test]
fn controls_and_quirks_are_spliced() {
    let body = br#"{ "contents":[{"parts":[{"text":"x"}]}], "tags" : {"a":"b"},"model":"models/alias","seed": 1.10, "old":1 }"#;
    let quirks = Quirks {
        refuses: vec!["seed".into()],
        rename: [("old".to_owned(), "new".to_owned())].into(),
        ..Quirks::default()
    };
    let to = To { model: "gemini-2.5-pro", stream: true, quirks: &quirks, abilities: &Abilities::default() };
    let members = scan(body, 64).unwrap();
    let mut patch = Patch::default();
    Face.splice(body, &members, &to, &mut patch);
    let spliced = String::from_utf8(patch.apply(body)).unwrap();
    assert_eq!(spliced, r#"{ "contents":[{"parts":[{"text":"x"}]}],"model":"models/gemini-2.5-pro", "new":1 }"#);
}

/// A part of an answer, by kind. A signed text is never empty: Gemini sends such a part only last, where nothing follows that
/// its signature could be taken for.
fn part() -> impl Strategy<Value = String> {
    let text = "[a-zä\"\\\\ ]{0,6}";
    prop_oneof![
        text.prop_map(|text| format!(r#"{{"text":{}}}"#, serde_json::to_string(&text).unwrap())),
        text.prop_map(|text| format!(r#"{{"thought":true,"text":{}}}"#, serde_json::to_string(&text).unwrap())),
        "[a-z]{1,3}".prop_map(|text| format!(r#"{{"text":"{text}","thoughtSignature":"s"}}"#)),
        (0..3)
            .prop_map(|n| format!(r#"{{"functionCall":{{"name":"f{n}","args":{{"n":{n}}}}},"thoughtSignature":"c"}}"#)),
        Just(r#"{"inlineData":{"mimeType":"image/png","data":"AA-_"}}"#.to_owned()),
        Just(r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#.to_owned()),
        Just("{}".to_owned()),
    ]
}

/// What blocks say, neighbours of one kind as one.
fn said(pieces: &mut Vec<String>, content: &Content<'_>) {
    let (kind, text) = match content {
        Content::Text { text, .. } => ("text ", text.to_string()),
        Content::Reasoning(Reasoning { text: Some(text), signature: None, .. }) => ("thought ", text.to_string()),
        other => ("", format!("{other:?}")),
    };
    match pieces.last_mut() {
        Some(last) if !kind.is_empty() && last.starts_with(kind) => last.push_str(&text),
        _ => pieces.push(format!("{kind}{text}")),
    }
}

proptest! {
    /// However an answer is parted into frames, it says the same, and the same as when it comes whole.
    #[test]
    fn parting_changes_nothing(parts in proptest::collection::vec(part(), 1..8), cuts in any::<u8>()) {
        let frame = |parts: &[String], end: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{}],"role":"model"}}{end}}}]}}"#, parts.join(","));
        let body = frame(&parts, r#","finishReason":"STOP""#);
        let whole = Face.decode(body.as_bytes()).unwrap();
        let (mut expected, mut streamed) = (Vec::new(), Vec::new());
        for block in &whole.candidates[0].blocks {
            said(&mut expected, &block.content);
        }
        let (mut decoder, mut rest, mut finish) = (Face.stream(), parts.as_slice(), None);
        let mut emit = |event: Event<'_>| match event {
            Event::Open { content, .. } => said(&mut streamed, &content),
            Event::Delta { delta: Delta::Text(text), .. } => streamed.last_mut().unwrap().push_str(&text),
            Event::Finish { finish: last, .. } => finish = Some(last.reason),
            _ => {}
        };
        for n in 0..8 {
            let take = if cuts & (1 << n) == 0 { 1 } else { 2 }.min(rest.len());
            let (now, later) = rest.split_at(take);
            rest = later;
            let data = frame(now, if rest.is_empty() { r#","finishReason":"STOP""# } else { "" });
            decoder.frame(&sse::Frame { event: "", data: &data, end: 0, comment: false }, &mut emit).unwrap();
        }
        decoder.end(&mut emit).unwrap();
        prop_assert_eq!(streamed, expected);
        prop_assert_eq!(finish, whole.candidates[0].finish.as_ref().map(|finish| finish.reason));
    }

    /// A model's turn that comes back is what it was: parts, order and signatures.
    #[test]
    fn a_turn_goes_back_as_it_came(parts in proptest::collection::vec(part(), 1..8)) {
        let body = format!(r#"{{"candidates":[{{"content":{{"parts":[{}]}},"finishReason":"STOP"}}]}}"#, parts.join(","));
        let response = Face.decode(body.as_bytes()).unwrap();
        let blocks = response.candidates[0].blocks.clone();
        prop_assume!(!blocks.is_empty());
        let turn = Message { role: Role::Assistant, blocks, ..Message::default() };
        let request = Request { origin: Origin("gemini"), messages: vec![turn], ..Request::default() };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        let to = To { model: "gemini-2.5-pro", stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
        Face.encode(&request, &to, &mut out, &mut losses).unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let came: Vec<serde_json::Value> = parts.iter().map(|part| serde_json::from_str(part).unwrap())
            .filter(|part| *part != serde_json::json!({}) && *part != serde_json::json!({"text":""}))
            .map(|mut part: serde_json::Value| {
                // The alphabet is the only thing that may change.
                if let Some(data) = part.pointer_mut("/inlineData/data") { *data = "AA+/".into(); }
                part
            })
            .collect();
        prop_assert_eq!(&sent["contents"][0]["parts"], &serde_json::Value::from(came));
        prop_assert!(losses.is_empty(), "{}", losses);
    }

    /// Nothing that comes from outside panics.
    #[test]
    fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..200), model in ".{0,20}") {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Face.decode(&bytes);
        let _ = Face.fault(400, &bytes);
        let _ = Face.sniffer().body(&bytes);
        let _ = Face.stream().frame(&sse::Frame { event: "", data: &text, end: 0, comment: false }, &mut |_| {});
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        let mut path = String::new();
        Face.path(&To { model: &model, stream: false, quirks: &quirks, abilities: &abilities }, &mut path);
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains("/../"));
    }
}
