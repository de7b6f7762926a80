//! Each dialect: what it answers, and what it refuses as its original does.

use super::*;

#[tokio::test]
async fn openai_streams_what_it_says_whole() {
    let sandbox = start().await;
    let mut body = json!({"model": "sandbox", "messages": user("grüße an 世界 \u{1f30d}")});
    let whole = sandbox.openai(body.clone()).await;
    assert_eq!(whole.status, 200);
    assert!(whole.head.contains("\r\nx-request-id: req_"));
    let whole = whole.json();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text, "Ahoy from the sandbox! You said: grüße an 世界 \u{1f30d}");
    assert_eq!(whole["usage"]["prompt_tokens"], 4);
    assert_eq!(whole["usage"]["completion_tokens"], 10);

    body["stream"] = json!(true);
    let plain = sandbox.openai(body.clone()).await;
    assert!(plain.whole && plain.body.ends_with("data: [DONE]\n\n"));
    assert!(plain.events().iter().all(|event| event.get("usage").is_none()));
    body["stream_options"] = json!({"include_usage": true});
    let stream = sandbox.openai(body).await;
    let events = stream.events();
    let said: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, text);
    assert!(events.len() > 10, "word by word");
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole["usage"]);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn openai_calls_tools_and_tells_their_results() {
    let sandbox = start().await;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": weather()}});
    let mut body = json!({
        "model": "sandbox", "messages": user("both in parallel"), "tools": [tool("weather"), tool("tide")],
    });
    let first = sandbox.openai(body.clone()).await.json();
    let choice = &first["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["function"], json!({"name": "weather", "arguments": "{\"city\":\"sandbox\"}"}));
    assert_ne!(calls[0]["id"], calls[1]["id"]);

    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = sandbox.openai(streamed).await.events();
    let deltas: Vec<_> = events.iter().map(|e| &e["choices"][0]["delta"]["tool_calls"][0]).collect();
    for index in 0..2 {
        let of: Vec<_> = deltas.iter().filter(|delta| delta["index"] == index).collect();
        assert!(of[0]["id"].is_string());
        let arguments: String = of.iter().filter_map(|d| d["function"]["arguments"].as_str()).collect();
        serde_json::from_str::<Value>(&arguments).unwrap();
    }

    let list = body["messages"].as_array_mut().unwrap();
    list.push(choice["message"].clone());
    let open = sandbox.openai(body.clone()).await;
    assert_eq!(open.status, 400);
    assert!(open.json()["error"]["message"].as_str().unwrap().contains("did not have response messages"));
    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "tool", "tool_call_id": calls[1]["id"], "content": "low"}));
    list.push(json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "fair"}));
    let second = sandbox.openai(body).await.json();
    assert_eq!(second["choices"][0]["message"]["content"], "Back from the tools. tide said: low weather said: fair");
    let details = &second["usage"]["prompt_tokens_details"];
    assert!(details["cached_tokens"].as_u64().unwrap() > 0, "a second turn is cached");
}

