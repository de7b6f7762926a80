//! What is not taken, by the member at fault.

use super::*;

#[track_caller]
fn check(members: &str, path: &str) {
    let body = format!(r#"{{"model":"m","max_tokens":9,{members}}}"#);
    let invalid = Face.decode(body.as_bytes()).unwrap_err();
    assert_eq!(invalid.path, path, "{body}: {}", invalid.message);
}

const HI: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

#[test]
fn whole_requests() {
    for (body, path) in [
        (r#"{"max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#, "model"),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":9}"#, "messages"),
        (r#"{"model":"m","max_tokens":9,"messages":[]}"#, "messages"),
        (r#"{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":1.5,"messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":"9","messages":[{"role":"user","content":"x"}]}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":9,"messages":{}}"#, "messages"),
        ("[]", ""),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
    }
}

#[test]
fn members() {
    for (members, path) in [
        (r#""system":[{"type":"image","source":{"type":"url","url":"u"}}]"#, "system[0].type"),
        (r#""system":[{"type":"text"}]"#, "system[0].text"),
        (r#""tools":[{"name":"","input_schema":{}}]"#, "tools[0].name"),
        (r#""tools":[{"input_schema":{}}]"#, "tools[0].name"),
        (r#""tools":[{"name":"f"}]"#, "tools[0].input_schema"),
        (r#""tools":[{"name":"f","input_schema":[]}]"#, "tools[0].input_schema"),
        (r#""tools":[{"name":5,"input_schema":{}}]"#, "tools[0].name"),
        (r#""tool_choice":{}"#, "tool_choice.type"),
        (r#""tool_choice":{"type":"tool"}"#, "tool_choice.name"),
        (r#""tool_choice":"auto""#, "tool_choice"),
        (r#""thinking":{"type":"enabled"}"#, "thinking.budget_tokens"),
        (r#""thinking":{"budget_tokens":5}"#, "thinking.type"),
        (r#""output_config":{"effort":5}"#, "output_config.effort"),
        (r#""output_config":{"format":{"schema":{}}}"#, "output_config.format.type"),
        (r#""output_config":{"format":{"type":"json_schema"}}"#, "output_config.format.schema"),
        (r#""output_format":{"type":"json_schema","schema":5}"#, "output_format.schema"),
        (r#""stop_sequences":"x""#, "stop_sequences"),
        (r#""metadata":{"user_id":5}"#, "metadata.user_id"),
        (r#""temperature":"hot""#, "temperature"),
    ] {
        check(&format!("{HI},{members}"), path);
    }
}

#[test]
fn messages() {
    for (message, path) in [
        ("5", ""),
        (r#"{"content":"x"}"#, ".role"),
        (r#"{"role":"tool","content":"x"}"#, ".role"),
        (r#"{"role":"user"}"#, ".content"),
        (r#"{"role":"user","content":""}"#, ".content"),
        (r#"{"role":"user","content":[]}"#, ".content"),
        (r#"{"role":"user","content":["x"]}"#, ".content[0]"),
        (r#"{"role":"user","content":[{"text":"x"}]}"#, ".content[0].type"),
        (r#"{"role":"user","content":[{"type":"text","text":5}]}"#, ".content[0].text"),
        (r#"{"role":"user","content":[{"type":"text","text":"x","citations":5}]}"#, ".content[0].citations"),
        (r#"{"role":"user","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]}"#, ".content[0].type"),
        (r#"{"role":"user","content":[{"type":"thinking","thinking":"x","signature":"y"}]}"#, ".content[0].type"),
        (r#"{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"a"}]}"#, ".content[0].type"),
        (r#"{"role":"assistant","content":[{"type":"tool_use","name":"f","input":{}}]}"#, ".content[0].id"),
        (r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"","input":{}}]}"#, ".content[0].name"),
        (r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"}]}"#, ".content[0].input"),
        (
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":"{}"}]}"#,
            ".content[0].input",
        ),
        (r#"{"role":"assistant","content":[{"type":"redacted_thinking"}]}"#, ".content[0].data"),
        (r#"{"role":"user","content":[{"type":"tool_result","content":"x"}]}"#, ".content[0].tool_use_id"),
        (r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}"#, ".content[0].tool_use_id"),
        (r#"{"role":"user","content":[{"type":"image"}]}"#, ".content[0].source"),
    ] {
        check(&format!(r#""messages":[{{"role":"user","content":"hi"}},{message}]"#), &format!("messages[1]{path}"));
    }
}

#[test]
fn media_types() {
    for (block, path) in [
        (r#""image","source":{"type":"base64","media_type":"image/tiff","data":"AA"}"#, "media_type"),
        (r#""image","source":{"type":"base64","data":"AA"}"#, "media_type"),
        (r#""image","source":{"type":"base64","media_type":"image/png"}"#, "data"),
        (r#""image","source":{"type":"url"}"#, "url"),
        (r#""image","source":{"url":"u"}"#, "type"),
        (r#""document","source":{"type":"base64","media_type":"image/png","data":"AA"}"#, "media_type"),
        (r#""document","source":{"type":"text","media_type":"text/html","data":"AA"}"#, "media_type"),
        (r#""document","source":{"type":"file"}"#, "file_id"),
        (r#""document","source":{"type":"content"}"#, "content"),
    ] {
        let content = format!(r#"{{"role":"user","content":[{{"type":{block}}}]}}"#);
        check(&format!(r#""messages":[{content}]"#), &format!("messages[0].content[0].source.{path}"));
    }
}

/// Results answer calls that were made before them, in any earlier message.
#[test]
fn results_without_their_call() {
    let call = |id: &str| {
        format!(r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}]}}"#)
    };
    let result = |id: &str| {
        format!(
            r#"{{"role":"user","content":[{{"type":"text","text":"x"}},{{"type":"tool_result","tool_use_id":"{id}"}}]}}"#
        )
    };
    let messages = [call("a"), call("b"), result("a"), result("b")].join(",");
    let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{messages}]}}"#);
    let roles: Vec<Role> = Face.decode(body.as_bytes()).unwrap().messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::Assistant, Role::Assistant, Role::User, Role::Tool, Role::User, Role::Tool]);
    let messages = [call("a"), result("b"), call("b")].join(",");
    check(&format!(r#""messages":[{messages}]"#), "messages[1].content[1].tool_use_id");
}
