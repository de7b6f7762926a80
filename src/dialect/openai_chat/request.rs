//! Requests, read: a caller's body into the IR. As strict as OpenAI on what we interpret, lenient on the rest.

use crate::dialect::CONTROLS;
use crate::ir::message::CacheMark;
use crate::ir::{Effort, Format, ReasoningWish, Request, Sampling, Tool, ToolChoice};
use crate::wire::json::{self, Extras, Invalid, Kind, Number, Raw, Text, TextOr};

use super::message::{self, Calls};
use super::wire::{
    FunctionDef, Named, ORIGIN, ReasoningObject, RequestBody, ResponseFormat, Thinking, ToolChoiceObject, ToolDef,
    adopt, at, invalid,
};

/// Reads a caller's request.
///
/// # Errors
/// A member that we interpret is missing or of the wrong type.
pub fn decode<'a>(body: &'a [u8]) -> Result<Request<'a>, Invalid> {
    let body: RequestBody<'a> = json::read(body)?;
    let mut extras = Extras::default();
    adopt(&mut extras, "", body.extras);
    extras.0.retain(|(name, _)| !CONTROLS.contains(&name.as_str()));

    let model = body.model.ok_or_else(|| invalid("model", "a value is required"))?;
    let messages = body.messages.ok_or_else(|| invalid("messages", "a value is required"))?;
    if messages.is_empty() {
        return Err(invalid("messages", "expected at least one message"));
    }
    let mut calls = Calls::default();
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(i, message)| message::decode(i, message, &mut calls))
        .collect::<Result<_, _>>()?;

    let mut tools = Vec::new();
    for (i, raw) in body.tools.unwrap_or_default().into_iter().enumerate() {
        tools.push(tool(raw).map_err(|e| at(&format!("tools[{i}]"), e))?);
    }
    for (i, raw) in body.functions.unwrap_or_default().into_iter().enumerate() {
        let definition: FunctionDef<'a> = raw.open().map_err(|e| at(&format!("functions[{i}]"), e))?;
        tools.push(
            function(definition, None, Extras::default())
                .map_err(|e| at(&format!("functions[{i}]"), strip(e, "function.")))?,
        );
    }
    let tool_choice = match (body.tool_choice, body.function_call) {
        (Some(raw), _) => Some(tool_choice(raw, "tool_choice", &mut extras)?),
        (None, Some(raw)) => Some(function_choice(raw)?),
        (None, None) => None,
    };
    let reasoning =
        wish(body.effort, body.reasoning, body.thinking, body.enable_thinking, body.thinking_budget, &mut extras)?;
    let format = match body.format {
        Some(raw) => format(raw, &mut extras)?,
        None => Format::Free,
    };
    let mut include_usage = false;
    if let Some(options) = body.stream_options {
        include_usage = options.include_usage == Some(true);
        adopt(&mut extras, "stream_options", options.extras);
    }
    Ok(Request {
        origin: ORIGIN,
        model,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: body.parallel,
        format,
        reasoning,
        sampling: Sampling {
            temperature: body.temperature,
            top_p: body.top_p,
            top_k: body.top_k,
            seed: body.seed,
            frequency_penalty: body.frequency_penalty,
            presence_penalty: body.presence_penalty,
            logit_bias: body.logit_bias.map(|raw| object(raw, "logit_bias")).transpose()?,
            logprobs: body.logprobs,
            top_logprobs: count(body.top_logprobs, "top_logprobs", 0)?,
            candidates: count(body.n, "n", 1)?,
        },
        // The newer name wins where a caller sends both.
        max_tokens: match count(body.max_completion_tokens, "max_completion_tokens", 1)? {
            None => count(body.max_tokens, "max_tokens", 1)?,
            most => most,
        },
        stop: match body.stop {
            None => Vec::new(),
            Some(TextOr::Text(text)) => vec![text],
            Some(TextOr::Full(texts)) => texts,
        },
        stream: body.stream == Some(true),
        include_usage,
        user: body.user,
        metadata: body.metadata.map(|raw| object(raw, "metadata")).transpose()?,
        service_tier: body.service_tier,
        cache_key: body.cache_key,
        extras,
    })
}

