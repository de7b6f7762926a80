//! Requests: read, written, spliced and refused.

use super::*;

#[test]
fn a_request_of_this_dialect_is_read_and_written_whole() {
    let body = input("everything.request.json");
    let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
    let (own, losses) = encode(&request, "gpt-5", &Quirks::default()).unwrap();
    assert_eq!(losses, "");
    let again = Inbound::decode(&Face, &own).unwrap();
    let renamed = Request { model: request.model.clone(), ..again };
    assert_eq!(format!("{renamed:#?}"), format!("{request:#?}"));
    golden("everything.request.golden", &format!("{request:#?}\n\nown:\n{}", pretty(&own)));
}

#[test]
fn it_goes_to_others_with_its_losses_named() {
    let body = input("everything.request.json");
    let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: "target", stream: true, quirks: &quirks, abilities: &abilities };
    let mut out = Vec::new();
    let mut losses = Losses::default();
    chat().outbound.unwrap().encode(&request, &to, &mut out, &mut losses).unwrap();
    golden("everything.chat.golden", &format!("losses: {losses}\n{}", pretty(&out)));
}

#[test]
fn a_chat_request_becomes_one_of_items() {
    let body = input("chat.request.json");
    let request = chat().inbound.unwrap().decode(body.as_bytes()).unwrap();
    let (out, losses) = encode(&request, "gpt-5", &Quirks::default()).unwrap();
    golden("chat.request.golden", &format!("losses: {losses}\n{}", pretty(&out)));
    let quirks = Quirks {
        rename: [("max_output_tokens".to_owned(), "max_tokens".to_owned())].into(),
        refuses: ["store", "include", "text", "user"].map(str::to_owned).into(),
        no_developer_role: true,
        no_json_schema: true,
        reasoning: crate::dialect::ReasoningStyle::Object,
        ..Quirks::default()
    };
    let (out, losses) = encode(&request, "vendor/gpt-4o", &quirks).unwrap();
    golden("chat.quirks.golden", &format!("losses: {losses}\n{}", pretty(&out)));
}

