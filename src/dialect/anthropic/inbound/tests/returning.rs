//! Proofs come back to their issuer byte for byte, through callers that return blocks of thoughts.

use super::*;

/// The next turn of a caller that sends back what it got, with a result for each call.
fn next(answer: &Value) -> String {
    let calls = answer["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
    let results: Vec<Value> =
        calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "done"})).collect();
    let messages = json!([
        {"role": "user", "content": "Paint."},
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": results},
    ]);
    json!({"model": "m", "max_tokens": 9, "messages": messages}).to_string()
}

/// Whether a body may go to Anthropic as it is.
fn passes(body: &str) -> bool {
    let members = crate::wire::scan::scan(body.as_bytes(), 64).unwrap();
    let to = To { model: "m", stream: false, quirks: &Quirks::default(), abilities: &Abilities::default() };
    Provider.fits(body.as_bytes(), &members, &to)
}

#[test]
fn geminis_signatures_stand_on_their_parts_again() {
    let answer = gather(&relay("gemini", &input("gemini.stream.sse"), 1 << 20).0);
    assert_eq!(answer["stop_reason"], "tool_use");
    let body = next(&answer);
    assert!(!passes(&body));
    let request = Face.decode(body.as_bytes()).unwrap();
    let (body, losses) = asked_of("gemini", &request, "gemini-3-pro");
    assert!(losses.is_empty(), "{losses}");
    let parts = body["contents"][1]["parts"].as_array().unwrap();
    assert_eq!(parts[0], json!({"text": "Let me see.", "thought": true}));
    assert_eq!(
        (&parts[1]["functionCall"]["name"], &parts[1]["thoughtSignature"]),
        (&"paint".into(), &"CpQB+/==".into())
    );
    assert_eq!((&parts[2]["functionCall"]["name"], parts[2].get("thoughtSignature")), (&"now".into(), None));
    assert_eq!(parts[3], json!({"text": "", "thoughtSignature": "Cend=="}));
}

#[test]
fn whole_answers_return_as_streams_do() {
    let body = input("details.answer.json");
    let response = provider("openai_chat").decode(body.as_bytes()).unwrap();
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    Face.encode(&response, &shown(&[]), &mut out, &mut losses);
    let body = next(&serde_json::from_slice(&out).unwrap());
    let request = Face.decode(body.as_bytes()).unwrap();
    let thoughts = |blocks: &[Block<'_>]| -> Vec<String> {
        let thoughts = blocks.iter().filter(|block| matches!(block.content, Content::Reasoning(_)));
        thoughts.map(|block| format!("{:?}", block.content)).collect()
    };
    assert_eq!(thoughts(&request.messages[1].blocks), thoughts(&response.candidates[0].blocks));
}

/// What others issued does not go to Anthropic, which would refuse it; all else does, and what was left out is named.
#[test]
fn anthropic_is_not_sent_what_others_issued() {
    let answer = gather(&relay("gemini", &input("gemini.stream.sse"), 1 << 20).0);
    let body = next(&answer);
    let request = Face.decode(body.as_bytes()).unwrap();
    let (sent, losses) = asked_of("anthropic", &request, "claude-opus-4-8");
    assert_eq!(losses.to_string(), "dropped:messages[1].reasoning, dropped:messages[1].tool_calls[0].signature");
    assert!(passes(&sent.to_string()));
    let kinds: Vec<&str> = sent["messages"][1]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["tool_use", "tool_use"]);
    let plain = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "portolan: a map"}]});
    assert!(passes(&plain.to_string().replace("\"portolan", "\"a portolan")));
}

/// A signature that came after its call had begun, and one for a call that the caller took out.
#[test]
fn late_and_orphaned_signatures() {
    let start = |extras| Event::Start {
        id: "a".into(),
        model: "m".into(),
        created: None,
        service_tier: None,
        fingerprint: None,
        extras,
    };
    let call = ToolCall { id: "c1".into(), name: "f".into(), ..ToolCall::default() };
    let events = [
        start(Extras::default()),
        Event::Open { candidate: 0, block: 0, content: Content::ToolCall(call) },
        Event::Delta { candidate: 0, block: 0, delta: Delta::Signature("late==".into()) },
        Event::Close { candidate: 0, block: 0 },
        Event::End,
    ];
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let mut encoder = stream::Encoder::default();
    for event in &events {
        encoder.event(event, &shown(&[]), &mut out, &mut losses);
    }
    let mut answer = gather(std::str::from_utf8(&out).unwrap());
    let body = next(&answer);
    let request = Face.decode(body.as_bytes()).unwrap();
    let [Block { content: Content::ToolCall(call), .. }] = &request.messages[1].blocks[..] else {
        panic!("{request:?}")
    };
    assert_eq!(call.signature.as_deref(), Some("late=="));
    answer["content"].as_array_mut().unwrap().remove(0);
    let body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": answer["content"]}]});
    let body = body.to_string();
    assert!(Face.decode(body.as_bytes()).unwrap().messages[0].blocks.is_empty());
}