fn count(n: Option<Number<'_>>, path: &str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(n) = n else { return Ok(None) };
    match n.as_u64() {
        Some(n) if n >= least => Ok(Some(n)),
        _ => Err(invalid(
            path,
            format!("expected a whole number of at least {least}, got `{}`", json::clip(n.get(), 40)),
        )),
    }
}

fn object<'a>(raw: Raw<'a>, path: &str) -> Result<Raw<'a>, Invalid> {
    if raw.kind() == Kind::Object { Ok(raw) } else { Err(invalid(path, "expected an object")) }
}

fn strip(mut invalid: Invalid, prefix: &str) -> Invalid {
    if let Some(rest) = invalid.path.strip_prefix(prefix) {
        invalid.path = rest.to_owned();
    }
    invalid
}

fn tool<'a>(raw: Raw<'a>) -> Result<Tool<'a>, Invalid> {
    let shape: ToolDef<'a> = raw.open()?;
    match (shape.kind, shape.function) {
        (Some(kind), function) if kind != "function" || function.is_none() && !kind.is_empty() => {
            if kind == "function" {
                Err(invalid("function", "a value is required"))
            } else {
                Ok(Tool::Other { kind, json: raw })
            }
        }
        (_, Some(definition)) => {
            let mut extras = Extras::default();
            adopt(&mut extras, "", shape.extras);
            function(definition, shape.cache, extras)
        }
        (_, None) => Err(invalid("type", "a value is required")),
    }
}

fn function<'a>(
    definition: FunctionDef<'a>,
    cache: Option<Raw<'a>>,
    mut extras: Extras<'a>,
) -> Result<Tool<'a>, Invalid> {
    adopt(&mut extras, "function", definition.extras);
    Ok(Tool::Function {
        name: definition.name.ok_or_else(|| invalid("function.name", "a value is required"))?,
        description: definition.description,
        parameters: definition.parameters.map(|raw| object(raw, "function.parameters")).transpose()?,
        strict: definition.strict,
        cache: cache.map(CacheMark),
        extras,
    })
}

fn tool_choice<'a>(raw: Raw<'a>, path: &str, extras: &mut Extras<'a>) -> Result<ToolChoice<'a>, Invalid> {
    if raw.kind() == Kind::String {
        let word: Text<'a> = raw.open().map_err(|e| at(path, e))?;
        return match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            // `any`: Mistral.
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(invalid(path, "expected `auto`, `none`, `required` or an object")),
        };
    }
    let shape: ToolChoiceObject<'a> = raw.open().map_err(|e| at(path, e))?;
    let kind = shape.kind.as_deref();
    match (kind, shape.function, shape.allowed) {
        (None | Some("function"), Some(function), _) => {
            let name = function.name.ok_or_else(|| invalid(format!("{path}.function.name"), "a value is required"))?;
            adopt(extras, path, shape.extras);
            adopt(extras, &format!("{path}.function"), function.extras);
            Ok(ToolChoice::Function(name))
        }
        (Some("function") | None, None, _) => Err(invalid(format!("{path}.function"), "a value is required")),
        (Some("allowed_tools"), _, Some(allowed)) => {
            let required = allowed.mode.as_ref().is_some_and(|mode| mode == "required");
            let tools = allowed.tools.unwrap_or_default();
            let names: Option<Vec<_>> = tools.into_iter().map(|tool| tool.function?.name).collect();
            let Some(names) = names else { return Ok(ToolChoice::Other(raw)) };
            adopt(extras, path, shape.extras);
            adopt(extras, &format!("{path}.allowed_tools"), allowed.extras);
            Ok(ToolChoice::Allowed { required, names })
        }
        _ => Ok(ToolChoice::Other(raw)),
    }
}

/// The deprecated `function_call`.
fn function_choice<'a>(raw: Raw<'a>) -> Result<ToolChoice<'a>, Invalid> {
    let path = "function_call";
    if raw.kind() == Kind::String {
        return tool_choice(raw, path, &mut Extras::default());
    }
    let named: Named<'a> = raw.open().map_err(|e| at(path, e))?;
    named.name.map(ToolChoice::Function).ok_or_else(|| invalid("function_call.name", "a value is required"))
}

