//! Goldens of this dialect: what a Chat caller's request becomes, what answers and streams mean; and properties that hold
//! for any.

use super::*;
use crate::dialect::tests::golden::{self, Cases, chat, encode};
use crate::dialect::{Abilities, Quirks};
use crate::ir::*;
use crate::wire::json::Text;
use crate::wire::scan::scan;

mod properties;

const CASES: Cases = Cases("ollama");

#[test]
fn requests() {
    let none = Quirks::default();
    for (name, model, golden_name) in [
        ("conversation", "qwen3:4b", "conversation"),
        ("everything", "qwen3:4b", "everything"),
        ("everything", "gpt-oss:20b", "everything-levels"),
        ("own-words", "qwen3:4b", "own-words"),
        ("bare", "llama3.2", "bare"),
    ] {
        let body = CASES.read(&format!("{name}.request.json"));
        CASES.golden(&format!("{golden_name}.request.txt"), &golden::told(&Face, &body, model, &none));
    }
    let quirks = Quirks { refuses: ["think", "top_k", "stop", "tools"].map(str::to_owned).into(), ..Quirks::default() };
    let body = CASES.read("everything.request.json");
    CASES.golden("everything-quirks.request.txt", &golden::told(&Face, &body, "qwen3:4b", &quirks));
}

