//! Requests: the IR to `GenerateContentRequest`.
//!
//! Every member of the request ends in the body or in the losses, under the name that the caller gave it.

use super::NAME;
use super::contents;
use super::media::nested;
use super::name;
use super::schema;
use super::thinking::{self, Model};
use super::wire::Bag;
use crate::dialect::{To, Unsayable, additions};
use crate::ir::{Format, Losses, Request, Tool, ToolChoice};
use crate::wire::json::{Extras, Kind, Raw, Text};
use crate::wire::writer::{self, Object};

/// Most stop sequences that Gemini takes.
const MOST_STOPS: usize = 5;
/// Its highest temperature.
const HOTTEST: f64 = 2.0;

/// Writes the body.
pub(super) fn encode(
    request: &Request<'_>,
    to: &To<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<(), Unsayable> {
    for (i, tool) in request.tools.iter().enumerate() {
        if let Tool::Function { name, .. } = tool
            && name::safe(name).len() > name::LONGEST
        {
            return Err(Unsayable {
                path: format!("tools[{i}].function.name"),
                message: format!("Gemini takes function names of at most {} characters", name::LONGEST),
            });
        }
    }
    let model = Model::of(to.model);
    let start = out.len();
    writer::object(out, |o| {
        contents::write(request, model, losses, o);
        tools(request, model, to, losses, o);
        let mut config = Vec::new();
        writer::object(&mut config, |o| Config { request, model, to, losses, o }.write());
        if config != b"{}" {
            o.value("generationConfig").extend_from_slice(&config);
        }
        rest(request, losses, o);
    });
    additions::complete(to.quirks, start, out);
    Ok(())
}

/// What stands at the top of a request and has no place in Gemini's, and what only Gemini knows.
fn rest(request: &Request<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    let absent = [
        (request.user.is_some(), "user"),
        (request.metadata.is_some(), "metadata"),
        (request.service_tier.is_some() && request.origin.0 != NAME, "service_tier"),
        (request.cache_key.is_some(), "prompt_cache_key"),
    ];
    for (_, name) in absent.into_iter().filter(|(is, _)| *is) {
        losses.dropped(name);
    }
    if let Some(tier) = request.service_tier.as_deref().filter(|_| request.origin.0 == NAME) {
        o.string("serviceTier", if tier == "default" { "standard" } else { tier });
    }
    let inner = |name: &str| name.starts_with("generationConfig.") || name.starts_with("toolConfig.");
    for (name, json) in request.extras.iter() {
        match name {
            name if request.origin.0 == NAME && inner(name) => {}
            "modalities" if modalities(json).is_some() => {}
            _ if request.origin.0 == NAME => o.raw(name, json),
            _ => losses.dropped(name.to_owned()),
        }
    }
}

/// `modalities` of a Chat request, in Gemini's words.
fn modalities(json: &Raw<'_>) -> Option<Vec<&'static str>> {
    let names: Vec<Text<'_>> = json.read().ok()?;
    names
        .iter()
        .map(|name| match name.as_str() {
            "text" => Some("TEXT"),
            "image" => Some("IMAGE"),
            "audio" => Some("AUDIO"),
            _ => None,
        })
        .collect()
}

/// Whether schemas go into the members that take JSON Schema as it is.
fn takes_json_schema(model: Model<'_>, to: &To<'_>) -> bool {
    model.since((2, 0), true) && !to.quirks.no_json_schema
}

fn tools(request: &Request<'_>, model: Model<'_>, to: &To<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    let functions = request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. }));
    let own = |tool: &&Tool<'_>| matches!(tool, Tool::Other { .. }) && request.origin.0 == NAME;
    let mut strict = false;
    if functions || request.tools.iter().any(|tool| own(&tool)) {
        o.array("tools", |a| {
            if functions {
                a.object(|o| {
                    o.array("functionDeclarations", |a| {
                        for (i, tool) in request.tools.iter().enumerate() {
                            if matches!(tool, Tool::Function { .. }) {
                                a.object(|o| {
                                    strict |= function(tool, i, request, takes_json_schema(model, to), losses, o)
                                });
                            }
                        }
                    });
                });
            }
            for tool in request.tools.iter().filter(own) {
                if let Tool::Other { json, .. } = tool {
                    a.raw(json);
                }
            }
        });
    }
    for (i, tool) in request.tools.iter().enumerate() {
        if matches!(tool, Tool::Other { .. }) && !own(&tool) {
            losses.dropped(format!("tools[{i}]"));
        }
    }
    if request.parallel_tool_calls == Some(false) {
        losses.dropped("parallel_tool_calls");
    }
    choice(request, functions, strict, model, losses, o);
}

