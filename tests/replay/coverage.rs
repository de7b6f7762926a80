//! Whether each member of a request is in the body that was encoded for a provider, or is a named loss.
//!
//! Strings are found by content, numbers by value under one of the names they may have, schemas as JSON. What a body
//! says without saying it (a default, a mode) stands in explicit rules.

use std::collections::BTreeMap;

use portolan::ir::Losses;
use serde_json::Value;

use super::plain::{items, members, says};
use super::recordings::Speech;
use super::tally::without_places;

/// Members that lay out a request; what they hold is found by its other members.
const LAYOUT: [&str; 9] = [
    "model",
    "stream",
    "stream_options.include_usage",
    "messages[].role",
    "messages[].content[].type",
    "messages[].tool_calls[].type",
    "messages[].content[].thinking[].type",
    "tools[].type",
    "tool_choice.type",
];

/// Values that are compared as JSON, whole.
const WHOLE: [&str; 7] = [
    "tools[].function.parameters",
    "functions[].parameters",
    "response_format.json_schema.schema",
    "response_format.schema",
    "metadata",
    "logit_bias",
    "messages[].reasoning_details",
];

/// Names of values in encoded bodies, by their name in the request; a number that is not here keeps its name, a string
/// may stand anywhere.
const NAMES: [(&str, &[&str]); 27] = [
    ("messages[].content", &["content", "text", "system", "result", "error"]),
    ("messages[].content[].text", &["content", "text", "system", "result", "error"]),
    ("messages[].tool_call_id", &["tool_call_id", "tool_use_id", "id"]),
    ("messages[].tool_calls[].id", &["id"]),
    ("messages[].tool_calls[].function.name", &["name"]),
    ("tools[].function.name", &["name"]),
    ("tools[].function.description", &["description"]),
    ("functions[].name", &["name"]),
    ("functions[].description", &["description"]),
    ("stop", &["stop", "stop_sequences", "stopSequences"]),
    ("stop[]", &["stop", "stop_sequences", "stopSequences"]),
    ("user", &["user", "user_id"]),
    ("tool_choice.function.name", &["name", "allowedFunctionNames"]),
    ("temperature", &["temperature"]),
    ("top_p", &["top_p", "topP"]),
    ("top_k", &["top_k", "topK"]),
    ("seed", &["seed", "random_seed"]),
    ("random_seed", &["random_seed"]),
    ("frequency_penalty", &["frequency_penalty", "frequencyPenalty"]),
    ("presence_penalty", &["presence_penalty", "presencePenalty"]),
    ("max_tokens", &["max_tokens", "max_completion_tokens", "maxOutputTokens"]),
    ("max_completion_tokens", &["max_tokens", "max_completion_tokens", "maxOutputTokens"]),
    ("top_logprobs", &["top_logprobs", "logprobs"]),
    ("n", &["n", "candidateCount"]),
    ("reasoning.max_tokens", &["max_tokens", "budget_tokens", "thinkingBudget", "thinking_budget"]),
    ("thinking.budget_tokens", &["max_tokens", "budget_tokens", "thinkingBudget", "thinking_budget"]),
    ("messages[].tool_calls[].index", &["index"]),
];

/// What a JSON Schema says to its readers alone, or what Gemini's subset says in words of its own.
const NOTES: [&str; 10] = [
    "$schema",
    "$id",
    "$ref",
    "additionalProperties",
    "strict",
    "type",
    "format",
    "nullable",
    "const",
    "exclusiveMinimum",
];

/// The wish to think has many forms; a loss of any of them is named for one.
const THINKING: [&str; 5] = ["reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget"];

/// Every member that is neither in the body nor covered by a loss.
pub fn uncovered(asked: &Value, body: &Value, losses: &Losses, speech: Speech) -> Vec<String> {
    let mut search = Search {
        body,
        losses,
        speech,
        strings: Vec::new(),
        leaves: Vec::new(),
        texts: BTreeMap::new(),
        missing: Vec::new(),
    };
    collect(body, "", &mut search.strings, &mut search.leaves);
    search.walk(asked, String::new(), asked);
    search.count_texts();
    search.missing
}

/// Losses that name nothing which the request has.
pub fn spurious(asked: &Value, losses: &Losses) -> Vec<String> {
    let wrong = losses.iter().filter(|loss| !exists(asked, &loss.path));
    wrong.map(|loss| format!("`{}` is a loss, but not in the request", loss.path)).collect()
}