#[test]
fn what_cannot_be_said_is_refused() {
    let said = |member: &str, messages: &str| {
        let body = format!(r#"{{"model":"m","messages":[{messages}]{member}}}"#);
        let request = chat().inbound.unwrap().decode(body.as_bytes()).unwrap();
        encode(&request, "gpt-5", &Quirks::default()).unwrap_err().path
    };
    assert_eq!(said(r#","n":2"#, r#"{"role":"user","content":"x"}"#), "n");
    let video = r#"{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://x"}}]}"#;
    assert_eq!(said("", video), "messages[0].content[0]");
}

#[test]
fn models_that_do_not_think_are_not_asked_for_their_thoughts() {
    let body = br#"{"model":"m","input":"x","reasoning":{"effort":"none"}}"#;
    let request = Inbound::decode(&Face, body).unwrap();
    let asked = |model: &str, reasoning| {
        let abilities = Abilities { reasoning, ..Abilities::default() };
        let to = To { model, stream: false, quirks: &Quirks::default(), abilities: &abilities };
        let (mut out, mut losses) = (Vec::new(), Losses::default());
        Outbound::encode(&Face, &request, &to, &mut out, &mut losses).unwrap();
        assert!(losses.is_empty(), "{losses}");
        let out: Value = serde_json::from_slice(&out).unwrap();
        (!out["include"].is_null(), !out["reasoning"].is_null())
    };
    assert_eq!(asked("gpt-5", None), (true, true));
    assert_eq!(asked("openai/gpt-4o-mini", None), (false, true));
    assert_eq!(asked("gpt-4o", Some(true)), (true, true));
    assert_eq!(asked("o3", Some(false)), (false, false));
}

#[test]
fn bad_requests_name_the_member() {
    for (body, path) in [
        (r#"{"input":"x"}"#, "model"),
        (r#"{"model":"m"}"#, "input"),
        (r#"{"model":"m","input":[]}"#, "input"),
        (r#"{"model":"m","input":5}"#, "input"),
        (r#"{"model":"m","input":["x"]}"#, "input[0]"),
        (r#"{"model":"m","input":[{"content":"x"}]}"#, "input[0].type"),
        (r#"{"model":"m","input":[{"type":5}]}"#, "input[0].type"),
        (r#"{"model":"m","input":[{"role":"robot","content":"x"}]}"#, "input[0].role"),
        (r#"{"model":"m","input":[{"role":"user"}]}"#, "input[0].content"),
        (r#"{"model":"m","input":[{"role":"user","content":[{"text":"x"}]}]}"#, "input[0].content[0].type"),
        (r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text"}]}]}"#, "input[0].content[0].text"),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image"}]}]}"#,
            "input[0].content[0].image_url",
        ),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_file"}]}]}"#,
            "input[0].content[0].file_data",
        ),
        (r#"{"model":"m","input":[{"type":"function_call","name":"f","arguments":"{}"}]}"#, "input[0].call_id"),
        (
            r#"{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f","arguments":{}}]}"#,
            "input[0].arguments",
        ),
        (r#"{"model":"m","input":[{"type":"function_call_output","call_id":"c"}]}"#, "input[0].output"),
        (
            r#"{"model":"m","input":[{"type":"function_call_output","call_id":"c","output":[{"type":"input_text"}]}]}"#,
            "input[0].output[0].text",
        ),
        (r#"{"model":"m","input":["x",{"type":"item_reference","id":"msg_1"}]}"#, "input[0]"),
        (r#"{"model":"m","input":[{"id":"msg_1"}]}"#, "input[0]"),
        (
            r#"{"model":"m","input":[{"type":"reasoning","summary":[],"encrypted_content":"portolan:1:9,-,-,-:x"}]}"#,
            "input[0].encrypted_content",
        ),
        (r#"{"model":"m","input":"x","background":true}"#, "background"),
        (r#"{"model":"m","input":"x","max_output_tokens":0}"#, "max_output_tokens"),
        (r#"{"model":"m","input":"x","metadata":[]}"#, "metadata"),
        (r#"{"model":"m","input":"x","tools":[{}]}"#, "tools[0].type"),
        (r#"{"model":"m","input":"x","tools":[{"type":"function"}]}"#, "tools[0].name"),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":[]}]}"#,
            "tools[0].parameters",
        ),
        (r#"{"model":"m","input":"x","tool_choice":"some"}"#, "tool_choice"),
        (r#"{"model":"m","input":"x","tool_choice":{"type":"function"}}"#, "tool_choice.name"),
        (r#"{"model":"m","input":"x","text":{"format":{"type":"json_schema","name":"n"}}}"#, "text.format.schema"),
        (r#"{"model":"m","input":"x","text":{"format":{"type":"json_schema","schema":{}}}}"#, "text.format.name"),
        (r#"{"model":"m","input":"x","reasoning":{"effort":5}}"#, "reasoning.effort"),
        (r#"{"model":"m","input":"x","temperature":"hot"}"#, "temperature"),
    ] {
        assert_eq!(Inbound::decode(&Face, body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    let reference = br#"{"model":"m","input":[{"type":"item_reference","id":"x"}]}"#;
    assert!(Inbound::decode(&Face, reference).unwrap_err().message.contains("previous_response_id"));
}

#[test]
fn a_stored_prompt_may_bring_model_and_input() {
    let request = Inbound::decode(&Face, br#"{"prompt":{"id":"pmpt_1"}}"#).unwrap();
    assert_eq!(request.extras.get("prompt").unwrap().get(), r#"{"id":"pmpt_1"}"#);
}

/// What a model did in one go is one message, so that calls and their results stand as other dialects want them.
#[test]
fn items_make_messages() {
    let said = |items: &str| {
        let body = format!(r#"{{"model":"m","input":[{items}]}}"#);
        let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
        let kind = |block: &Block<'_>| match block.content {
            Content::Text { .. } => 't',
            Content::Reasoning(_) => 'r',
            Content::ToolCall(_) => 'c',
            Content::ToolResult(_) => 'o',
            _ => '?',
        };
        let role = |role| format!("{role:?}").to_lowercase();
        let messages = request.messages.iter();
        let message = |m: &Message<'_>| format!("{}:{}", role(m.role), m.blocks.iter().map(kind).collect::<String>());
        messages.map(message).collect::<Vec<_>>().join(" ")
    };
    let r = r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"x"}]}"#;
    let t = r#"{"role":"assistant","content":"x"}"#;
    let c = r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#;
    let o = r#"{"type":"function_call_output","call_id":"c","output":"x"}"#;
    let u = r#"{"role":"user","content":"x"}"#;
    assert_eq!(said(&[u, r, t, c, c, o, o, r, t].join(",")), "user:t assistant:rtcc tool:o tool:o assistant:rt");
    assert_eq!(said(&[t, t, r, t, c, t].join(",")), "assistant:t assistant:t assistant:rtct");
}

#[test]
fn controls_quirks_and_foreign_thoughts_are_spliced() {
    let spliced = |body: &str, quirks: &Quirks| {
        let members = scan(body.as_bytes(), 64).unwrap();
        let mut patch = Patch::default();
        let to = To { model: "gpt-5", stream: true, quirks, abilities: &Abilities::default() };
        Face.splice(body.as_bytes(), &members, &to, &mut patch);
        let out = String::from_utf8(patch.apply(body.as_bytes())).unwrap();
        scan(out.as_bytes(), 64).expect("what is spliced is JSON");
        out
    };
    let plain = Quirks::default();
    let body =
        r#"{ "x":1.10,"model" : "alias","input":[ {"role":"developer","content":"reasoning"} ], "x":2 ,"tags":{}}"#;
    assert_eq!(spliced(body, &plain), body.replace("alias", "gpt-5").replace(r#" ,"tags":{}"#, ""));
    let quirks = Quirks {
        refuses: vec!["store".into()],
        rename: [("max_output_tokens".to_owned(), "max_tokens".to_owned())].into(),
        no_developer_role: true,
        no_stream_options: true,
        ..Quirks::default()
    };
    let body = r#"{"model":"gpt-5","store":true,"input":[{"role" : "developer","content":"\"developer\""},{"role":"user"}],"max_output_tokens":9,"stream_options":{}}"#;
    let wanted =
        r#"{"model":"gpt-5","input":[{"role" : "system","content":"\"developer\""},{"role":"user"}],"max_tokens":9}"#;
    assert_eq!(spliced(body, &quirks), wanted);

    let ours = r#"{"type":"reasoning","id":"rs_x","encrypted_content":"portolan:1:-,1,-,-:s","summary":[]}"#;
    let made = format!(r#"{{"type":"reasoning","id":"rs_{ID}_0","summary":[{{"type":"summary_text","text":"x"}}]}}"#);
    let theirs = r#"{"type":"reasoning","id":"rs_1","encrypted_content":"gAAA","summary":[]}"#;
    let user = r#"{"role":"user","content":"portolan:1:"}"#;
    let list = |items: &[&str]| format!(r#"{{"model":"gpt-5","input":[ {} ]}}"#, items.join(" , "));
    for (items, kept) in [
        (vec![ours, user], vec![user]),
        (vec![user, ours], vec![user]),
        (vec![&*made, ours, theirs, ours, &*made, user, ours], vec![theirs, user]),
        (vec![user, &*made, user, theirs], vec![user, user, theirs]),
        (vec![ours, &*made], vec![]),
        (vec![theirs], vec![theirs]),
    ] {
        let wanted: Value = serde_json::from_str(&list(&kept)).unwrap();
        let got: Value = serde_json::from_str(&spliced(&list(&items), &plain)).unwrap();
        assert_eq!(got, wanted, "{items:?}");
    }
}

/// Turns an answer of a provider into what a caller of this dialect sends back, and that into a request for it.
fn second_turn(provider: &str, answer: &str, results: &[(&str, &str)]) -> (Value, String) {
    let dialect = crate::dialect::named(provider).unwrap().outbound.unwrap();
    let response = dialect.decode(answer.as_bytes()).unwrap();
    let (shown, _) = show(&response, b"{}");
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let mut input = vec![json!({"role": "user", "content": "Go."})];
    input.extend(shown["output"].as_array().unwrap().iter().cloned());
    for (id, output) in results {
        input.push(json!({"type": "function_call_output", "call_id": id, "output": output}));
    }
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]);
    let body = json!({"model": "m", "input": input, "tools": tools, "reasoning": {"effort": "low"}}).to_string();
    let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
    let model = if provider == "anthropic" { "claude-sonnet-4-5" } else { "gemini-3-pro" };
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model, stream: false, quirks: &quirks, abilities: &abilities };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    dialect.encode(&request, &to, &mut out, &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses.to_string())
}

#[test]
fn anthropics_thoughts_come_back_byte_for_byte() {
    let content = json!([
        {"type": "thinking", "thinking": "Hm: 1,2", "signature": "c2ln/+=="},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1.5}},
    ]);
    let answer = json!({"id": "msg_1", "model": "c", "type": "message", "content": content, "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1}})
    .to_string();
    let (body, losses) = second_turn("anthropic", &answer, &[("toolu_1", "done")]);
    assert_eq!(body["messages"][1]["content"], content);
    assert_eq!(losses, "");
}

#[test]
fn geminis_signatures_come_back_on_their_calls() {
    let parts = json!([
        {"text": "Thinking.", "thought": true},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "f", "args": {"a": 2}}},
    ]);
    let answer = json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]});
    let ids = [format!("call_{ID}_1"), format!("call_{ID}_3")];
    let (body, _) = second_turn("gemini", &answer.to_string(), &[(&ids[0], "one"), (&ids[1], "two")]);
    let calls: Vec<&Value> = body["contents"][1]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|part| part["functionCall"].is_object())
        .collect();
    assert_eq!((calls.len(), &calls[0]["thoughtSignature"]), (2, &json!("c2ln")), "{body:#}");
    assert!(calls[1]["thoughtSignature"].is_null(), "{body:#}");
}

#[test]
fn openais_own_thoughts_pass_as_they_are() {
    let reasoning = json!({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}], "encrypted_content": "gAAA"});
    let answer =
        json!({"id": "resp_1", "object": "response", "model": "m", "status": "completed", "output": [reasoning]});
    let response = answer.to_string();
    let response = Outbound::decode(&Face, response.as_bytes()).unwrap();
    let (shown, losses) = show(&response, b"{}");
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!((&shown["output"][0], losses.as_str()), (&reasoning, ""));
    let body = json!({"model": "m", "input": shown["output"]}).to_string();
    let request = Inbound::decode(&Face, body.as_bytes()).unwrap();
    let foreign = Request { origin: Origin("other"), ..request };
    let (out, losses) = encode(&foreign, "gpt-5", &Quirks::default()).unwrap();
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&out["input"][0], losses.as_str()), (&reasoning, ""));
}