/// Writes one declaration. Returns whether calls must satisfy its schema.
fn function(
    tool: &Tool<'_>,
    i: usize,
    request: &Request<'_>,
    json_schema: bool,
    losses: &mut Losses,
    o: &mut Object<'_>,
) -> bool {
    let Tool::Function { name, description, parameters, strict, cache, extras } = tool else { return false };
    let safe = name::safe(name);
    o.string("name", &safe);
    if safe != name.as_str() {
        losses.emulated(format!("tools[{i}].function.name"));
    }
    if let Some(description) = description {
        o.string("description", description);
    }
    if let Some(schema) = parameters.as_ref().filter(|schema| !is_empty(schema)) {
        let path = || format!("tools[{i}].function.parameters");
        if json_schema {
            if !object_schema(schema, o.value("parametersJsonSchema")) {
                losses.altered(path());
            }
        } else if !schema::adapt(schema, o.value("parameters")) {
            losses.altered(path());
        }
    }
    if cache.is_some() {
        losses.dropped(format!("tools[{i}].cache_control"));
    }
    for (name, json) in extras.iter() {
        if request.origin.0 == NAME {
            o.raw(name, json);
        } else {
            losses.dropped(format!("tools[{i}].{name}"));
        }
    }
    *strict == Some(true)
}

/// Whether a schema says that there are no arguments; Gemini then wants none.
fn is_empty(schema: &Raw<'_>) -> bool {
    if schema.is_null() || schema.get() == "true" {
        return true;
    }
    let Ok(Bag { extras }) = schema.read::<Bag<'_>>() else { return false };
    let notes = ["type", "$schema", "title", "description", "additionalProperties", "required", "strict"];
    extras.iter().all(|(name, json)| match name {
        "properties" => json.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.is_empty()),
        "additionalProperties" => json.kind() == Kind::Bool,
        "required" => json.read::<Vec<Raw<'_>>>().is_ok_and(|list| list.is_empty()),
        _ => notes.contains(&name),
    })
}

/// Writes the schema as it is; Gemini wants it told that arguments are an object. Returns whether it was a schema at
/// all.
fn object_schema(schema: &Raw<'_>, out: &mut Vec<u8>) -> bool {
    let Ok(Bag { extras }) = schema.read::<Bag<'_>>() else {
        out.extend_from_slice(br#"{"type":"object"}"#);
        return false;
    };
    let typed = ["type", "$ref", "anyOf", "oneOf", "allOf"].iter().any(|name| extras.get(name).is_some());
    if typed {
        out.extend_from_slice(schema.get().as_bytes());
    } else {
        writer::object(out, |o| {
            o.string("type", "object");
            o.extras(&extras);
        });
    }
    true
}