/// Whether the request has the member that a path begins with.
pub fn exists(asked: &Value, path: &str) -> bool {
    let first = path.split(['.', '[']).next().unwrap();
    let old = |name: &str| match name {
        "tools" => Some("functions"),
        "tool_choice" => Some("function_call"),
        _ => None,
    };
    says(&asked[first])
        || old(first).is_some_and(|name| says(&asked[name]))
        || THINKING.contains(&first) && THINKING.iter().any(|name| says(&asked[*name]))
}

struct Search<'s> {
    body: &'s Value,
    losses: &'s Losses,
    speech: Speech,
    strings: Vec<&'s str>,
    /// Name and value of everything in the body.
    leaves: Vec<(&'s str, &'s Value)>,
    /// Texts of the conversation that are there, and how often they must be.
    texts: BTreeMap<String, usize>,
    missing: Vec<String>,
}

fn collect<'v>(value: &'v Value, name: &'v str, strings: &mut Vec<&'v str>, leaves: &mut Vec<(&'v str, &'v Value)>) {
    leaves.push((name, value));
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(list) => list.iter().for_each(|item| collect(item, name, strings, leaves)),
        Value::Object(members) => members.iter().for_each(|(name, value)| collect(value, name, strings, leaves)),
        _ => {}
    }
}