#[tokio::test]
async fn openai_is_strict() {
    let sandbox = start().await;
    for (body, param, words) in [
        (json!({"messages": user("x")}), "model", "Missing required"),
        (json!({"model": "sandbox"}), "messages", "Missing required"),
        (json!({"model": "sandbox", "messages": []}), "messages", "empty array"),
        (json!({"model": "sandbox", "messages": [{"role": "pirate", "content": ""}]}), "messages[0].role", "pirate"),
        (json!({"model": "sandbox", "messages": user("x"), "stream_options": {}}), "stream_options", "only allowed"),
        (json!({"model": "sandbox", "messages": user("x"), "temperature": 99.0}), "temperature", "out of range"),
        (json!({"model": "sandbox", "messages": user("x"), "stream": "yes"}), "stream", "Invalid type"),
        (
            json!({"model": "sandbox", "messages": [{"role": "tool", "tool_call_id": "a", "content": ""}]}),
            "messages.[0].role",
            "must be a response",
        ),
        (
            json!({"model": "sandbox", "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]}]}),
            "messages[0].content[0].image_url.url",
            "base64",
        ),
    ] {
        let got = sandbox.openai(body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        let error = &got.json()["error"];
        assert_eq!(error["param"], param, "{body}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let got = sandbox.openai(json!({"model": "sandbox", "messages": user("x"), "fallback": ["y"]})).await;
    assert_eq!(got.json()["error"]["message"], "Unrecognized request argument supplied: fallback");
    let got = sandbox.openai(json!({"model": "gpt-5", "messages": user("x")})).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn openai_formats_images_reasoning_and_copies() {
    let sandbox = start().await;
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let got = sandbox.openai(json!({
        "model": "sandbox-mini", "messages": user("x"), "reasoning_effort": "low", "n": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "count", "schema": schema}},
    }));
    let got = got.await.json();
    assert_eq!(got["choices"][1]["message"]["content"], "{\"n\":1}");
    assert!(got["choices"][0]["message"]["reasoning_content"].as_str().unwrap().starts_with("Turn 1"));
    let usage = &got["usage"];
    assert!(usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 20);
    let part = json!({"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}});
    let content = json!([part, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]);
    let got = sandbox.openai(json!({"model": "sandbox", "messages": [{"role": "user", "content": content}]}));
    let text = &got.await.json()["choices"][0]["message"]["content"];
    assert!(text.as_str().unwrap().contains("I see 2 images (image/webp, by URL)."), "{text}");
}

#[tokio::test]
async fn anthropic_thinks_and_checks_its_signatures() {
    let sandbox = start().await;
    let mut body = json!({
        "model": "sandbox", "max_tokens": 4096, "messages": user("think"),
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "tide", "input_schema": weather()}],
    });
    let first = sandbox.anthropic(body.clone()).await.json();
    assert_eq!(first["content"][0]["type"], "thinking");
    assert_eq!(first["content"][1]["type"], "tool_use");
    assert_eq!(first["stop_reason"], "tool_use");

    body["stream"] = json!(true);
    let stream = sandbox.anthropic(body.clone()).await;
    assert!(stream.body.starts_with("event: message_start\ndata: {"));
    let events = stream.events();
    let signature = events.iter().find_map(|e| e["delta"]["signature"].as_str()).unwrap();
    assert_eq!(signature, first["content"][0]["signature"]);
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
    let usage = &events[events.len() - 2]["usage"];
    assert_eq!(usage["output_tokens"], first["usage"]["output_tokens"]);
    body["stream"] = json!(false);

    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": first["content"]}));
    let result = json!({"type": "tool_result", "tool_use_id": first["content"][1]["id"], "content": "high"});
    list.push(json!({"role": "user", "content": [result]}));
    let second = sandbox.anthropic(body.clone()).await.json();
    assert_eq!(second["content"][1]["text"], "Back from the tools. tide said: high");
    // A loop that began without thinking goes on without it.
    let mut forgot = body.clone();
    forgot["messages"][1]["content"].as_array_mut().unwrap().remove(0);
    assert_eq!(sandbox.anthropic(forgot).await.json()["content"][0]["type"], "text");

    body["messages"][1]["content"][0]["thinking"] = json!("Something else.");
    let got = sandbox.anthropic(body).await;
    assert_eq!(got.status, 400);
    assert_eq!(
        got.json()["error"],
        json!({"type": "invalid_request_error",
            "message": "messages.1.content.0: Invalid `signature` in `thinking` block"})
    );
}

#[tokio::test]
async fn anthropic_is_strict() {
    let sandbox = start().await;
    let good = json!({"model": "sandbox", "max_tokens": 50, "messages": user("x")});
    assert_eq!(sandbox.anthropic(good.clone()).await.status, 200);
    let tools = json!([{"name": "a", "input_schema": {"type": "object"}}]);
    for (name, value, words) in [
        ("max_tokens", Value::Null, "max_tokens: Field required"),
        ("max_tokens", json!(0), "greater than or equal to 1"),
        ("frequency_penalty", json!(1), "frequency_penalty: Extra inputs"),
        ("temperature", json!(1.5), "temperature: range: 0..1"),
        ("messages", json!([{"role": "assistant", "content": "x"}]), "first message"),
        ("messages", json!([{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]), "must alternate"),
        ("messages", json!([{"role": "system", "content": "x"}]), "'user' or 'assistant'"),
        ("messages", json!([{"role": "user", "content": ""}]), "must be non-empty"),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]}]),
            "unexpected `tool_use_id`",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "x"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "a", "input": {}}]},
                {"role": "user", "content": "y"}]),
            "without `tool_result` blocks",
        ),
        ("thinking", json!({"type": "enabled", "budget_tokens": 1024}), "must be greater than"),
        ("tools", json!([{"name": "a b", "input_schema": {"type": "object"}}]), "should match pattern"),
        ("tools", json!([{"name": "a", "input_schema": {}}]), "input_schema.type: Field required"),
        ("tool_choice", json!({"type": "any"}), "`tools` must be provided"),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let got = sandbox.anthropic(body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        let error = got.json();
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        assert!(error["error"]["message"].as_str().unwrap().to_lowercase().contains(&words.to_lowercase()), "{error}");
    }
    let mut forced = good.clone();
    forced["tools"] = tools;
    forced["tool_choice"] = json!({"type": "any"});
    forced["thinking"] = json!({"type": "adaptive"});
    assert_eq!(sandbox.anthropic(forced).await.status, 400);
    let head = format!("POST /anthropic/v1/messages HTTP/1.1\r\ncontent-length: {}\r\n\r\n", good.to_string().len());
    let bare = exchange(&mut TcpStream::connect(sandbox.addr).await.unwrap(), &(head + &good.to_string())).await;
    assert!(bare.json()["error"]["message"].as_str().unwrap().starts_with("anthropic-version"));
}