fn choice(
    request: &Request<'_>,
    functions: bool,
    strict: bool,
    model: Model<'_>,
    losses: &mut Losses,
    o: &mut Object<'_>,
) {
    // `VALIDATED`: calls or text as the model likes, calls held to their schemas (Gemini API, "Function calling", seen
    // 2026-11-21). `ANY` holds them as well.
    let validates = model.since((2, 5), true);
    if strict {
        let mut each = |how: fn(&mut Losses, String)| {
            for (i, tool) in request.tools.iter().enumerate() {
                if matches!(tool, Tool::Function { strict: Some(true), .. }) {
                    how(losses, format!("tools[{i}].function.strict"));
                }
            }
        };
        match &request.tool_choice {
            Some(ToolChoice::None | ToolChoice::Required | ToolChoice::Function(_)) => {}
            Some(ToolChoice::Allowed { required: true, .. }) => {}
            _ if validates => each(|losses, path| losses.emulated(path)),
            _ => each(|losses, path| losses.dropped(path)),
        }
    }
    let free = if strict && validates { "VALIDATED" } else { "AUTO" };
    let chosen: Option<(&str, &[Text<'_>])> = match &request.tool_choice {
        None if strict && validates => Some(("VALIDATED", &[])),
        None => None,
        Some(ToolChoice::Auto) => Some((free, &[])),
        Some(ToolChoice::None) => Some(("NONE", &[])),
        Some(ToolChoice::Required) => Some(("ANY", &[])),
        Some(ToolChoice::Function(name)) => Some(("ANY", std::slice::from_ref(name))),
        Some(ToolChoice::Allowed { required: true, names }) => Some(("ANY", names)),
        Some(ToolChoice::Allowed { required: false, names }) if validates => Some(("VALIDATED", names)),
        Some(ToolChoice::Allowed { .. }) => {
            losses.dropped("tool_choice");
            Some(("AUTO", &[]))
        }
        Some(ToolChoice::Other(_)) => {
            losses.dropped("tool_choice");
            None
        }
    };
    let none = Extras::default();
    let own = if request.origin.0 == NAME { &request.extras } else { &none };
    if !functions && request.origin.0 != NAME {
        // A mode without functions is refused; where it forbids or merely allows calls, nothing is lost.
        if chosen.is_some_and(|(mode, _)| mode == "ANY") {
            losses.dropped("tool_choice");
        }
        return;
    }
    let mut config = Vec::new();
    writer::object(&mut config, |o| {
        let mut calling = Vec::new();
        writer::object(&mut calling, |o| {
            let path = "toolConfig.functionCallingConfig";
            if let Some((mode, names)) = chosen {
                if own.get("toolConfig.functionCallingConfig.mode").is_none() {
                    o.string("mode", mode);
                }
                if !names.is_empty() {
                    o.array("allowedFunctionNames", |a| names.iter().for_each(|name| a.string(&name::safe(name))));
                }
            }
            nested(own, path).for_each(|(name, json)| o.raw(name, json));
        });
        if calling != b"{}" {
            o.value("functionCallingConfig").extend_from_slice(&calling);
        }
        nested(own, "toolConfig").for_each(|(name, json)| o.raw(name, json));
    });
    if config != b"{}" {
        o.value("toolConfig").extend_from_slice(&config);
    }
}

/// `generationConfig` being written.
struct Config<'c, 'w> {
    request: &'c Request<'c>,
    model: Model<'c>,
    to: &'c To<'c>,
    losses: &'c mut Losses,
    o: &'c mut Object<'w>,
}

impl Config<'_, '_> {
    fn write(mut self) {
        self.limits();
        self.sampling();
        self.logprobs();
        self.format();
        let own = self.request.origin.0 == NAME;
        let extras = &self.request.extras;
        if own {
            let mut thinking = Vec::new();
            writer::object(&mut thinking, |o| {
                if let Some(wish) = &self.request.reasoning {
                    thinking::write_own(wish, o);
                }
                nested(extras, "generationConfig.thinkingConfig").for_each(|(name, json)| o.raw(name, json));
            });
            if thinking != b"{}" {
                self.o.value("thinkingConfig").extend_from_slice(&thinking);
            }
        } else if let Some(wish) = &self.request.reasoning {
            if self.to.abilities.reasoning == Some(false) {
                self.losses.dropped(if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" });
            } else {
                thinking::write(wish, self.model, self.losses, self.o);
            }
        }
        if let Some(names) = self.request.extras.get("modalities").and_then(modalities) {
            self.o.array("responseModalities", |a| names.iter().for_each(|name| a.string(name)));
        }
        if own {
            nested(extras, "generationConfig").for_each(|(name, json)| self.o.raw(name, json));
        }
    }

    /// Whether the target takes a member; where it does not, the caller is told by the name that he gave it.
    fn takes(&mut self, member: &str, caller: &'static str) -> bool {
        let refused = self.to.quirks.refuses.iter().any(|refused| refused == member || refused == caller);
        if refused {
            self.losses.dropped(caller);
        }
        !refused
    }

    fn limits(&mut self) {
        let request = self.request;
        if let Some(most) = request.max_tokens
            && self.takes("maxOutputTokens", "max_tokens")
        {
            self.o.number("maxOutputTokens", most);
        }
        if !request.stop.is_empty() && self.takes("stopSequences", "stop") {
            self.o.array("stopSequences", |a| request.stop.iter().take(MOST_STOPS).for_each(|stop| a.string(stop)));
            if request.stop.len() > MOST_STOPS {
                self.losses.altered("stop");
            }
        }
        if let Some(candidates) = request.sampling.candidates
            && self.takes("candidateCount", "n")
        {
            self.o.number("candidateCount", candidates);
        }
    }

    fn sampling(&mut self) {
        let sampling = &self.request.sampling;
        if let Some(temperature) = &sampling.temperature
            && self.takes("temperature", "temperature")
        {
            if temperature.as_f64() > HOTTEST {
                self.o.number("temperature", 2);
                self.losses.altered("temperature");
            } else {
                self.o.digits("temperature", temperature);
            }
        }
        for (number, member, caller) in [
            (&sampling.top_p, "topP", "top_p"),
            (&sampling.top_k, "topK", "top_k"),
            (&sampling.seed, "seed", "seed"),
            (&sampling.presence_penalty, "presencePenalty", "presence_penalty"),
            (&sampling.frequency_penalty, "frequencyPenalty", "frequency_penalty"),
        ] {
            if let Some(number) = number
                && self.takes(member, caller)
            {
                self.o.digits(member, number);
            }
        }
        if sampling.logit_bias.is_some() {
            self.losses.dropped("logit_bias");
        }
    }

    fn logprobs(&mut self) {
        let sampling = &self.request.sampling;
        if let Some(asked) = sampling.logprobs
            && self.takes("responseLogprobs", "logprobs")
        {
            self.o.bool("responseLogprobs", asked);
        }
        match sampling.top_logprobs {
            Some(top) if sampling.logprobs == Some(true) && self.takes("logprobs", "top_logprobs") => {
                self.o.number("logprobs", top);
            }
            // Gemini refuses a number of alternatives where none are asked for.
            Some(top) if sampling.logprobs != Some(true) && top > 0 => self.losses.dropped("top_logprobs"),
            _ => {}
        }
    }

    fn format(&mut self) {
        let functions = self.request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. }));
        match &self.request.format {
            Format::Free => {}
            Format::Text => self.o.string("responseMimeType", "text/plain"),
            // Refused before Gemini 3: "Function calling with a response mime type: 'application/json' is unsupported"
            // (googleapis/python-genai issues 706 and 867).
            _ if functions && !self.model.since((3, 0), true) && self.request.origin.0 != NAME => {
                self.losses.dropped("response_format");
            }
            Format::JsonObject => self.o.string("responseMimeType", "application/json"),
            Format::JsonSchema { name, description, schema, .. } => {
                self.o.string("responseMimeType", "application/json");
                if self.to.abilities.structured_output == Some(false) {
                    self.losses.altered("response_format");
                } else if takes_json_schema(self.model, self.to) {
                    self.schema(schema, name.as_deref(), description.as_deref());
                } else {
                    self.subset(schema, name.is_some(), description.is_some());
                }
            }
        }
    }

    /// The schema as it is, with the name and description that stand beside it in a Chat request as its own.
    fn schema(&mut self, schema: &Raw<'_>, name: Option<&str>, description: Option<&str>) {
        let Ok(Bag { extras }) = schema.read::<Bag<'_>>() else {
            return self.o.raw("responseJsonSchema", schema);
        };
        // Nothing may stand beside a reference.
        let open = extras.get("$ref").is_none();
        let mut add: Vec<(&str, &str)> = Vec::new();
        for (member, text, path) in [
            ("title", name, "response_format.json_schema.name"),
            ("description", description, "response_format.json_schema.description"),
        ] {
            let Some(text) = text else { continue };
            match extras.get(member) {
                None if open => add.push((member, text)),
                Some(same) if same.read::<Text<'_>>().is_ok_and(|same| same == text) => {}
                _ => self.losses.dropped(path),
            }
        }
        if add.is_empty() {
            return self.o.raw("responseJsonSchema", schema);
        }
        self.o.object("responseJsonSchema", |o| {
            for (member, text) in add {
                o.string(member, text);
            }
            o.extras(&extras);
        });
    }

    fn subset(&mut self, schema: &Raw<'_>, named: bool, described: bool) {
        if !schema::adapt(schema, self.o.value("responseSchema")) {
            self.losses.altered("response_format.json_schema.schema");
        }
        for (is, path) in
            [(named, "response_format.json_schema.name"), (described, "response_format.json_schema.description")]
        {
            if is {
                self.losses.dropped(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_arguments_are_told_by_any_schema_that_has_none() {
        let empty = |schema| is_empty(&Raw::parse(schema).unwrap());
        assert!(empty("{}") && empty("null") && empty("true"));
        assert!(empty(r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#));
        assert!(!empty(r#"{"type":"object","properties":{"a":{}}}"#));
        assert!(!empty(r#"{"type":"object","additionalProperties":{"type":"string"}}"#));
        assert!(!empty(r##"{"$ref":"#/$defs/A"}"##));
    }
}
