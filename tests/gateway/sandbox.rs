//! The sandbox through the gateway: one client dialect, three provider dialects, the same answer.

use serde_json::{Value, json};

use super::client::{self, Response};
use super::gateway::{Gateway, ask, ask_stream, free_port, keys};

const DIALECTS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// A gateway with its own sandbox; `openai-NAME` and so on reach the sandbox's model `NAME` in that dialect.
fn start() -> Gateway {
    let port = free_port();
    let models = [
        "sandbox",
        "sandbox-cut-5",
        "sandbox-error-first",
        "sandbox-error-mid",
        "sandbox-fail-503",
        "sandbox-429-7",
        "sandbox-garbage",
        "sandbox-reset",
    ];
    let mut text = format!("sandbox: {{ listen: \"127.0.0.1:{port}\" }}\nretry: {{ tries: 1 }}\nproviders:\n");
    for dialect in DIALECTS {
        text.push_str(&format!("  {dialect}: {{ preset: sandbox-{dialect} }}\n"));
    }
    text.push_str("models:\n");
    for dialect in DIALECTS {
        for model in models {
            text.push_str(&format!(
                "  {dialect}-{model}: {{ targets: [{{ provider: {dialect}, model: {model} }}] }}\n"
            ));
        }
    }
    Gateway::start(&(text + &keys()))
}

fn message(got: &Response) -> Value {
    assert_eq!(got.status, 200, "{got}");
    let json = got.json();
    assert_eq!(json["object"], "chat.completion", "{got}");
    json["choices"][0]["message"].clone()
}

/// Puts the pieces of a streamed message together, as SDKs do.
fn assembled(got: &Response) -> (Value, String) {
    assert_eq!(got.status, 200, "{got}");
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{got}");
    let (mut content, mut reasoning, mut finish) = (String::new(), String::new(), String::new());
    let mut calls: Vec<Value> = Vec::new();
    for event in got.events() {
        assert_eq!(event["object"], "chat.completion.chunk", "{event}");
        let Some(choice) = event["choices"].get(0) else { continue };
        let delta = &choice["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()), "{call}");
                calls.push(json!({"id": call["id"], "name": call["function"]["name"], "arguments": ""}));
            }
            let so_far = calls[index]["arguments"].as_str().unwrap().to_owned();
            let more = call["function"]["arguments"].as_str().unwrap_or_default();
            calls[index]["arguments"] = json!(so_far + more);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!(finish, "", "two finish reasons: {got}");
            reason.clone_into(&mut finish);
        }
    }
    (json!({"content": content, "reasoning": reasoning, "calls": calls}), finish)
}

#[test]
fn all_dialects_give_the_same_answer() {
    let gateway = start();
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "grüß dich, 世界 \u{1f30d}");
        body["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "Be terse."}));
        let want = "Ahoy from the sandbox! My orders: Be terse. You said: grüß dich, 世界 \u{1f30d}";
        let whole = gateway.chat(&body);
        assert_eq!(message(&whole)["content"], want, "{dialect}: {whole}");
        assert_eq!(whole.json()["choices"][0]["finish_reason"], "stop", "{dialect}");
        let usage = whole.json()["usage"].clone();
        assert_eq!(usage["completion_tokens"], want.split_whitespace().count(), "{dialect}: {usage}");

        body["stream"] = json!(true);
        let stream = gateway.chat(&body);
        let (said, finish) = assembled(&stream);
        assert_eq!((said["content"].as_str(), finish.as_str()), (Some(want), "stop"), "{dialect}");
        assert!(stream.arrivals.len() > 5, "{dialect}: word by word");
        assert!(stream.events().iter().all(|event| event["usage"].is_null()), "{dialect}: usage was not asked for");
        body["stream_options"] = json!({"include_usage": true});
        let stream = gateway.chat(&body);
        let last = stream.events().pop().unwrap();
        for figure in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][figure], usage[figure], "{dialect}: {stream}");
        }
    }
}

