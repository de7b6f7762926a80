//! Gemini generateContent, as its provider: <https://ai.google.dev/api/generate-content> (seen 2026-11-21).
//!
//! As strict as the original where a gateway could err: roles, function responses beside their calls, members that the
//! API does not know (its schemas are a small part of JSON Schema), thought signatures. Calls have no ids, as with
//! Gemini 2.5, so that ids must come from elsewhere.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Ask, Choice, Finish, Format, IMAGE_TOKENS, Tool, pieces, signature, tokens};
use super::http::Request;
use super::member::Member;
use super::{Refused, Speaker, Stamp, base64, sse, tool_name};

pub struct Gemini;

const MEMBERS: [&str; 9] = [
    "cachedContent",
    "contents",
    "generationConfig",
    "model",
    "safetySettings",
    "serviceTier",
    "systemInstruction",
    "toolConfig",
    "tools",
];

/// Members of the `Schema` type (<https://ai.google.dev/api/caching#Schema>, seen 2026-11-21).
const SCHEMA: [&str; 22] = [
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "propertyOrdering",
    "required",
    "title",
    "type",
];

/// Signatures that the API documents for calls that come from another model
/// (<https://ai.google.dev/gemini-api/docs/thought-signatures>, seen 2026-11-21).
const STAND_INS: [&str; 2] = ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

impl Speaker for Gemini {
    fn read(&self, request: &Request) -> Result<Ask, Refused> {
        let (model, verb) =
            target(&request.path).ok_or_else(|| Refused::new(404, "Requested entity was not found."))?;
        let body: Map<String, Value> = serde_json::from_slice(&request.body)
            .map_err(|error| refuse(format!("Invalid JSON payload received. {error}")))?;
        let mut body: Map<_, _> = body.into_iter().map(|(name, value)| (camel(&name), value)).collect();
        let only_count = verb == COUNT;
        // A question may have the request that is to be counted in it (API reference "countTokens", seen 2026-11-21).
        if let Some(Value::Object(whole)) = body.remove("generateContentRequest").filter(|_| only_count) {
            if body.contains_key("contents") {
                return Err(refuse("Either contents or generateContentRequest may be set, not both."));
            }
            body = whole.into_iter().map(|(name, value)| (camel(&name), value)).collect();
        }
        if let Some(name) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(unknown(name, ""));
        }
        let body = Value::Object(body);
        let mut ask = Ask { copies: 1, only_count, include_usage: true, parallel: true, ..Ask::default() };
        ask.model = model.to_owned();
        ask.stream = verb == "streamGenerateContent";
        settings(body.at("generationConfig"), &mut ask)?;
        tools(&body, &mut ask)?;
        let system = body.at("systemInstruction").at("parts").as_array().into_iter().flatten();
        let system = system.filter_map(|part| part.at("text").as_str()).collect::<Vec<_>>().join("\n");
        if !system.is_empty() {
            ask.count(tokens(&system));
            ask.system.push(system);
        }
        contents(body.at("contents"), &mut ask)?;
        Ok(ask)
    }

    fn count(&self, input: u64) -> Value {
        json!({"totalTokens": input})
    }

    fn whole(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Value {
        let mut parts = Vec::new();
        if ask.show_reasoning && !answer.reasoning.is_empty() {
            parts.push(json!({"text": answer.reasoning, "thought": true}));
        }
        let mut said = calls(ask, answer);
        if said.is_empty() && !answer.text.is_empty() {
            said.push(json!({"text": answer.text}));
            sign(ask, "text", &mut said);
        }
        parts.append(&mut said);
        let content = json!({"parts": parts, "role": "model"});
        let candidate = json!({"content": content, "finishReason": finish(answer), "index": 0});
        chunk(ask, stamp, candidate, usage(answer))
    }

    fn frames(&self, ask: &Ask, answer: &Answer, stamp: &Stamp) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut part = |part: Value, usage: Value| {
            let candidate = json!({"content": {"parts": [part], "role": "model"}, "index": 0});
            chunks.push(chunk(ask, stamp, candidate, usage));
        };
        let mut so_far = json!({"promptTokenCount": answer.usage.input, "totalTokenCount": answer.usage.input});
        if ask.show_reasoning {
            for piece in pieces(&answer.reasoning) {
                part(json!({"text": piece, "thought": true}), so_far.clone());
            }
        }
        if answer.usage.reasoning > 0 {
            so_far.set("thoughtsTokenCount", answer.usage.reasoning);
            so_far.set("totalTokenCount", answer.usage.input + answer.usage.reasoning);
        }
        for call in calls(ask, answer) {
            part(call, so_far.clone());
        }
        for piece in pieces(&answer.text) {
            part(json!({"text": piece}), so_far.clone());
        }
        let mut last = vec![json!({"text": ""})];
        if answer.calls.is_empty() {
            sign(ask, "text", &mut last);
        }
        let content = json!({"parts": last, "role": "model"});
        let candidate = json!({"content": content, "finishReason": finish(answer), "index": 0});
        chunks.push(chunk(ask, stamp, candidate, usage(answer)));
        chunks.iter().map(|chunk| sse(None, chunk)).collect()
    }

    fn error(&self, refused: &Refused, _: &Stamp) -> Value {
        let status = match refused.status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            499 => "CANCELLED",
            503 | 529 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            402 => "FAILED_PRECONDITION",
            409 => "ABORTED",
            405..=498 => "INVALID_ARGUMENT",
            _ => "INTERNAL",
        };
        let mut error = json!({"code": refused.status, "message": refused.message, "status": status});
        if let Some(seconds) = refused.retry_after {
            let kind = "type.googleapis.com/google.rpc.RetryInfo";
            error.set("details", json!([{"@type": kind, "retryDelay": format!("{seconds}s")}]));
        }
        json!({"error": error})
    }

    fn error_frame(&self, refused: &Refused, stamp: &Stamp) -> Vec<u8> {
        sse(None, &self.error(refused, stamp))
    }

    fn headers(&self, _: &Stamp) -> Vec<(&'static str, String)> {
        vec![("server-timing", "gfet4t7; dur=1".to_owned())]
    }
}

