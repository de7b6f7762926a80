//! What callers are told when something is wrong.

use super::*;
use crate::dialect::ErrorClass;

#[test]
fn each_mistake_names_its_member() {
    let turn = |parts: &str| format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}},{parts}]}}"#);
    let user = |part: &str| turn(&format!(r#"{{"role":"user","parts":[{part}]}}"#));
    let model = |part: &str| turn(&format!(r#"{{"role":"model","parts":[{part}]}}"#));
    let with = |member: &str| format!(r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],{member}}}"#);
    let config = |member: &str| with(&format!(r#""generationConfig":{{{member}}}"#));
    let call = r#"{"functionCall":{"name":"f","id":"a"}}"#;
    let answered =
        |part: &str| turn(&format!(r#"{{"role":"model","parts":[{call}]}},{{"role":"user","parts":[{part}]}}"#));
    for (body, path) in [
        ("{}".to_owned(), "contents"),
        (r#"{"contents":[]}"#.to_owned(), "contents"),
        (r#"{"contents":"x"}"#.to_owned(), "contents"),
        (turn(r#"{"role":"user","parts":[]}"#), "contents[1].parts"),
        (turn(r#"{"role":"user"}"#), "contents[1].parts"),
        (turn(r#"{"role":"assistant","parts":[{"text":"x"}]}"#), "contents[1].role"),
        (turn(r#"{"role":"system","parts":[{"text":"x"}]}"#), "contents[1].role"),
        (user("{}"), "contents[1].parts[0].data"),
        (user(r#"{"thought":true}"#), "contents[1].parts[0].data"),
        (user(r#"{"text":"x","inlineData":{"data":"AA=="}}"#), "contents[1].parts[0].data"),
        (user(r#"{"text":"x","functionResponse":{"name":"f"}}"#), "contents[1].parts[0].data"),
        (user(r#"{"text":5}"#), "contents[1].parts[0].text"),
        (user(r#"{"inlineData":{"mimeType":"image/png"}}"#), "contents[1].parts[0].inlineData.data"),
        (user(r#"{"file_data":{"mimeType":"image/png"}}"#), "contents[1].parts[0].fileData.fileUri"),
        (user(call), "contents[1].parts[0].functionCall"),
        (model(r#"{"functionCall":{}}"#), "contents[1].parts[0].functionCall.name"),
        (model(r#"{"functionCall":{"name":"f","args":[]}}"#), "contents[1].parts[0].functionCall.args"),
        (user(r#"{"functionResponse":{"name":"f","response":{}}}"#), "contents[1].parts[0].functionResponse"),
        (user(r#"{"function_response":{"response":{}}}"#), "contents[1].parts[0].function_response.name"),
        (user(r#"{"functionResponse":{"name":"f","response":"x"}}"#), "contents[1].parts[0].functionResponse.response"),
        (
            answered(r#"{"functionResponse":{"name":"f","id":"b","response":{}}}"#),
            "contents[2].parts[0].functionResponse",
        ),
        (answered(r#"{"functionResponse":{"name":"g","response":{}}}"#), "contents[2].parts[0].functionResponse"),
        (
            answered(
                r#"{"functionResponse":{"name":"f","response":{}}},{"functionResponse":{"name":"f","id":"a","response":{}}}"#,
            ),
            "contents[2].parts[1].functionResponse.id",
        ),
        (with(r#""systemInstruction":{"parts":[{}]}"#), "systemInstruction.parts[0].data"),
        (with(r#""systemInstruction":5"#), "systemInstruction"),
        (with(r#""tools":"x""#), "tools"),
        (with(r#""tools":[5]"#), "tools[0]"),
        (with(r#""tools":[{"functionDeclarations":[{}]}]"#), "tools[0].functionDeclarations[0].name"),
        (
            with(r#""tools":[{"functionDeclarations":[{"name":"f","parameters":[]}]}]"#),
            "tools[0].functionDeclarations[0].parameters",
        ),
        (with(r#""toolConfig":{"functionCallingConfig":{"mode":"SOME"}}"#), "toolConfig.functionCallingConfig.mode"),
        (
            with(r#""toolConfig":{"functionCallingConfig":{"allowedFunctionNames":[1]}}"#),
            "toolConfig.functionCallingConfig.allowedFunctionNames[0]",
        ),
        (config(r#""temperature":"hot""#), "generationConfig.temperature"),
        (config(r#""maxOutputTokens":0"#), "generationConfig.maxOutputTokens"),
        (config(r#""maxOutputTokens":1.5"#), "generationConfig.maxOutputTokens"),
        (config(r#""candidateCount":-1"#), "generationConfig.candidateCount"),
        (config(r#""stopSequences":"x""#), "generationConfig.stopSequences"),
        (config(r#""responseSchema":"x","responseMimeType":"application/json""#), "generationConfig.responseSchema"),
        (config(r#""thinkingConfig":{"thinkingLevel":"vast"}"#), "generationConfig.thinkingConfig.thinkingLevel"),
        (config(r#""thinkingConfig":{"thinkingBudget":-2}"#), "generationConfig.thinkingConfig.thinkingBudget"),
    ] {
        match IN.decode(body.as_bytes()) {
            Err(invalid) => assert_eq!(invalid.path, path, "{body}: {invalid}"),
            Ok(_) => panic!("taken: {body}"),
        }
    }
    // With a part of the conversation elsewhere, nobody knows what was called.
    let cached = r#"{"cachedContent":"cachedContents/x","contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#;
    assert!(IN.decode(cached.as_bytes()).is_ok());
}

#[test]
fn errors_have_googles_shape() {
    let classes = [
        (ErrorClass::InvalidRequest, "INVALID_ARGUMENT", FaultKind::BadRequest),
        (ErrorClass::Authentication, "UNAUTHENTICATED", FaultKind::Authentication),
        (ErrorClass::Permission, "PERMISSION_DENIED", FaultKind::Permission),
        (ErrorClass::NotFound, "NOT_FOUND", FaultKind::NotFound),
        (ErrorClass::TooLarge, "INVALID_ARGUMENT", FaultKind::TooLarge),
        (ErrorClass::RateLimit, "RESOURCE_EXHAUSTED", FaultKind::RateLimited),
        (ErrorClass::Internal, "INTERNAL", FaultKind::Server),
        (ErrorClass::Overloaded, "UNAVAILABLE", FaultKind::Overloaded),
        (ErrorClass::Timeout, "DEADLINE_EXCEEDED", FaultKind::Timeout),
    ];
    for (class, status, kind) in classes {
        let error =
            ErrorShape { class, status: class.status(), message: "m", code: None, param: None, request_id: "r" };
        let mut out = Vec::new();
        IN.error(&error, &mut out);
        let body: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(body["error"]["status"], status);
        assert_eq!(body["error"]["code"], class.status());
        let fault = OUT.fault(class.status(), &out);
        assert_eq!((fault.kind, fault.code.as_deref()), (kind, Some(status)));
    }
    let error = ErrorShape {
        class: ErrorClass::InvalidRequest,
        status: ErrorClass::InvalidRequest.status(),
        message: "too \"long\"",
        code: Some("context_length_exceeded"),
        param: Some("contents"),
        request_id: "req_1",
    };
    let mut out = Vec::new();
    IN.error(&error, &mut out);
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        r#"{"error":{"code":400,"message":"too \"long\"","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CONTEXT_LENGTH_EXCEEDED","domain":"portolan"},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"contents","description":"too \"long\""}]},{"@type":"type.googleapis.com/google.rpc.RequestInfo","requestId":"req_1"}]}}"#
    );
    let fault = OUT.fault(400, &out);
    assert_eq!((fault.kind, fault.param.as_deref()), (FaultKind::ContextLength, Some("contents")));
}

#[test]
fn errors_in_streams() {
    let error = ErrorShape {
        class: ErrorClass::Overloaded,
        status: ErrorClass::Overloaded.status(),
        message: "busy",
        code: None,
        param: None,
        request_id: "r",
    };
    let text = |array: bool| Event::Open {
        candidate: u32::from(array),
        block: 0,
        content: Content::Text { text: "x".into(), citations: Vec::new() },
    };
    for array in [false, true] {
        let asked = Asked { array, ..Asked::default() };
        let shown = Shown { asked, ..Shown::default() };
        let (mut written, mut event, mut first) = (Vec::new(), Vec::new(), Vec::new());
        let mut encoder = IN.stream(&asked);
        encoder.event(&text(array), &shown, &mut written, &mut Losses::default());
        let start = written.len();
        assert!(encoder.error(&error, &shown, &mut written));
        IN.error_event(&error, &asked, &mut event);
        assert_eq!(written[start..], event, "both ways");
        assert!(IN.stream(&asked).error(&error, &shown, &mut first));
        if array {
            let list: Vec<serde_json::Value> = serde_json::from_slice(&written).unwrap();
            assert_eq!((list.len(), &list[1]["error"]["code"]), (2, &serde_json::json!(503)));
            let alone: Vec<serde_json::Value> = serde_json::from_slice(&first).unwrap();
            assert_eq!(alone[0]["error"]["status"], "UNAVAILABLE");
        } else {
            assert!(event.starts_with(b"data: {\"error\":{\"code\":503,") && event.ends_with(b"}}\r\n\r\n"));
            let told = events(&written, 7);
            assert!(told.contains("Fault(Fault { kind: Overloaded"), "{told}");
        }
    }
}

#[test]
fn proofs_of_others_do_not_reach_gemini_in_a_passthrough() {
    let packed = signature::carry(&[signature::Proof::of(
        &Reasoning { signature: Some("sig".into()), issuer: Some("anthropic".into()), ..Reasoning::default() },
        None,
    )
    .unwrap()])
    .unwrap()
    .into_owned();
    let body = format!(
        r#"{{"contents": [ {{"role":"model","parts":[{{"text":"t","thoughtSignature": "{packed}" }},{{"thought_signature":"{packed}","functionCall":{{"name":"f","args":{{"thoughtSignature":"{packed}"}}}}}},{{"functionCall":{{"name":"g"}},"thoughtSignature":"theirs"}}]}}],"timeout":3}}"#
    );
    let spliced = |model: &str, body: &str| {
        let (quirks, abilities) = (Quirks::default(), Abilities::default());
        let to = To { model, stream: false, quirks: &quirks, abilities: &abilities };
        let mut patch = Patch::default();
        OUT.splice(body.as_bytes(), &scan(body.as_bytes(), 64).unwrap(), &to, &mut patch);
        String::from_utf8(patch.apply(body.as_bytes())).unwrap()
    };
    let args = format!(r#""args":{{"thoughtSignature":"{packed}"}}"#);
    for (model, call) in [("gemini-3-pro", r#""skip_thought_signature_validator""#), ("gemini-2.5-pro", "null")] {
        assert_eq!(
            spliced(model, &body),
            format!(
                r#"{{"contents": [ {{"role":"model","parts":[{{"text":"t","thoughtSignature": null }},{{"thought_signature":{call},"functionCall":{{"name":"f",{args}}}}},{{"functionCall":{{"name":"g"}},"thoughtSignature":"theirs"}}]}}]}}"#
            )
        );
    }
    let inner = format!(r#"{{"generateContentRequest":{{"model":"models/alias",{}}}"#, body.strip_prefix('{').unwrap());
    let counted = spliced("gemini-2.5-pro", &inner);
    assert!(
        counted.starts_with(r#"{"generateContentRequest":{"model":"models/gemini-2.5-pro","contents""#),
        "{counted}"
    );
    assert!(counted.contains(r#""text":"t","thoughtSignature": null"#));
}

#[test]
fn a_provider_that_counts_bare_requests_gets_one() {
    let body = br#"{"generateContentRequest":{"model":"m","contents":[{"parts":[{"text":"x"}]}],"safetySettings":[]},"timeout":3}"#;
    let quirks = Quirks { refuses: vec!["generateContentRequest".into()], ..Quirks::default() };
    let to = To { model: "g", stream: false, quirks: &quirks, abilities: &Abilities::default() };
    let mut patch = Patch::default();
    OUT.splice(body, &scan(body, 64).unwrap(), &to, &mut patch);
    assert_eq!(patch.apply(body), br#"{"contents":[{"parts":[{"text":"x"}]}]}"#);
}

#[test]
fn a_stream_is_whole_when_every_candidate_has_its_reason() {
    let mut sniffer = OUT.sniffer();
    let mut frame = |data: &str| {
        let seen = sniffer.frame(&sse::Frame { event: "", data, end: 0, comment: false });
        (seen.content, seen.usage.is_some(), seen.fault.is_some(), sniffer.whole())
    };
    assert_eq!(frame(r#"{"usageMetadata":{"promptTokenCount":3}}"#), (false, true, false, false));
    assert_eq!(frame(r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#), (true, false, false, false));
    let done = r#"{"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":1}}"#;
    assert_eq!(frame(done), (true, true, false, true));
    assert_eq!(
        frame(r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}}]}"#),
        (true, false, false, false)
    );
    assert_eq!(frame(r#"{"candidates":[{"index":1,"finishReason":"MAX_TOKENS"}]}"#), (true, false, false, true));
    assert_eq!(frame(r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#), (false, false, true, false));
}