#[test]
fn limits_and_stops_are_honoured_everywhere() {
    let gateway = start();
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "one two three");
        body["max_completion_tokens"] = json!(3);
        let got = gateway.chat(&body);
        assert_eq!(message(&got)["content"].as_str().unwrap().trim(), "Ahoy from the", "{dialect}");
        assert_eq!(got.json()["choices"][0]["finish_reason"], "length", "{dialect}");
        body["max_completion_tokens"] = json!(100);
        body["stop"] = json!(["two"]);
        let got = gateway.chat(&body);
        assert!(message(&got)["content"].as_str().unwrap().ends_with("You said: one "), "{dialect}: {got}");
        assert_eq!(got.json()["choices"][0]["finish_reason"], "stop", "{dialect}");
    }
}

#[test]
fn tools_go_round_in_every_dialect() {
    let gateway = start();
    let parameters = json!({"type": "object", "additionalProperties": false, "required": ["city"],
        "properties": {"city": {"type": "string"}}});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "both in parallel");
        body["tools"] = json!([tool("weather"), tool("tide")]);
        let got = gateway.chat(&body);
        let first = message(&got);
        assert_eq!(got.json()["choices"][0]["finish_reason"], "tool_calls", "{dialect}: {got}");
        let calls = first["tool_calls"].as_array().unwrap().clone();
        assert_eq!(calls.len(), 2, "{dialect}: {got}");
        assert_ne!(calls[0]["id"], calls[1]["id"], "{dialect}: {got}");
        for (call, name) in calls.iter().zip(["weather", "tide"]) {
            assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!(name)), "{dialect}");
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            assert!(arguments["city"].is_string(), "{dialect}: {call}");
        }

        body["stream"] = json!(true);
        let (said, finish) = assembled(&gateway.chat(&body));
        assert_eq!(finish, "tool_calls", "{dialect}");
        for (streamed, call) in said["calls"].as_array().unwrap().iter().zip(&calls) {
            assert_eq!(streamed["name"], call["function"]["name"], "{dialect}");
            let parse = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
            assert_eq!(parse(&streamed["arguments"]), parse(&call["function"]["arguments"]), "{dialect}");
        }
        body["stream"] = json!(false);

        let list = body["messages"].as_array_mut().unwrap();
        list.push(first);
        for (call, text) in calls.iter().zip(["fair", "low"]) {
            list.push(json!({"role": "tool", "tool_call_id": call["id"], "content": text}));
        }
        let second = message(&gateway.chat(&body));
        assert_eq!(second["content"], "Back from the tools. weather said: fair tide said: low", "{dialect}");

        let mut forced = ask(&format!("{dialect}-sandbox"), "x");
        forced["tools"] = body["tools"].clone();
        forced["tool_choice"] = json!({"type": "function", "function": {"name": "tide"}});
        assert_eq!(message(&gateway.chat(&forced))["tool_calls"][0]["function"]["name"], "tide", "{dialect}");
        forced["tool_choice"] = json!("none");
        assert!(message(&gateway.chat(&forced)).get("tool_calls").is_none_or(Value::is_null), "{dialect}");
    }
}

