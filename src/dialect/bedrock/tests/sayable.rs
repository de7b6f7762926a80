//! What can be told to whom: what cannot be told at all, by the path in the caller's words, and what one maker's models
//! take and another's do not.

use super::*;

const NOVA: &str = "us.amazon.nova-pro-v1:0";

fn with(member: &str, content: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{content}]}}]{member}}}"#)
}

#[track_caller]
fn unsayable(model: &str, member: &str, content: &str, path: &str) {
    let body = with(member, content);
    let unsayable = encode(&chat().decode(body.as_bytes()).unwrap(), model, &Quirks::default()).unwrap_err();
    assert_eq!(unsayable.path, path, "{body}");
    assert!(unsayable.message.starts_with("Bedrock "), "{}", unsayable.message);
}

#[test]
fn several_candidates_and_odd_names() {
    let text = r#"{"type":"text","text":"x"}"#;
    unsayable(NOVA, r#","n":2"#, text, "n");
    let tools = r#","tools":[{"type":"function","function":{"name":"a.b"}}]"#;
    unsayable(NOVA, tools, text, "tools[0].function.name");
    let long = format!(r#","tools":[{{"type":"function","function":{{"name":"{}"}}}}]"#, "x".repeat(65));
    unsayable(NOVA, &long, text, "tools[0].function.name");
}

#[test]
fn media_without_a_place() {
    let part = "messages[0].content[0]";
    for content in [
        r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/svg+xml;base64,PHN2Zz4="}}"#,
        r#"{"type":"file","file":{"file_id":"file-abc"}}"#,
        r#"{"type":"file","file":{"file_data":"data:application/zip;base64,UEsD"}}"#,
        r#"{"type":"video_url","video_url":{"url":"data:video/ogg;base64,AAAA"}}"#,
    ] {
        unsayable(NOVA, "", content, part);
    }
    for content in [
        r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#,
        r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}}"#,
        r#"{"type":"image_url","image_url":{"url":"s3://bucket/a.png"}}"#,
    ] {
        unsayable(SONNET, "", content, part);
    }
}

#[track_caller]
fn block(model: &str, content: &str, wanted: &str) {
    let body = with("", content);
    let (body, losses) = encode(&chat().decode(body.as_bytes()).unwrap(), model, &Quirks::default()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(wanted).unwrap();
    assert_eq!(body["messages"][0]["content"][0], wanted);
    assert_eq!(losses.to_string(), "");
}

#[test]
fn nova_hears_sees_and_fetches_from_s3() {
    block(
        NOVA,
        r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"mp3"}}"#,
        r#"{"audio":{"format":"mp3","source":{"bytes":"AA=="}}}"#,
    );
    block(
        NOVA,
        r#"{"type":"video_url","video_url":{"url":"data:video/quicktime;base64,AAAA"}}"#,
        r#"{"video":{"format":"mov","source":{"bytes":"AAAA"}}}"#,
    );
    block(
        NOVA,
        r#"{"type":"video_url","video_url":{"url":"s3://bucket/a.webm"}}"#,
        r#"{"video":{"format":"webm","source":{"s3Location":{"uri":"s3://bucket/a.webm"}}}}"#,
    );
}

#[track_caller]
fn choice(model: &str, member: &str, wanted: &str, losses: &str) {
    let tools = r#"[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]"#;
    let body = with(&format!(r#","tools":{tools},"tool_choice":{member}"#), r#"{"type":"text","text":"x"}"#);
    let (body, lost) = encode(&chat().decode(body.as_bytes()).unwrap(), model, &Quirks::default()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let config = &body["toolConfig"];
    let names = config["tools"].as_array().map(|tools| tools.iter().map(|tool| tool["toolSpec"]["name"].to_string()));
    let names = names.map(|names| names.collect::<Vec<_>>().join("+")).unwrap_or_default();
    assert_eq!(format!("{names} {}", config["toolChoice"]), wanted, "{model} {member}");
    assert_eq!(lost.to_string(), losses);
}

#[test]
fn choices_are_made_as_the_model_takes_them() {
    let one = r#"{"type":"function","function":{"name":"b"}}"#;
    let both = r#""a"+"b""#;
    for model in [SONNET, NOVA, "mistral.mistral-large-3-675b-instruct", "us.meta.llama4-maverick"] {
        choice(model, r#""auto""#, &format!("{both} null"), "");
        choice(model, r#""none""#, " null", "");
    }
    choice(SONNET, one, &format!(r#"{both} {{"tool":{{"name":"b"}}}}"#), "");
    choice(NOVA, r#""required""#, &format!(r#"{both} {{"any":{{}}}}"#), "");
    let mistral = "mistral.mistral-large-3-675b-instruct";
    choice(mistral, one, r#""b" {"any":{}}"#, "emulated:tool_choice");
    choice("us.meta.llama4-maverick", one, &format!("{both} null"), "dropped:tool_choice");
    choice("us.meta.llama4-maverick", r#""required""#, &format!("{both} null"), "dropped:tool_choice");
    let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"a"}}]}}"#;
    choice(SONNET, allowed, r#""a" {"any":{}}"#, "altered:tool_choice");
}

/// Calls that are forbidden cannot be left out of a conversation that has some.
#[test]
fn forbidden_tools_stay_where_they_were_called() {
    let body = br#"{"model":"m","tool_choice":"none","tools":[{"type":"function","function":{"name":"a"}}],"messages":[
        {"role":"user","content":"x"},
        {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"a","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"c","content":"y"}]}"#;
    let (body, losses) = encode(&chat().decode(body).unwrap(), SONNET, &Quirks::default()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "a");
    assert_eq!(losses.to_string(), "dropped:tool_choice");
}

#[test]
fn pairs_that_the_log_does_not_take_are_named() {
    let text = r#"{"type":"text","text":"x"}"#;
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(257));
    for (metadata, lost) in [
        (r#"{"a":"b c","d":""}"#, ""),
        (r#"{"a":"b;c"}"#, "dropped:metadata"),
        (r#"{"":"b"}"#, "dropped:metadata"),
        (long.as_str(), "dropped:metadata"),
    ] {
        let body = with(&format!(r#","metadata":{metadata}"#), text);
        let (body, losses) = encode(&chat().decode(body.as_bytes()).unwrap(), NOVA, &Quirks::default()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(losses.to_string(), lost);
        assert_eq!(body["requestMetadata"].is_object(), lost.is_empty());
    }
}
