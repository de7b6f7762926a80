//! What cannot be told at all, by the path in the caller's words.

use super::*;

#[track_caller]
fn check(member: &str, content: &str, path: &str) {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{content}]}}]{member}}}"#);
    let request = chat().decode(body.as_bytes()).unwrap();
    let unsayable = encode(&request, "claude-sonnet-4-5", &Quirks::default()).unwrap_err();
    assert_eq!(unsayable.path, path, "{body}");
    assert!(unsayable.message.starts_with("Anthropic "), "{}", unsayable.message);
}

#[test]
fn several_candidates_and_odd_names() {
    let text = r#"{"type":"text","text":"x"}"#;
    check(r#","n":2"#, text, "n");
    let tools = r#","tools":[{"type":"function","function":{"name":"a.b"}}]"#;
    check(tools, text, "tools[0].function.name");
}

#[test]
fn media_without_a_place() {
    let part = "messages[0].content[0]";
    check("", r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#, part);
    check("", r#"{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}"#, part);
    check("", r#"{"type":"file","file":{"file_id":"file-abc"}}"#, part);
    check("", r#"{"type":"file","file":{"file_data":"data:application/msword;base64,0M8R"}}"#, part);
    check("", r#"{"type":"file","file":{"file_data":"data:text/plain;base64,/w=="}}"#, part);
    check("", r#"{"type":"image_url","image_url":{"url":"data:image/svg+xml;base64,PHN2Zz4="}}"#, part);
    check("", r#"{"type":"image_url","image_url":{"url":"gs://bucket/a.png"}}"#, part);
}
