//! What is said when something cannot be said: to callers about their bodies, and by name about every loss.

use serde_json::Value;

use super::*;

#[test]
fn callers_are_told_what_is_wrong_and_where() {
    let hi = r#"{"role":"user","content":"Hi"}"#;
    let cases = [
        (r#"{"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":"m"}"#.to_owned(), "messages"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), "messages"),
        (r#"{"model":"m","messages":"Hi"}"#.to_owned(), "messages"),
        (r#"{"model":5,"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":"m","messages":[{"content":"Hi"}]}"#.to_owned(), "messages[0].role"),
        (r#"{"model":"m","messages":[{"role":"robot","content":"Hi"}]}"#.to_owned(), "messages[0].role"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#.to_owned(), "messages[0].content"),
        (r#"{"model":"m","messages":[{"role":"user","content":null}]}"#.to_owned(), "messages[0].content"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#.to_owned(), "messages[0].content[0].type"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#.to_owned(), "messages[0].content[0].text"),
        (r#"{"model":"m","messages":[{"role":"user","content":["Hi"]}]}"#.to_owned(), "messages[0].content[0]"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#.to_owned(), "messages[0].content[0].image_url.url"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"format":"wav"}}]}]}"#.to_owned(), "messages[0].content[0].input_audio.data"),
        (r#"{"model":"m","messages":[{"role":"user","content":[]}]}"#.to_owned(), "messages[0].content"),
        (format!(r#"{{"model":"m","messages":[{hi},{{"role":"tool","content":"x"}}]}}"#), "messages[1].tool_call_id"),
        (format!(r#"{{"model":"m","messages":[{hi},{{"role":"tool","tool_call_id":"call_9","content":"x"}}]}}"#), "messages[1].tool_call_id"),
        (format!(r#"{{"model":"m","messages":[{hi},{{"role":"assistant","tool_calls":[{{"id":"call_8","function":{{"name":"f"}}}}]}},{{"role":"tool","tool_call_id":"call_9","content":"x"}}]}}"#), "messages[2].tool_call_id"),
        (format!(r#"{{"model":"m","messages":[{hi},{{"role":"assistant","tool_calls":[{{"type":"function","function":{{"name":"f"}}}}]}}]}}"#), "messages[1].tool_calls[0].id"),
        (format!(r#"{{"model":"m","messages":[{hi},{{"role":"assistant","tool_calls":[{{"id":"a","function":{{"name":"f","arguments":{{}}}}}}]}}]}}"#), "messages[1].tool_calls[0].function.arguments"),
        (format!(r#"{{"model":"m","messages":[{hi}],"temperature":"hot"}}"#), "temperature"),
        (format!(r#"{{"model":"m","messages":[{hi}],"n":0}}"#), "n"),
        (format!(r#"{{"model":"m","messages":[{hi}],"max_tokens":1.5}}"#), "max_tokens"),
        (format!(r#"{{"model":"m","messages":[{hi}],"stop":[1]}}"#), "stop[0]"),
        (format!(r#"{{"model":"m","messages":[{hi}],"stream":"yes"}}"#), "stream"),
        (format!(r#"{{"model":"m","messages":[{hi}],"metadata":[]}}"#), "metadata"),
        (format!(r#"{{"model":"m","messages":[{hi}],"tools":[{{}}]}}"#), "tools[0].type"),
        (format!(r#"{{"model":"m","messages":[{hi}],"tools":[{{"type":"function","function":{{}}}}]}}"#), "tools[0].function.name"),
        (format!(r#"{{"model":"m","messages":[{hi}],"tools":[{{"type":"function","function":{{"name":"f","parameters":"{{}}"}}}}]}}"#), "tools[0].function.parameters"),
        (format!(r#"{{"model":"m","messages":[{hi}],"functions":[{{}}]}}"#), "functions[0].name"),
        (format!(r#"{{"model":"m","messages":[{hi}],"tool_choice":"sometimes"}}"#), "tool_choice"),
        (format!(r#"{{"model":"m","messages":[{hi}],"response_format":{{"type":"json_schema"}}}}"#), "response_format.json_schema"),
        (format!(r#"{{"model":"m","messages":[{hi}],"reasoning":{{"effort":"wild"}}}}"#), "reasoning.effort"),
        ("[]".to_owned(), ""),
        ("{".to_owned(), ""),
    ];
    for (body, path) in cases {
        let invalid = request::decode(body.as_bytes()).expect_err(&body);
        assert_eq!(invalid.path.trim_start_matches('.'), path, "{body}: {invalid}");
        assert!(!invalid.message.is_empty());
    }
}

#[test]
fn quirks_bend_the_body_and_are_named() {
    let body = r#"{"model":"m","max_tokens":5,"seed":1,"user":"u","stream":true,"stream_options":{"include_obfuscation":true},
        "random_seed":2,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},
        "messages":[{"role":"developer","content":"Rules."},{"role":"user","content":"Hi"}]}"#;
    let request = request::decode(body.as_bytes()).unwrap();
    let rename = [("max_completion_tokens", "max_tokens"), ("seed", "random_seed")];
    let target = Target {
        quirks: Quirks {
            rename: rename.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).into(),
            refuses: vec!["user".to_owned()],
            no_stream_options: true,
            no_developer_role: true,
            no_json_schema: true,
            ..Quirks::default()
        },
        abilities: Abilities::default(),
    };
    let (out, losses) = target.encode(&request);
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out["max_tokens"], 5);
    assert_eq!(out["random_seed"], 1);
    assert_eq!(out["messages"][0]["role"], "system");
    let rules = out["messages"][0]["content"].as_str().unwrap();
    assert!(
        rules.starts_with("Rules.\n\nAnswer with one JSON object") && rules.ends_with(r#"{"type":"object"}"#),
        "{rules}"
    );
    assert_eq!(out["response_format"], serde_json::json!({"type": "json_object"}));
    for gone in ["user", "seed", "stream_options", "max_completion_tokens"] {
        assert_eq!(out.get(gone), None, "{gone}");
    }
    assert_eq!(
        losses.to_string(),
        "emulated:response_format, dropped:user, dropped:stream_options.include_obfuscation, dropped:random_seed"
    );

    let single = Target {
        quirks: Quirks { refuses: vec!["n".to_owned()], ..Quirks::default() },
        abilities: Abilities::default(),
    };
    let ask = |n: u32| format!(r#"{{"model":"m","n":{n},"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    let to = To { model: "m", stream: false, quirks: &single.quirks, abilities: &single.abilities };
    let encode = |body: &str| {
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        body::encode(&request::decode(body.as_bytes()).unwrap(), &to, &mut out, &mut losses).map(|()| losses)
    };
    assert!(encode(&ask(1)).unwrap().is_empty());
    assert_eq!(encode(&ask(2)).unwrap_err().path, "n");

    let unable = Target {
        quirks: Quirks::default(),
        abilities: Abilities { reasoning: Some(false), structured_output: Some(false), ..Abilities::default() },
    };
    let body = r#"{"model":"m","reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}},"messages":[{"role":"user","content":"Hi"}]}"#;
    let (out, losses) = unable.encode(&request::decode(body.as_bytes()).unwrap());
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out["messages"][0]["role"], "system");
    assert_eq!(out.get("reasoning_effort"), None);
    assert_eq!(losses.to_string(), "emulated:response_format, dropped:reasoning");
}

/// A request of another dialect, with everything that this one cannot say.
#[test]
fn what_chat_cannot_say_is_a_named_loss() {
    let other = |kind: &'static str| Block::new(Content::Other { kind: kind.into(), json: Raw::literal("{}") });
    let media = |kind, source| {
        Block::new(Content::Media(Media { kind, source, mime: Some("image/png".into()), name: None, detail: None }))
    };
    let mut marked = Block::text("marked");
    marked.cache = Some(CacheMark(Raw::literal(r#"{"type":"ephemeral"}"#)));
    let cited = Block::new(Content::Text { text: "cited".into(), citations: vec![Raw::literal("{}")] });
    let call = |id: &'static str, name: &'static str, signature: Option<&'static str>| {
        let call =
            ToolCall { id: id.into(), name: name.into(), signature: signature.map(Into::into), ..ToolCall::default() };
        Block::new(Content::ToolCall(call))
    };
    let result = |name: &'static str, blocks, is_error| {
        let result = ToolResult { id: "".into(), name: Some(name.into()), blocks, structured: None, is_error };
        Block::new(Content::ToolResult(result))
    };
    let thought = Reasoning {
        text: Some("Hm".into()),
        signature: Some("s".into()),
        issuer: Some("anthropic".into()),
        ..Reasoning::default()
    };
    let message = |role, blocks| Message { role, name: None, blocks, extras: Extras::default() };
    let mut extras = Extras::default();
    extras.push("thinking_level", Raw::literal("1"));
    let request = Request {
        origin: Origin("gemini"),
        model: "m".into(),
        messages: vec![
            message(
                Role::User,
                vec![
                    marked,
                    cited,
                    other("search"),
                    media(MediaKind::Audio, Source::Url("https://a".into())),
                    media(MediaKind::Image, Source::Base64("aaaa".into())),
                ],
            ),
            message(
                Role::Assistant,
                vec![
                    Block::new(Content::Reasoning(thought)),
                    call("", "a", Some("g")),
                    call("", "b", None),
                    media(MediaKind::Image, Source::Base64("aaaa".into())),
                ],
            ),
            message(
                Role::Tool,
                vec![
                    result("b", vec![Block::text("two")], Some(true)),
                    result("a", vec![Block::text("one"), media(MediaKind::Image, Source::Base64("aaaa".into()))], None),
                ],
            ),
        ],
        tools: vec![Tool::Other { kind: "google_search".into(), json: Raw::literal("{}") }],
        tool_choice: Some(crate::ir::ToolChoice::Required),
        service_tier: Some("standard_only".into()),
        extras,
        ..Request::default()
    };
    let (out, losses) = Target::style(ReasoningStyle::Effort).encode(&request);
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        losses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "dropped:messages[0].content[0].cache_control",
            "dropped:messages[0].content[1].citations",
            "dropped:messages[0].content[2]",
            "dropped:messages[0].content[3]",
            "dropped:messages[1].content[3]",
            "dropped:messages[1].reasoning",
            "dropped:messages[1].tool_calls[0].signature",
            "dropped:messages[2].content[0].is_error",
            "dropped:messages[2].content[1].content[1]",
            "dropped:tools[0].google_search",
            "dropped:tool_choice",
            "dropped:service_tier",
            "dropped:thinking_level",
        ]
    );
    // Calls without ids get them, and results find theirs by name.
    assert_eq!(out["messages"][1]["tool_calls"][0]["id"], "call_1_0");
    assert_eq!(out["messages"][2]["tool_call_id"], "call_1_1");
    assert_eq!(out["messages"][3]["tool_call_id"], "call_1_0");
    assert_eq!(out["messages"][3]["content"], "one");
    assert_eq!(out["messages"][1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(out.get("tools"), None);
}

#[test]
fn what_callers_cannot_be_shown_is_a_named_loss() {
    let finish = |reason| Some(Finish { reason, sequence: None, native: Some("odd".into()) });
    let candidate =
        |index, blocks, reason| crate::ir::Candidate { index, blocks, finish: finish(reason), ..Default::default() };
    let cited = Block::new(Content::Text {
        text: "x".into(),
        citations: vec![Raw::literal(r#"{"type":"char_location","cited_text":"y"}"#)],
    });
    let tool = Block::new(Content::Other { kind: "server_tool_use".into(), json: Raw::literal("{}") });
    let mut response = Response { origin: Origin("anthropic"), id: "msg_1".into(), ..Response::default() };
    response.candidates = vec![
        candidate(0, vec![cited, tool, Block::text("y")], FinishReason::Pause),
        candidate(1, vec![], FinishReason::Error),
        candidate(2, vec![], FinishReason::Refusal),
    ];
    response.extras.push("container", Raw::literal("{}"));
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    response::encode(&response, &Shown { now: 9, ..Shown::default() }, &mut out, &mut losses);
    assert_eq!(
        losses.to_string(),
        "dropped:content.citations, dropped:content.server_tool_use, altered:finish_reason, dropped:container"
    );
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out["created"], 9);
    assert_eq!(out["choices"][0]["message"]["content"], "xy");
    assert_eq!(out["choices"][2]["finish_reason"], "content_filter");
    assert_eq!(out.get("cached"), None);
}

#[test]
fn errors_have_openais_shape() {
    let shape = |class, code| ErrorShape {
        class,
        status: class.status(),
        message: "m\"",
        code,
        param: Some("p"),
        request_id: "r",
    };
    let mut out = Vec::new();
    Face.error(&shape(ErrorClass::Authentication, None), &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        r#"{"error":{"message":"m\"","type":"invalid_request_error","param":"p","code":"invalid_api_key","request_id":"r"}}"#
    );
    let kind = |class, code| {
        let mut out = Vec::new();
        Face.error(&shape(class, code), &mut out);
        let out: Value = serde_json::from_slice(&out).unwrap();
        (out["error"]["type"].as_str().unwrap().to_owned(), out["error"]["code"].as_str().map(str::to_owned))
    };
    let pair = |a: &str, b: Option<&str>| (a.to_owned(), b.map(str::to_owned));
    assert_eq!(kind(ErrorClass::RateLimit, None), pair("requests", Some("rate_limit_exceeded")));
    assert_eq!(
        kind(ErrorClass::RateLimit, Some("insufficient_quota")),
        pair("insufficient_quota", Some("insufficient_quota"))
    );
    assert_eq!(
        kind(ErrorClass::NotFound, Some("model_not_found")),
        pair("invalid_request_error", Some("model_not_found"))
    );
    assert_eq!(kind(ErrorClass::Upstream, None), pair("server_error", None));
    let mut out = Vec::new();
    Face.error_event(&shape(ErrorClass::Overloaded, None), &Asked::default(), &mut out);
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("data: {\"error\":{") && out.ends_with("}}\n\n") && !out.contains("[DONE]"), "{out}");
}