#[tokio::test]
async fn anthropic_caches_what_is_marked() {
    let sandbox = start().await;
    let system =
        json!([{"type": "text", "text": "one two three", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    let mut body = json!({"model": "sandbox", "max_tokens": 50, "messages": user("four"), "system": system});
    let usage = sandbox.anthropic(body.clone()).await.json()["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["cache_creation_input_tokens"]), (&json!(1), &json!(3)));
    assert_eq!(usage["cache_creation"]["ephemeral_1h_input_tokens"], 3);
    let list = body["messages"].as_array_mut().unwrap();
    list.extend([json!({"role": "assistant", "content": "five"}), json!({"role": "user", "content": "six"})]);
    let usage = sandbox.anthropic(body).await.json()["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(1), &json!(5)));
}

#[tokio::test]
async fn gemini_thinks_calls_and_checks() {
    let sandbox = start().await;
    let mut body = json!({
        "contents": [{"role": "user", "parts": [{"text": "in parallel"}]}],
        "tools": [{"functionDeclarations": [{"name": "tide", "parameters": weather()}]}],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 512, "includeThoughts": true}},
    });
    let first = sandbox.gemini("generateContent", body.clone()).await.json();
    let parts = first["candidates"][0]["content"]["parts"].as_array().unwrap().clone();
    assert_eq!(parts[0]["thought"], true);
    assert_eq!(parts[1]["functionCall"], json!({"name": "tide", "args": {"city": "sandbox"}}));
    assert_eq!(parts[2]["functionCall"]["args"]["city"], "sandbox 2");
    assert!(parts[1]["thoughtSignature"].is_string() && parts[2].get("thoughtSignature").is_none());
    let usage = &first["usageMetadata"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    let sum = count("promptTokenCount") + count("candidatesTokenCount") + count("thoughtsTokenCount");
    assert_eq!(count("totalTokenCount"), sum);

    let stream = sandbox.gemini("streamGenerateContent?alt=sse", body.clone()).await;
    assert!(stream.head.contains("text/event-stream"));
    let events = stream.events();
    assert_eq!(events.last().unwrap()["usageMetadata"], *usage);
    assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    let array = sandbox.gemini("streamGenerateContent", body.clone()).await.json();
    assert_eq!(array.as_array().unwrap().len(), events.len());

    let result = |text: &str| json!({"functionResponse": {"name": "tide", "response": {"result": text}}});
    let list = body["contents"].as_array_mut().unwrap();
    list.push(json!({"role": "model", "parts": parts}));
    list.push(json!({"role": "user", "parts": [result("high"), result("low")]}));
    let second = sandbox.gemini("generateContent", body.clone()).await.json();
    let parts = &second["candidates"][0]["content"]["parts"];
    assert_eq!(parts[1]["text"], "Back from the tools. tide said: high tide said: low");
    assert!(parts[1]["thoughtSignature"].is_string());

    let mut forged = body.clone();
    forged["contents"][1]["parts"][1]["thoughtSignature"] = json!("AAAA");
    let got = sandbox.gemini("generateContent", forged).await;
    assert_eq!((got.status, &got.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    body["contents"][2]["parts"].as_array_mut().unwrap().pop();
    let got = sandbox.gemini("generateContent", body).await;
    assert!(got.json()["error"]["message"].as_str().unwrap().contains("number of function response parts"));
}

#[tokio::test]
async fn gemini_is_strict() {
    let sandbox = start().await;
    let good = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    assert_eq!(sandbox.gemini("generateContent", good.clone()).await.status, 200);
    let tool = |parameters: Value| json!([{"functionDeclarations": [{"name": "a", "parameters": parameters}]}]);
    for (name, value, words) in [
        ("contents", json!([]), "contents is not specified"),
        ("contents", json!([{"role": "assistant", "parts": [{"text": "x"}]}]), "valid role: user, model"),
        ("contents", json!([{"role": "user", "parts": []}]), "must not be empty"),
        ("contents", json!([{"role": "user", "parts": [{}]}]), "one initialized field"),
        (
            "contents",
            json!([{"role": "user", "parts": [{"functionResponse": {"name": "a", "response": {}}}]}]),
            "number of function response parts",
        ),
        ("messages", json!([]), "Unknown name \\\"messages\\\""),
        ("tools", tool(json!({"type": "object", "additionalProperties": false})), "additionalProperties"),
        ("tools", tool(json!({"type": "object", "properties": {"x": {"$ref": "#/y"}}})), "parameters.properties.x"),
        ("tools", tool(json!({"type": ["object", "null"]})), "not repeating"),
        ("generationConfig", json!({"candidateCount": 2}), "Multiple candidates"),
        ("generationConfig", json!({"responseSchema": {"type": "object"}}), "only allowed with response mime type"),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let got = sandbox.gemini("generateContent", body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(got.json()["error"]["status"], "INVALID_ARGUMENT");
        assert!(got.body.contains(words), "{words}: {}", got.body);
    }
}

#[tokio::test]
async fn counts_are_what_answers_report() {
    let sandbox = start().await;
    let mut body =
        json!({"model": "sandbox", "system": "Be brief.", "max_tokens": 100, "messages": user("how long is this?")});
    let usage = sandbox.anthropic(body.clone()).await.json()["usage"].clone();
    body.as_object_mut().unwrap().remove("max_tokens");
    let count = "/anthropic/v1/messages/count_tokens";
    let counted = sandbox.send(count, &body).await.unwrap();
    assert_eq!((counted.status, &counted.json()["input_tokens"]), (200, &usage["input_tokens"]), "{}", counted.body);
    body["max_tokens"] = json!(100);
    assert_eq!(sandbox.send(count, &body).await.unwrap().status, 400);

    let body = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "how long is this?"}]}]});
    let usage = sandbox.gemini("generateContent", body.clone()).await.json()["usageMetadata"].clone();
    let mut inner = body.clone();
    inner["model"] = json!("models/sandbox");
    for question in [body.clone(), json!({"generateContentRequest": inner})] {
        let counted = sandbox.gemini("countTokens", question).await;
        assert_eq!(
            (counted.status, &counted.json()["totalTokens"]),
            (200, &usage["promptTokenCount"]),
            "{}",
            counted.body
        );
    }
    let both = json!({"contents": body["contents"], "generateContentRequest": body});
    assert_eq!(sandbox.gemini("countTokens", both).await.status, 400);
}