#[test]
fn tools_are_chosen_by_what_is_given() {
    let tools = r#"[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#;
    let allowed = |mode| {
        format!(
            r#"{{"type":"allowed_tools","allowed_tools":{{"mode":"{mode}","tools":[{{"type":"function","function":{{"name":"f"}}}}]}}}}"#
        )
    };
    for (choice, names, lost) in [
        (r#""auto""#, "fg", ""),
        (r#""none""#, "", "emulated:tool_choice"),
        (r#""required""#, "fg", "dropped:tool_choice"),
        (r#"{"type":"function","function":{"name":"g"}}"#, "g", "altered:tool_choice"),
        (&allowed("auto"), "f", "emulated:tool_choice"),
        (&allowed("required"), "f", "altered:tool_choice"),
    ] {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":{tools},"tool_choice":{choice}}}"#
        );
        let request = chat().decode(body.as_bytes()).unwrap();
        let (body, losses) = encode(&Face, &request, "m", &Quirks::default(), &Abilities::default()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let given = body["tools"].as_array().into_iter().flatten();
        let given: String = given.map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
        assert_eq!((given.as_str(), losses.to_string().as_str()), (names, lost), "{choice}");
    }
}

#[test]
fn thinking_is_switched_and_levels_are_for_those_that_know_them() {
    for (wish, model, think, lost) in [
        (r#""reasoning_effort":"none""#, "qwen3", "false", ""),
        (r#""reasoning_effort":"high""#, "qwen3", "true", "altered:reasoning_effort"),
        (r#""reasoning_effort":"high""#, "gpt-oss:20b", r#""high""#, ""),
        (r#""reasoning_effort":"minimal""#, "gpt-oss:20b", r#""low""#, "altered:reasoning_effort"),
        (r#""reasoning":{"max_tokens":9000}"#, "gpt-oss:20b", r#""high""#, "altered:reasoning"),
        (r#""reasoning":{"max_tokens":0}"#, "qwen3", "false", ""),
        (r#""reasoning":{"enabled":true}"#, "qwen3", "true", ""),
        (r#""reasoning":{"enabled":true,"exclude":true}"#, "gpt-oss:20b", r#""medium""#, "dropped:reasoning.exclude"),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{wish}}}"#);
        let request = chat().decode(body.as_bytes()).unwrap();
        let (body, losses) = encode(&Face, &request, model, &Quirks::default(), &Abilities::default()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((body["think"].to_string().as_str(), losses.to_string().as_str()), (think, lost), "{wish} {model}");
    }
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"high"}"#;
    let abilities = Abilities { reasoning: Some(false), ..Abilities::default() };
    let (out, losses) = encode(&Face, &chat().decode(body).unwrap(), "m", &Quirks::default(), &abilities).unwrap();
    assert_eq!(losses.to_string(), "dropped:reasoning_effort");
    assert_eq!(out, br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":false}"#);
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    for (member, part, path) in [
        (r#","n":2"#, r#"{"type":"text","text":"x"}"#, "n"),
        ("", r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#, "messages[0].content[0]"),
        ("", r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#, "messages[0].content[0]"),
        (
            "",
            r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERi0="}}"#,
            "messages[0].content[0]",
        ),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]{member}}}"#);
        let request = chat().decode(body.as_bytes()).unwrap();
        let unsayable = encode(&Face, &request, "m", &Quirks::default(), &Abilities::default()).unwrap_err();
        assert_eq!(unsayable.path, path, "{body}");
        assert!(unsayable.message.starts_with("Ollama "), "{}", unsayable.message);
    }
}

#[test]
fn answers() {
    for (name, body) in CASES.all(".answer.json") {
        CASES.golden(&format!("{name}.answer.txt"), &format!("{:#?}\n", Face.decode(&body).unwrap()));
        let mut sniffer = Face.sniffer();
        let seen = sniffer.body(&body);
        assert_eq!((seen.usage, seen.end), (Face.decode(&body).unwrap().usage, true), "{name}");
        assert!(seen.content && sniffer.whole(), "{name}");
    }
}

#[test]
fn what_is_no_answer_is_never_taken_for_one() {
    for (body, path) in [
        ("{}", "message"),
        (r#"{"error":"model 'x' not found"}"#, "error"),
        (r#"{"message":{"role":"assistant","content":"ha"},"done":false}"#, "done"),
        (r#"{"message":{"content":5},"done":true}"#, "message.content"),
    ] {
        assert_eq!(Face.decode(body.as_bytes()).unwrap_err().path, path, "{body}");
        let mut sniffer = Face.sniffer();
        assert!(path == "message.content" || sniffer.body(body.as_bytes()).fault.is_some(), "{body}");
    }
    for body in ["<html>", "[]", ""] {
        assert!(Face.decode(body.as_bytes()).is_err() && Face.sniffer().body(body.as_bytes()).fault.is_some());
    }
}

#[test]
fn streams() {
    let streams = CASES.all(".stream.jsonl");
    assert!(streams.len() >= 5, "{} streams", streams.len());
    for (name, bytes) in streams {
        CASES.golden(&format!("{name}.stream.txt"), &golden::events(&Face, &bytes, bytes.len()));
        golden::sniffed_alike(&Face, &name, &bytes);
    }
}

#[test]
fn frames_that_only_carry_content_are_told_from_the_others() {
    let frame = |data| crate::wire::sse::Frame { event: "", data, end: 0, comment: false };
    let mut sniffer = Face.sniffer();
    assert!(!sniffer.frame(&frame(r#"{"message":{"role":"assistant","content":""},"done":false}"#)).content);
    assert!(sniffer.frame(&frame(r#"{"message":{"role":"assistant","content":"a"},"done":false}"#)).content);
    assert!(sniffer.frame(&frame(r#"{"message":{"thinking":"a","content":""},"done":false}"#)).content);
    assert!(!sniffer.whole());
}

#[test]
fn a_conversation_goes_on_through_a_chat_caller() {
    let mut shown = Vec::new();
    let body = CASES.read("calls.answer.json");
    chat().encode(&Face.decode(&body).unwrap(), &Default::default(), &mut shown, &mut Losses::default());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let message = shown["choices"][0]["message"].clone();
    let mut messages = vec![serde_json::json!({"role": "user", "content": "q"}), message.clone()];
    for call in message["tool_calls"].as_array().unwrap() {
        messages.push(serde_json::json!({"role": "tool", "tool_call_id": call["id"], "content": "done"}));
    }
    let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
    let request = chat().decode(body.as_bytes()).unwrap();
    let (out, losses) = encode(&Face, &request, "qwen3", &Quirks::default(), &Abilities::default()).unwrap();
    assert!(losses.is_empty(), "{losses}");
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&CASES.read("calls.answer.json")).unwrap();
    assert_eq!(out["messages"][1]["thinking"], answer["message"]["thinking"]);
    for at in 0..2 {
        let (went, came) = (&out["messages"][1]["tool_calls"][at], &answer["message"]["tool_calls"][at]);
        assert_eq!(went["function"]["arguments"], came["function"]["arguments"]);
        assert_eq!(out["messages"][2 + at]["tool_name"], came["function"]["name"]);
    }
}

#[test]
fn the_stream_flag_is_spliced_in_so_many_words() {
    let splice = |body: &str, stream| {
        let quirks = Quirks { refuses: vec!["keep_alive".into()], ..Quirks::default() };
        let to = To { model: "qwen3", stream, quirks: &quirks, abilities: &Abilities::default() };
        let members = scan(body.as_bytes(), 64).unwrap();
        let mut patch = Patch::default();
        Face.splice(body.as_bytes(), &members, &to, &mut patch);
        String::from_utf8(patch.apply(body.as_bytes())).unwrap()
    };
    let body = r#"{ "model" : "alias", "messages":[ ], "tags" : {},"keep_alive": 5}"#;
    assert_eq!(splice(body, false), r#"{ "model" : "qwen3", "messages":[ ],"stream":false}"#);
    assert_eq!(splice(r#"{"stream":true}"#, true), r#"{"stream":true,"model":"qwen3"}"#);
    assert_eq!(splice(r#"{"stream":null,"model":"qwen3"}"#, false), r#"{"stream":false,"model":"qwen3"}"#);
}