fn format<'a>(raw: Raw<'a>, extras: &mut Extras<'a>) -> Result<Format<'a>, Invalid> {
    let path = "response_format";
    let shape: ResponseFormat<'a> = raw.open().map_err(|e| at(path, e))?;
    let kind = shape.kind.ok_or_else(|| invalid("response_format.type", "a value is required"))?;
    let format = match (kind.as_str(), shape.named, shape.schema) {
        ("text", ..) => Format::Text,
        // llama.cpp and Together take the schema here.
        ("json_object", _, Some(schema)) => Format::JsonSchema {
            name: None,
            description: None,
            schema: object(schema, "response_format.schema")?,
            strict: None,
        },
        ("json_object", ..) => Format::JsonObject,
        ("json_schema", Some(named), _) => {
            adopt(extras, "response_format.json_schema", named.extras);
            let schema = named.schema.unwrap_or(Raw::literal("{}"));
            Format::JsonSchema {
                name: named.name,
                description: named.description,
                schema: object(schema, "response_format.json_schema.schema")?,
                strict: named.strict,
            }
        }
        ("json_schema", None, _) => return Err(invalid("response_format.json_schema", "a value is required")),
        _ => {
            extras.push(path, raw);
            return Ok(Format::Free);
        }
    };
    adopt(extras, path, shape.extras);
    Ok(format)
}

/// The wish to think, from any of the forms that the compatible world has for it.
fn wish<'a>(
    effort: Option<Raw<'a>>,
    object: Option<Raw<'a>>,
    thinking: Option<Raw<'a>>,
    enable: Option<bool>,
    budget: Option<Number<'a>>,
    extras: &mut Extras<'a>,
) -> Result<Option<ReasoningWish<'a>>, Invalid> {
    let mut wish = ReasoningWish::default();
    let mut on = enable;
    if let Some(raw) = effort {
        let word: Text<'a> = raw.open().map_err(|e| at("reasoning_effort", e))?;
        wish.effort = Effort::parse(&word);
        if wish.effort.is_none() {
            // Groq has `default`; a word of tomorrow rides along too.
            extras.push("reasoning_effort", raw);
        }
    }
    if let Some(raw) = object {
        let shape: ReasoningObject<'a> = raw.open().map_err(|e| at("reasoning", e))?;
        if let Some(word) = shape.effort {
            let effort = Effort::parse(&word)
                .ok_or_else(|| invalid("reasoning.effort", format!("unknown effort `{}`", json::clip(&word, 40))))?;
            wish.effort = wish.effort.or(Some(effort));
        }
        wish.budget = count(shape.max_tokens, "reasoning.max_tokens", 0)?;
        wish.show = shape.exclude.map(|exclude| !exclude);
        wish.summary = shape.summary;
        on = on.or(shape.enabled);
        adopt(extras, "reasoning", shape.extras);
    }
    if let Some(raw) = thinking {
        let shape: Thinking<'a> = raw.open().map_err(|e| at("thinking", e))?;
        match shape.kind.as_deref() {
            Some("enabled" | "auto" | "adaptive") => on = Some(true),
            Some("disabled") => on = Some(false),
            Some(_) => {
                extras.push("thinking", raw);
                return Ok(said(wish));
            }
            None => {}
        }
        if let Some(budget) = count(shape.budget, "thinking.budget_tokens", 0)? {
            wish.budget = Some(budget);
        }
        adopt(extras, "thinking", shape.extras);
    }
    if let Some(budget) = count(budget, "thinking_budget", 0)? {
        wish.budget = Some(budget);
    }
    match on {
        Some(false) => wish = ReasoningWish { effort: Some(Effort::None), show: wish.show, ..ReasoningWish::default() },
        Some(true) => wish.adaptive = wish.effort.is_none() && wish.budget.is_none(),
        None => {}
    }
    Ok(said(wish))
}

fn said(wish: ReasoningWish<'_>) -> Option<ReasoningWish<'_>> {
    (wish != ReasoningWish::default()).then_some(wish)
}
