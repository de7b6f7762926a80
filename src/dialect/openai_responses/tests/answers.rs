//! Whole answers: read, and shown to callers.

use super::*;

const ASKED: &[u8] = br#"{"model":"alias","input":"x","instructions":"Be brief.","metadata":{"k":"v"},"temperature":0.70,
    "tools":[{"type":"function","name":"f"}],"reasoning":{"effort":"high"},"text":{"verbosity":"low"},"user":null,"store":false}"#;

#[test]
fn an_answer_is_read_and_shown() {
    let body = input("full.answer.json");
    let response = Outbound::decode(&Face, body.as_bytes()).unwrap();
    let (out, losses) = show(&response, ASKED);
    let foreign = Response { origin: Origin("other"), ..response.clone() };
    let (_, foreign_losses) = show(&foreign, ASKED);
    golden(
        "full.answer.golden",
        &format!("{response:#?}\n\nlosses: {losses}\nshown:\n{}\nas another's: {foreign_losses}\n", pretty(&out)),
    );
    let again = Outbound::decode(&Face, &out).unwrap();
    assert_eq!(format!("{:#?}", again.candidates), format!("{:#?}", response.candidates));
    let wanted = Usage { searches: 1, ..again.usage.unwrap() };
    assert_eq!(Some(wanted), response.usage);
}

#[test]
fn a_chat_answer_is_shown() {
    let body = json!({"id": "c", "object": "chat.completion", "created": 5, "model": "other", "choices": [{"index": 0,
        "finish_reason": "length", "logprobs": {"content": [{"token": "a", "logprob": -1.5, "bytes": null, "top_logprobs": []}]},
        "message": {"role": "assistant", "reasoning_content": "Hm.", "content": "a",
            "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.org", "start_index": 0}}, {"type": "odd"}]}},
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "b"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    .to_string();
    let response = chat().outbound.unwrap().decode(body.as_bytes()).unwrap();
    let (out, losses) = show(&response, b"{}");
    golden("chat.answer.golden", &format!("losses: {losses}\n{}", pretty(&out)));
}

#[test]
fn why_it_stopped() {
    for (status, incomplete, reason, shown) in [
        ("completed", "null", FinishReason::Stop, "completed"),
        ("incomplete", r#"{"reason":"max_output_tokens"}"#, FinishReason::Length, "incomplete"),
        ("incomplete", r#"{"reason":"content_filter"}"#, FinishReason::ContentFilter, "incomplete"),
        ("incomplete", r#"{"reason":"tomorrow"}"#, FinishReason::Other, "completed"),
        ("queued", "null", FinishReason::Other, "completed"),
        ("cancelled", "null", FinishReason::Error, "completed"),
    ] {
        let body =
            format!(r#"{{"object":"response","status":"{status}","incomplete_details":{incomplete},"output":[]}}"#);
        let response = Outbound::decode(&Face, body.as_bytes()).unwrap();
        let finish = response.candidates[0].finish.clone().unwrap();
        assert_eq!(finish.reason, reason, "{body}");
        let (out, losses) = show(&response, b"{}");
        let out: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(out["status"], shown);
        let known = matches!(reason, FinishReason::Other | FinishReason::Error);
        assert_eq!(losses, if known { "altered:status" } else { "" });
    }
}

#[test]
fn bad_answers_name_the_place() {
    for (body, path) in [
        ("{}", "output"),
        (r#"{"output":5}"#, "output"),
        (r#"{"output":[],"error":{"message":"m"}}"#, "error"),
        (r#"{"output":[],"id":5}"#, "id"),
    ] {
        assert_eq!(Outbound::decode(&Face, body.as_bytes()).unwrap_err().path, path, "{body}");
    }
    assert!(Outbound::decode(&Face, b"<html>").is_err());
    let odd = br#"{"output":[5,{"type":"message"},{"type":"function_call","arguments":{}}]}"#;
    let response = Outbound::decode(&Face, odd).unwrap();
    assert_eq!(response.candidates[0].blocks.len(), 3, "odd items are kept");
}

#[test]
fn whole_answers_are_sniffed() {
    let body = input("full.answer.json");
    let mut sniffer = Face.sniffer();
    let seen = sniffer.body(body.as_bytes());
    assert_eq!(seen.usage, Outbound::decode(&Face, body.as_bytes()).unwrap().usage);
    assert!(seen.usage.is_some() && seen.content && seen.end && sniffer.whole());
    for (body, kind) in [
        (r#"{"output":[],"error":{"code":"rate_limit_exceeded","message":"m"}}"#, FaultKind::RateLimited),
        ("{}", FaultKind::Garbage),
        ("<html>", FaultKind::Garbage),
        (r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, FaultKind::BadRequest),
    ] {
        let mut sniffer = Face.sniffer();
        assert_eq!(sniffer.body(body.as_bytes()).fault.unwrap().kind, kind, "{body}");
        assert!(!sniffer.whole());
    }
}