impl<'s> Search<'s> {
    fn walk(&mut self, value: &Value, path: String, asked: &Value) {
        let kind = without_places(&path);
        if LAYOUT.contains(&kind.as_str()) {
            return;
        }
        let whole = WHOLE.contains(&kind.as_str());
        match value {
            Value::Object(inner) if !whole && !inner.is_empty() => {
                for (name, value) in inner {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.walk(value, path, asked);
                }
            }
            Value::Array(inner) if !whole && !inner.is_empty() => {
                for (n, value) in inner.iter().enumerate() {
                    self.walk(value, format!("{path}[{n}]"), asked);
                }
            }
            _ if !says(value) => {}
            _ => {
                if self.is_lost(&path) {
                    return;
                }
                if !self.is_there(value, &path, &kind, asked) {
                    let value: String = value.to_string().chars().take(80).collect();
                    self.missing.push(format!("`{path}` = {value} is neither in the body nor a named loss"));
                } else if matches!(kind.as_str(), "messages[].content" | "messages[].content[].text") {
                    *self.texts.entry(value.as_str().unwrap().to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// A text that was said twice must be there twice.
    fn count_texts(&mut self) {
        for (text, wanted) in &self.texts {
            let json = serde_json::from_str::<Value>(text).ok();
            let as_json = self.leaves.iter().filter(|(_, found)| json.as_ref() == Some(*found)).count();
            let found: usize = self.strings.iter().map(|found| found.matches(text.as_str()).count()).sum();
            if found + as_json < *wanted {
                let text: String = text.chars().take(60).collect();
                self.missing.push(format!("`{text}` is there {found} times, said {wanted} times"));
            }
        }
    }

    /// Whether a loss names this path, what holds it, or a part of it.
    fn is_lost(&self, path: &str) -> bool {
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let first = path.split(['.', '[']).next().unwrap();
        // Thoughts have several carriers; a loss of any of them is named for one.
        let carrier = ["].reasoning", "].content["].into_iter().find_map(|carrier| path.split_once(carrier));
        let carrier = carrier.filter(|(_, rest)| path.contains("].reasoning") || rest.contains("].thinking"));
        let thoughts = carrier.map(|(message, _)| format!("{message}].reasoning"));
        self.losses.iter().any(|loss| {
            thoughts.as_ref().is_some_and(|thoughts| begins(&loss.path, thoughts))
                || begins(path, &loss.path)
                || begins(&loss.path, path)
                || THINKING.contains(&first) && THINKING.contains(&loss.path.split('.').next().unwrap())
        })
    }

    fn is_there(&self, value: &Value, path: &str, kind: &str, asked: &Value) -> bool {
        if let Some(there) = self.by_rule(value, path, kind, asked) {
            return there;
        }
        if WHOLE.contains(&kind) {
            return self.has_json(value);
        }
        let name = kind.rsplit('.').next().unwrap().trim_end_matches("[]");
        let names = NAMES.iter().find(|(known, _)| *known == kind).map(|(_, names)| *names);
        match value {
            Value::String(text) => match names {
                None => self.has_text(text),
                Some(names) => self.leaves.iter().any(|(name, found)| {
                    // A result that is an object by itself may stand in the body as one.
                    names.contains(name) && found.as_str().is_some_and(|found| found.contains(text.as_str()))
                        || *name == "response" && serde_json::from_str::<Value>(text).is_ok_and(|json| json == **found)
                }),
            },
            Value::Number(_) => {
                let own = [name];
                let names = names.unwrap_or(&own);
                self.leaves.iter().any(|(name, found)| names.contains(name) && same_number(found, value))
            }
            _ => self.leaves.iter().any(|(found, other)| *found == name && *other == value),
        }
    }

    fn has_text(&self, text: &str) -> bool {
        // A result that is an object by itself may stand in the body as one.
        self.strings.iter().any(|found| found.contains(text))
            || serde_json::from_str::<Value>(text).is_ok_and(|json| !json.is_string() && self.has_json(&json))
    }

    fn has_json(&self, value: &Value) -> bool {
        self.leaves.iter().any(|(_, found)| *found == value)
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.leaves.iter().any(|(found, other)| *found == name && other.as_str() == Some(value))
    }

    fn has_member(&self, name: &str) -> bool {
        self.leaves.iter().any(|(found, _)| *found == name)
    }

    /// What a body says in other words than the request's, or by saying nothing; `None`: no rule, look for the value.
    fn by_rule(&self, value: &Value, path: &str, kind: &str, asked: &Value) -> Option<bool> {
        let chat = self.speech == Speech::Chat;
        let text = value.as_str().unwrap_or_default();
        let functions = || items(&asked["tools"]).chain(items(&asked["functions"])).count() > 0;
        Some(match kind {
            // One candidate is what every provider gives.
            "n" if *value == 1 => true,
            "tool_choice" | "function_call" => match (text, self.speech) {
                // Nothing can be called where there is nothing to call.
                ("auto" | "none", _) if !functions() => true,
                ("any" | "required", Speech::Chat) => self.body["tool_choice"] == "required",
                (word, Speech::Chat) => self.body["tool_choice"] == word,
                ("auto", Speech::Messages) => {
                    matches!(self.body["tool_choice"]["type"].as_str(), None | Some("auto"))
                }
                ("none", Speech::Messages) => self.body["tool_choice"]["type"] == "none",
                (_, Speech::Messages) => self.body["tool_choice"]["type"] == "any",
                ("auto", Speech::Gemini) => matches!(self.mode(), None | Some("AUTO" | "VALIDATED")),
                ("none", Speech::Gemini) => self.mode() == Some("NONE"),
                (_, _) => self.mode() == Some("ANY"),
            },
            "parallel_tool_calls" => match (value.as_bool().unwrap(), self.speech) {
                (true, _) if !chat => true,
                (wanted, _) if chat => self.body["parallel_tool_calls"] == wanted,
                (false, Speech::Messages) => self.body["tool_choice"]["disable_parallel_tool_use"] == true,
                _ => false,
            },
            // Gemini holds every schema; a call that must be made is held to its schema by the mode.
            "tools[].function.strict" if self.speech == Speech::Gemini => {
                value == false || matches!(self.mode(), Some("ANY" | "VALIDATED" | "NONE"))
            }
            "tools[].function.strict" if value == false && !chat => true,
            "response_format.json_schema.strict" if !chat => {
                ["responseJsonSchema", "responseSchema", "output_config"].iter().any(|name| self.has_member(name))
            }
            "response_format.json_schema.schema" if !chat => self.has_schema(value),
            // No penalty is what every provider imposes.
            "frequency_penalty" | "presence_penalty" if !chat && value.as_f64() == Some(0.0) => true,
            "modalities[]" if self.speech == Speech::Gemini => self.has("responseModalities", &text.to_uppercase()),
            "response_format.type" => match (text, self.speech) {
                ("text", _) => true,
                (word, Speech::Chat) => self.body["response_format"]["type"] == word,
                (_, Speech::Gemini) => self.has("responseMimeType", "application/json"),
                (_, _) => self.has_member("output_config") || self.has_member("output_format"),
            },
            "logprobs" | "store" if value == false && !chat => true,
            "logprobs" if self.speech == Speech::Gemini => self.body["generationConfig"]["responseLogprobs"] == true,
            "top_logprobs" if *value == 0 && !chat => true,
            "reasoning_effort" | "reasoning.effort" => self.thinks(text == "none"),
            "reasoning.enabled" | "enable_thinking" => self.thinks(value == false),
            "thinking.type" => self.thinks(text == "disabled"),
            // What is left of a stream: it says where the call stands anyway.
            "messages[].tool_calls[].index" if !chat => true,
            // OpenAI's word for no priority.
            "service_tier" if text == "default" && self.speech == Speech::Messages => {
                self.body["service_tier"] == "standard_only"
            }
            "reasoning.exclude" => {
                self.has_member("exclude")
                    || self.has("display", "omitted")
                    || self.body["generationConfig"]["thinkingConfig"].is_object()
            }
            // No arguments are told by no schema at all.
            "tools[].function.parameters" | "functions[].parameters" => self.has_schema(value),
            "messages[].tool_calls[].function.arguments" => self.has_arguments(text),
            "messages[].content[].image_url.url"
            | "messages[].content[].image_url"
            | "messages[].content[].video_url.url"
            | "messages[].content[].file.file_data" => self.has_data(text),
            "messages[].content[].image_url.detail" if text == "auto" => true,
            "messages[].content[].input_audio.format" => self.has_text(text) || path.is_empty(),
            "messages[].reasoning_details" => items(value).all(|detail| {
                ["text", "summary", "data", "signature"]
                    .iter()
                    .filter_map(|name| detail[*name].as_str())
                    .all(|part| self.has_text(part))
            }),
            _ => return None,
        })
    }

    fn mode(&self) -> Option<&str> {
        self.body["toolConfig"]["functionCallingConfig"]["mode"].as_str()
    }

    /// Whether the body says that the model shall think, or (`off`) that it shall not.
    fn thinks(&self, off: bool) -> bool {
        match self.speech {
            Speech::Chat => THINKING.iter().any(|name| !self.body[*name].is_null()) || off,
            Speech::Messages => self.body["thinking"].is_object() || off,
            _ => self.body["generationConfig"]["thinkingConfig"].is_object(),
        }
    }

    fn has_schema(&self, schema: &Value) -> bool {
        let mut typed = schema.clone();
        if let Some(members) = typed.as_object_mut() {
            members.entry("type").or_insert("object".into());
        }
        let empty = schema["properties"].as_object().is_none_or(|properties| properties.is_empty())
            && !members(schema).any(|(name, _)| ["$ref", "anyOf", "oneOf", "allOf"].contains(&name.as_str()))
            && !schema["additionalProperties"].is_object();
        let rewritten = self.speech != Speech::Chat && self.says_schema(schema);
        empty && self.speech != Speech::Chat || self.has_json(schema) || self.has_json(&typed) || rewritten
    }

    /// Whether a schema in a provider's own words says what this one says: names of members and all it states of them.
    fn says_schema(&self, schema: &Value) -> bool {
        members(schema).all(|(name, value)| match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", properties) => {
                members(properties).all(|(name, value)| {
                    let there = self.has_member(name) || name == "$defs" || schema["$defs"].is_object();
                    there && self.says_schema(value)
                })
            }
            (name, _) if NOTES.contains(&name) => true,
            ("items" | "not", inner) => self.says_schema(inner),
            ("anyOf" | "oneOf" | "allOf", list) => items(list).all(|inner| self.says_schema(inner)),
            ("required" | "enum" | "examples", list) => items(list).all(|item| self.has_leaf(item)),
            (_, leaf) => self.has_leaf(leaf),
        })
    }

    fn has_leaf(&self, leaf: &Value) -> bool {
        match leaf {
            Value::String(text) => self.has_text(text),
            Value::Null => true,
            Value::Number(_) => self.leaves.iter().any(|(_, found)| same_number(found, leaf)),
            _ => self.has_json(leaf),
        }
    }

    fn has_arguments(&self, text: &str) -> bool {
        match serde_json::from_str::<Value>(text) {
            // Some models write null for no arguments.
            Ok(Value::Null) if self.speech != Speech::Chat => true,
            Ok(json) if self.speech != Speech::Chat => {
                self.leaves.iter().any(|(name, found)| ["args", "input"].contains(name) && **found == json)
            }
            _ => self.has("arguments", if text.is_empty() { "{}" } else { text }),
        }
    }

    /// An address, or the bytes of a `data:` address with their type.
    fn has_data(&self, url: &str) -> bool {
        match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((mime, data)) if !self.has_text(url) => self.has_text(data) && self.has_text(mime),
            Some(_) => true,
            None => self.has_text(url),
        }
    }
}

fn same_number(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some() && one.as_f64() == other.as_f64()
}