const COUNT: &str = "countTokens";

/// Model and verb of a path like `/v1beta/models/sandbox:generateContent`.
pub fn target(path: &str) -> Option<(&str, &str)> {
    let (model, verb) =
        path.strip_prefix("/gemini").unwrap_or(path).strip_prefix("/v1beta/models/")?.rsplit_once(':')?;
    matches!(verb, "generateContent" | "streamGenerateContent" | COUNT).then_some((model, verb))
}

fn refuse(message: impl Into<String>) -> Refused {
    Refused::new(400, message)
}

fn unknown(name: &str, place: &str) -> Refused {
    let place = if place.is_empty() { String::new() } else { format!(" at '{place}'") };
    refuse(format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."))
}

/// The API takes members in camel case and in snake case.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &head.into_iter().chain(letters).collect::<String>()
    })
}

fn settings(config: &Value, ask: &mut Ask) -> Result<(), Refused> {
    if config.at("candidateCount").as_u64().is_some_and(|count| count != 1) {
        return Err(refuse("Multiple candidates is not enabled for this model"));
    }
    if config.at("temperature").as_f64().is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return Err(refuse(format!(
            "Unable to submit request because it has a temperature value of {} but the supported range is from 0 \
             (inclusive) to 2.0001 (exclusive). Update the value and try again.",
            config.at("temperature")
        )));
    }
    ask.limit = config.at("maxOutputTokens").as_u64();
    let stops = config.at("stopSequences").as_array().into_iter().flatten().filter_map(Value::as_str);
    ask.stop = stops.filter(|stop| !stop.is_empty()).map(str::to_owned).collect();
    if ask.stop.len() > 5 {
        return Err(refuse("GenerateContentRequest.generation_config.stop_sequences: at most 5 are allowed."));
    }
    let thinking = config.at("thinkingConfig");
    if !thinking.at("thinkingBudget").is_null() && !thinking.at("thinkingLevel").is_null() {
        return Err(refuse("You can only set only one of thinking budget and thinking level."));
    }
    ask.reason = thinking.is_object() && thinking.at("thinkingBudget") != 0;
    ask.show_reasoning = thinking.at("includeThoughts") == true;
    if !config.at("responseSchema").is_null() {
        schema_is_known(config.at("responseSchema"), "generation_config.response_schema", 32)?;
    }
    let schemas = [config.at("responseJsonSchema"), config.at("responseSchema")];
    let schema = schemas.into_iter().find(|schema| !schema.is_null());
    ask.format = match (config.at("responseMimeType").as_str(), schema) {
        (Some("application/json"), Some(schema)) => Format::Schema(schema.clone()),
        (Some("application/json"), None) => Format::Object,
        (_, Some(_)) => {
            return Err(refuse("A schema is only allowed with response mime type 'application/json'."));
        }
        (_, None) => Format::Text,
    };
    Ok(())
}