#[test]
fn thoughts_survive_a_tool_loop() {
    let gateway = start();
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "think");
        body["reasoning_effort"] = json!("low");
        body["tools"] = json!([{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]);
        let got = gateway.chat(&body);
        let first = message(&got);
        let tokens = &got.json()["usage"]["completion_tokens_details"]["reasoning_tokens"];
        assert!(tokens.as_u64().is_some_and(|tokens| tokens > 0), "{dialect}: {got}");
        let list = body["messages"].as_array_mut().unwrap();
        // As it came: whatever proves the thoughts is in the message, and the sandbox refuses what it did not sign.
        list.push(first.clone());
        list.push(json!({"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "high"}));
        let second = gateway.chat(&body);
        assert_eq!(message(&second)["content"], "Back from the tools. tide said: high", "{dialect}: {second}");
        // The same history at another provider: its thoughts are nobody else's, and no reason to fail.
        for other in DIALECTS {
            body["model"] = json!(format!("{other}-sandbox"));
            let got = gateway.chat(&body);
            assert_eq!(got.status, 200, "{dialect}, then {other}: {got}");
        }
    }
}

#[test]
fn structure_and_images_arrive_in_every_dialect() {
    let gateway = start();
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["n", "kind"],
        "properties": {"n": {"type": "integer"}, "kind": {"type": "string", "enum": ["bark", "brig"]}}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "x");
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "ship", "strict": true, "schema": schema}});
        let got = gateway.chat(&body);
        let content: Value = serde_json::from_str(message(&got)["content"].as_str().unwrap()).unwrap();
        assert_eq!(content, json!({"n": 1, "kind": "bark"}), "{dialect}");
        let mut body = ask(&format!("{dialect}-sandbox"), "x");
        body["messages"][0]["content"] = json!([{"type": "text", "text": "look"}, image]);
        let got = gateway.chat(&body);
        assert!(message(&got)["content"].as_str().unwrap().contains("1 image (image/png)"), "{dialect}: {got}");
    }
}

#[test]
fn a_sandbox_that_fails_is_rescued_across_dialects() {
    let gateway = start();
    for (one, other) in [("openai", "anthropic"), ("anthropic", "gemini"), ("gemini", "openai")] {
        for model in ["sandbox-fail-503", "sandbox-429-7", "sandbox-error-first", "sandbox-garbage", "sandbox-reset"] {
            for body in [ask(&format!("{one}-{model}"), "x"), ask_stream(&format!("{one}-{model}"), "x")] {
                let mut body = body;
                body["fallback"] = json!([format!("{other}-sandbox")]);
                let got = gateway.chat(&body);
                assert_eq!(got.status, 200, "{one}-{model}: {got}");
                let said = if body["stream"] == true { assembled(&got).0 } else { message(&got) };
                assert_eq!(said["content"], "Ahoy from the sandbox! You said: x", "{one}-{model}: {got}");
                assert_eq!(got.header("x-portolan-provider"), Some(other), "{one}-{model}: {got}");
            }
        }
    }
}

#[test]
fn an_error_in_place_of_an_answer_is_told_as_the_provider_said_it() {
    let gateway = start();
    for dialect in DIALECTS {
        for body in [ask, ask_stream].map(|ask| ask(&format!("{dialect}-sandbox-error-first"), "x")) {
            let got = gateway.chat(&body);
            let error = got.refusal(if dialect == "openai" { 502 } else { 503 });
            assert_eq!(error["message"], "The sandbox is overloaded, as it was told to be.", "{dialect}: {got}");
        }
    }
}

#[test]
fn a_sandbox_that_breaks_late_is_told_in_every_dialect() {
    let gateway = start();
    for dialect in DIALECTS {
        for model in ["sandbox-cut-5", "sandbox-error-mid"] {
            let got = gateway.chat(&ask_stream(&format!("{dialect}-{model}"), "one two three four five"));
            assert!(got.said().starts_with("Ahoy"), "{dialect}-{model}: {got}");
            got.last_error();
        }
    }
}

#[test]
fn a_models_own_refusal_has_the_callers_shape() {
    let gateway = start();
    for dialect in DIALECTS {
        let mut body = ask(&format!("{dialect}-sandbox"), "x");
        body["temperature"] = json!(9.5);
        let got = gateway.chat(&body);
        // Refused by the provider, or fitted to it and named.
        if got.status == 200 {
            assert!(got.header("x-portolan-loss").is_some_and(|loss| loss.contains("temperature")), "{dialect}: {got}");
        } else {
            got.refusal(400);
        }
        let got = gateway.chat(&ask(&format!("{dialect}-sandbox-429-7"), "x"));
        got.refusal(429);
        assert_eq!(got.header("retry-after"), Some("7"), "{dialect}: {got}");
    }
    client::get(gateway.data, "/v1/models", &[("connection", "close")]).refusal(401);
}
