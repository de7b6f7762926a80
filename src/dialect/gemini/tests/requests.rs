//! What requests become.

use super::*;

fn encode_for(request: &Request<'_>, model: &str, quirks: &Quirks) -> (String, String) {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let to = To { model, stream: false, quirks, abilities: &Abilities::default() };
    OUT.encode(request, &to, &mut out, &mut losses).unwrap();
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
    let answer = OUT.decode(answer.as_bytes()).unwrap();
    let Content::ToolCall(call) = &answer.candidates[0].blocks[0].content else { panic!("{answer:?}") };
    assert_eq!(call.name, "3d_render");

    let long = "x".repeat(129);
    request.tools = vec![odd.clone(), odd];
    let Some(Tool::Function { name, .. }) = request.tools.last_mut() else { panic!("a function") };
    *name = long.as_str().into();
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: "gemini-2.5-flash", stream: false, quirks: &quirks, abilities: &abilities };
    let refused = OUT.encode(&request, &to, &mut Vec::new(), &mut Losses::default()).unwrap_err();
    assert_eq!(refused.path, "tools[1].function.name");
}