/// Refuses what JSON Schema has and `Schema` has not (`$ref`, `additionalProperties`, `oneOf` ...).
fn schema_is_known(schema: &Value, place: &str, depth: u32) -> Result<(), Refused> {
    let Some(members) = schema.as_object().filter(|_| depth > 0) else { return Ok(()) };
    for (name, value) in members {
        if !SCHEMA.contains(&camel(name).as_str()) {
            return Err(unknown(name, place));
        }
        match name.as_str() {
            "type" if !value.is_string() => {
                return Err(refuse(format!("Invalid value at '{place}.type': Proto field is not repeating.")));
            }
            "properties" => {
                for (property, value) in value.as_object().into_iter().flatten() {
                    schema_is_known(value, &format!("{place}.properties.{property}"), depth - 1)?;
                }
            }
            "items" => schema_is_known(value, &format!("{place}.items"), depth - 1)?,
            "anyOf" => {
                for (at, value) in value.as_array().into_iter().flatten().enumerate() {
                    schema_is_known(value, &format!("{place}.any_of[{at}]"), depth - 1)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn tools(body: &Value, ask: &mut Ask) -> Result<(), Refused> {
    for (at, tool) in body.at("tools").as_array().into_iter().flatten().enumerate() {
        let declarations = tool.get("functionDeclarations").or_else(|| tool.get("function_declarations"));
        for (n, function) in declarations.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let place = format!("tools[{at}].function_declarations[{n}]");
            let name = function.at("name").as_str().unwrap_or_default();
            if !tool_name(&name.replace(['.', ':'], "_"), 64) {
                return Err(refuse(format!("GenerateContentRequest.{place}.name: Invalid function name.")));
            }
            schema_is_known(function.at("parameters"), &format!("{place}.parameters"), 32)?;
            let schemas = [function.at("parametersJsonSchema"), function.at("parameters")];
            let schema = schemas.into_iter().find(|schema| !schema.is_null()).cloned().unwrap_or_default();
            ask.tools.push(Tool { name: name.to_owned(), schema });
        }
    }
    if !ask.tools.is_empty() {
        ask.count(tokens(&body.at("tools").to_string()));
    }
    let config = body.at("toolConfig").at("functionCallingConfig");
    let names = config.at("allowedFunctionNames").as_array();
    let first = names.and_then(|names| names.first()).and_then(Value::as_str);
    ask.choice = match (config.at("mode").as_str(), first) {
        (Some("NONE"), _) => Choice::None,
        (Some("ANY" | "VALIDATED"), Some(name)) => Choice::Named(name.to_owned()),
        (Some("ANY" | "VALIDATED" | "AUTO" | "MODE_UNSPECIFIED") | None, None) => Choice::Auto,
        (_, Some(_)) => return Err(refuse("allowed_function_names is only allowed with function calling mode ANY.")),
        (Some(mode), None) => {
            let place = "tool_config.function_calling_config.mode";
            return Err(refuse(format!("Invalid value at '{place}': \"{mode}\"")));
        }
    };
    match &ask.choice {
        Choice::Named(name) if !ask.tools.iter().any(|tool| tool.name == *name) => {
            Err(refuse(format!("allowed_function_names: \"{name}\" is not a declared function.")))
        }
        _ => Ok(()),
    }
}

fn contents(contents: &Value, ask: &mut Ask) -> Result<(), Refused> {
    let list = contents.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| refuse("* GenerateContentRequest.contents: contents is not specified"))?;
    // Names of the calls of the turn before.
    let mut open: Vec<String> = Vec::new();
    for (at, content) in list.iter().enumerate() {
        let model = match content.at("role").as_str() {
            Some("model") => true,
            // `function` is the older name; a single turn may leave the role out.
            Some("user" | "function") => false,
            None if list.len() == 1 => false,
            _ => return Err(refuse("Please use a valid role: user, model.")),
        };
        let mut turn = Turn::default();
        let parts = content.at("parts").as_array().filter(|parts| !parts.is_empty());
        let parts = parts.ok_or_else(|| {
            refuse(format!("* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty."))
        })?;
        for (n, part) in parts.iter().enumerate() {
            turn.read(part, model, &format!("contents[{at}].parts[{n}]"))?;
        }
        let mut answered: Vec<_> = turn.results.iter().map(|(name, _)| name.clone()).collect();
        open.sort();
        answered.sort();
        if open.len() != answered.len() {
            return Err(refuse(
                "Please ensure that the number of function response parts is equal to the number of function call \
                 parts of the function call turn.",
            ));
        }
        if let Some((_, name)) = open.iter().zip(&answered).find(|(call, answer)| call != answer) {
            return Err(refuse(format!("Function response name \"{name}\" does not match any function call.")));
        }
        ask.count(turn.tokens + IMAGE_TOKENS * turn.images.len() as u64);
        ask.images.append(&mut turn.images);
        if model {
            ask.assistant();
        } else {
            if !turn.texts.is_empty() || turn.results.is_empty() {
                ask.user(turn.texts.join("\n"));
            }
            for (name, text) in turn.results {
                ask.result(name, text);
            }
        }
        open = turn.calls;
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(refuse("Please ensure that single turn requests end with a user role or a function response."))
}

#[derive(Default)]
struct Turn {
    texts: Vec<String>,
    images: Vec<String>,
    calls: Vec<String>,
    results: Vec<(String, String)>,
    tokens: u64,
}

impl Turn {
    fn read(&mut self, part: &Value, model: bool, place: &str) -> Result<(), Refused> {
        let field = |camel: &str, snake: &str| part.get(camel).or_else(|| part.get(snake)).cloned();
        let mut subject = "text".to_owned();
        if let Some(text) = part.at("text").as_str() {
            self.tokens += tokens(text);
            if part.at("thought") != true {
                self.texts.push(text.to_owned());
            }
        } else if let Some(data) = field("inlineData", "inline_data") {
            let mime = data.at("mimeType").as_str().or(data.at("mime_type").as_str()).unwrap_or_default();
            if !base64(data.at("data").as_str().unwrap_or_default()) {
                return Err(refuse(format!("Invalid value at '{place}.inline_data.data' (TYPE_BYTES)")));
            }
            match mime.split_once('/') {
                Some(("image", _)) => self.images.push(mime.to_owned()),
                Some(_) => {}
                None => return Err(refuse(format!("Unsupported MIME type: {mime}"))),
            }
        } else if let Some(file) = field("fileData", "file_data") {
            let uri = file.at("fileUri").as_str().or(file.at("file_uri").as_str());
            uri.ok_or_else(|| refuse(format!("* {place}.file_data.file_uri: must not be empty")))?;
            self.images.push("by URL".to_owned());
        } else if let Some(call) = field("functionCall", "function_call").filter(|_| model) {
            let name = call.at("name").as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| refuse(format!("* {place}.function_call.name: Name cannot be empty.")))?;
            if !matches!(call.at("args"), Value::Object(_) | Value::Null) {
                let kind = "type.googleapis.com/google.protobuf.Struct";
                return Err(refuse(format!("Invalid value at '{place}.function_call.args' ({kind})")));
            }
            self.tokens += tokens(&call.at("args").to_string());
            self.calls.push(name.to_owned());
            subject = name.to_owned();
        } else if let Some(result) = field("functionResponse", "function_response").filter(|_| !model) {
            let name = result.at("name").as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| {
                refuse(format!("* GenerateContentRequest.{place}.function_response.name: Name cannot be empty."))
            })?;
            let Some(members) = result.at("response").as_object() else {
                let kind = "type.googleapis.com/google.protobuf.Struct";
                return Err(refuse(format!("Invalid value at '{place}.function_response.response' ({kind})")));
            };
            // One text in an object (`{"result": "..."}`) is quoted as that text.
            let text = match members.values().next().and_then(Value::as_str).filter(|_| members.len() == 1) {
                Some(text) => text.to_owned(),
                None => result.at("response").to_string(),
            };
            self.tokens += tokens(&text);
            self.results.push((name.to_owned(), text));
        } else if part.get("executableCode").or(part.get("codeExecutionResult")).is_none() {
            let what = "required oneof field 'data' must have one initialized field";
            return Err(refuse(format!("* GenerateContentRequest.{place}.data: {what}")));
        }
        let proof = field("thoughtSignature", "thought_signature");
        match proof.as_ref().and_then(Value::as_str) {
            Some(proof) if !STAND_INS.contains(&proof) && proof != signature("gemini", &subject) => {
                Err(refuse("Thought signature is not valid."))
            }
            _ => Ok(()),
        }
    }
}

fn calls(ask: &Ask, answer: &Answer) -> Vec<Value> {
    let call = |(name, arguments): &(String, Value)| json!({"functionCall": {"name": name, "args": arguments}});
    let mut parts: Vec<_> = answer.calls.iter().map(call).collect();
    if let Some((name, _)) = answer.calls.first() {
        sign(ask, name, &mut parts);
    }
    parts
}

/// Puts the signature of a thought on the first part that follows it.
fn sign(ask: &Ask, subject: &str, parts: &mut [Value]) {
    if let Some(part) = parts.first_mut().filter(|_| ask.reason) {
        part.set("thoughtSignature", signature("gemini", subject));
    }
}

fn chunk(ask: &Ask, stamp: &Stamp, candidate: Value, usage: Value) -> Value {
    json!({
        "candidates": [candidate], "usageMetadata": usage, "modelVersion": ask.model, "responseId": stamp.id("sbx"),
    })
}

/// Here the candidates' tokens leave out the thoughts.
fn usage(answer: &Answer) -> Value {
    let usage = &answer.usage;
    let mut details = vec![json!({"modality": "TEXT", "tokenCount": usage.input - usage.images})];
    if usage.images > 0 {
        details.push(json!({"modality": "IMAGE", "tokenCount": usage.images}));
    }
    let mut counts = json!({
        "promptTokenCount": usage.input, "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output, "promptTokensDetails": details,
    });
    if usage.reasoning > 0 {
        counts.set("thoughtsTokenCount", usage.reasoning);
    }
    if usage.cached > 0 {
        counts.set("cachedContentTokenCount", usage.cached);
        counts.set("cacheTokensDetails", json!([{"modality": "TEXT", "tokenCount": usage.cached}]));
    }
    counts
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Length => "MAX_TOKENS",
        _ => "STOP",
    }
}
