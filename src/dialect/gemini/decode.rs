//! Requests of callers: `GenerateContentRequest` to the IR.
//!
//! As strict as Google on what we interpret, lenient on the rest. Members that only this dialect knows become extras
//! under their path in camel case or as they came (`generationConfig.speechConfig`), so that each is a loss of its own
//! where a provider cannot be told of it.

use super::NAME;
use super::asked::{Body, Calling, Config, Declaration, Figure, Many, Thinking};
use super::history::{self, adopt, at, invalid};
use super::openapi;
use super::wire::{Bag, Word};
use crate::dialect::CONTROLS;
use crate::ir::{Block, Effort, Format, Message, Origin, ReasoningWish, Request, Role, Sampling, Tool, ToolChoice};
use crate::wire::json::{self, Extras, Invalid, Kind, Raw, Text, TextOr, clip};
use crate::wire::writer;

/// Reads a caller's request; also one to `countTokens`, which may have the request to be counted inside it.
///
/// # Errors
/// A member that we interpret is missing or of the wrong type; the path names it.
pub(super) fn decode(body: &[u8]) -> Result<Request<'_>, Invalid> {
    let body: Body<'_> = json::read(body)?;
    match &body.inner {
        Some(inner) if body.contents.is_none() => {
            let path = "generateContentRequest";
            request(inner.open().map_err(|e| at(path, e))?).map_err(|e| at(path, e))
        }
        _ => request(body),
    }
}

fn request(body: Body<'_>) -> Result<Request<'_>, Invalid> {
    let Body { model, contents, system, tools, tool_config, config, tier, cached, inner, extras: rest } = body;
    let mut extras = Extras::default();
    adopt(&mut extras, "", rest);
    extras.0.retain(|(name, json)| !CONTROLS.contains(&name.as_str()) && says(json));
    if let Some(inner) = inner {
        extras.push("generateContentRequest", inner);
    }
    let cached = cached.filter(|json| says(json) && json.get() != r#""""#);

    let mut messages = Vec::new();
    match system {
        Some(TextOr::Text(text)) if text.is_empty() => {}
        Some(TextOr::Text(text)) => {
            messages.push(Message { role: Role::System, blocks: vec![Block::text(text)], ..Message::default() });
        }
        Some(TextOr::Full(turn)) => {
            messages.extend(history::instruction(turn).map_err(|e| at("systemInstruction", e))?);
        }
        None => {}
    }
    messages.append(&mut history::decode(contents.unwrap_or_default().0, cached.is_some())?);
    if let Some(cached) = cached {
        extras.push("cachedContent", cached);
    }

    let tools = tools.map(tools_of).transpose()?.unwrap_or_default();
    let mut tool_choice = None;
    if let Some(config) = tool_config {
        adopt(&mut extras, "toolConfig", config.extras);
        tool_choice = config.calling.map(|calling| choice(calling, &mut extras)).transpose()?.flatten();
    }
    let service_tier = tier.and_then(|tier| service_tier(tier, &mut extras));
    let Config {
        temperature,
        top_p,
        top_k,
        seed,
        candidates,
        most,
        stop,
        presence,
        frequency,
        logprobs,
        alternatives,
        mime,
        schema,
        json_schema,
        modalities,
        thinking,
        extras: rest,
    } = config.unwrap_or_default();
    adopt(&mut extras, "generationConfig", rest);
    // Text alone is what everyone answers with.
    let modalities = modalities.filter(|json| !json.read::<Vec<Word<'_>>>().is_ok_and(|list| only_text(&list)));
    if let Some(modalities) = modalities.filter(says) {
        extras.push("generationConfig.responseModalities", modalities);
    }
    Ok(Request {
        origin: Origin(NAME),
        model: model.map(short).unwrap_or_default(),
        messages,
        tools,
        tool_choice,
        format: format(mime, schema, json_schema, &mut extras)?,
        reasoning: thinking.map(|thinking| wish(thinking, &mut extras)).transpose()?.flatten(),
        sampling: Sampling {
            temperature: temperature.map(|figure| figure.0),
            top_p: top_p.map(|figure| figure.0),
            top_k: top_k.map(Figure::whole),
            seed: seed.map(Figure::whole),
            frequency_penalty: frequency.map(|figure| figure.0),
            presence_penalty: presence.map(|figure| figure.0),
            logprobs,
            top_logprobs: count(alternatives, "logprobs", 0)?,
            candidates: count(candidates, "candidateCount", 1)?,
            ..Sampling::default()
        },
        max_tokens: count(most, "maxOutputTokens", 1)?,
        stop: stop.unwrap_or_default(),
        service_tier,
        extras,
        ..Request::default()
    })
}

/// Whether a value is more than an empty list or object.
fn says(json: &Raw<'_>) -> bool {
    match json.kind() {
        Kind::Null => false,
        Kind::Array => !json.read::<Vec<Raw<'_>>>().is_ok_and(|list| list.is_empty()),
        Kind::Object => !json.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.is_empty()),
        _ => true,
    }
}

fn only_text(list: &[Word<'_>]) -> bool {
    // The number is the enumeration's.
    matches!(list, [Word(word)] if word.eq_ignore_ascii_case("text") || word == "1")
}

/// The model's name without its collection: `models/gemini-2.5-pro`.
fn short(model: Text<'_>) -> Text<'_> {
    match model.strip_prefix("models/") {
        Some(name) => name.to_owned().into(),
        None => model,
    }
}

fn count(figure: Option<Figure<'_>>, member: &str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(Figure(n)) = figure else { return Ok(None) };
    match n.as_u64() {
        Some(n) if n >= least => Ok(Some(n)),
        _ => Err(invalid(
            format!("generationConfig.{member}"),
            format!("expected a whole number of at least {least}, got `{}`", clip(n.get(), 40)),
        )),
    }
}

/// Google's tiers in the words that other dialects have for them; one that none has stays an extra.
fn service_tier<'a>(tier: Text<'a>, extras: &mut Extras<'a>) -> Option<Text<'a>> {
    match tier.to_ascii_lowercase().trim_start_matches("service_tier_") {
        "" | "unspecified" => None,
        "standard" => Some("default".into()),
        "flex" => Some("flex".into()),
        "priority" => Some("priority".into()),
        _ => {
            let mut json = Vec::new();
            writer::string(&mut json, &tier);
            extras.push("serviceTier", super::response::raw(json));
            None
        }
    }
}

fn tools_of(raw: Raw<'_>) -> Result<Vec<Tool<'_>>, Invalid> {
    let list: Vec<Raw<'_>> = match raw.kind() {
        Kind::Object => vec![raw],
        _ => raw.open().map_err(|e| at("tools", e))?,
    };
    let mut tools = Vec::new();
    for (i, raw) in list.into_iter().enumerate() {
        let bag: Bag<'_> = raw.open().map_err(|e| at(&format!("tools[{i}]"), e))?;
        for (name, json) in bag.extras.0.into_iter().filter(|(_, json)| !json.is_null()) {
            if !matches!(name.as_str(), "functionDeclarations" | "function_declarations") {
                let mut whole = Vec::new();
                writer::object(&mut whole, |o| o.raw(&name, &json));
                tools.push(Tool::Other { kind: name, json: super::response::raw(whole) });
                continue;
            }
            let path = format!("tools[{i}].{name}");
            let declarations: Many<Declaration<'_>> = json.open().map_err(|e| at(&path, e))?;
            for (j, declaration) in declarations.0.into_iter().enumerate() {
                tools.push(function(declaration).map_err(|e| at(&format!("{path}[{j}]"), e))?);
            }
        }
    }
    Ok(tools)
}

fn function(declaration: Declaration<'_>) -> Result<Tool<'_>, Invalid> {
    let Declaration { name, description, parameters, json_schema, extras: rest } = declaration;
    let mut extras = Extras::default();
    adopt(&mut extras, "", rest);
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| invalid("name", "a value is required"))?;
    let parameters = match (json_schema, parameters) {
        (Some(schema), _) => Some(object(schema, "parametersJsonSchema")?),
        (None, Some(schema)) => Some(openapi::json_schema(object(schema, "parameters")?)),
        (None, None) => None,
    };
    Ok(Tool::Function { name, description, parameters, strict: None, cache: None, extras })
}

fn object<'a>(raw: Raw<'a>, path: &str) -> Result<Raw<'a>, Invalid> {
    if raw.kind() == Kind::Object { Ok(raw) } else { Err(invalid(path, "expected an object")) }
}

fn choice<'a>(calling: Calling<'a>, extras: &mut Extras<'a>) -> Result<Option<ToolChoice<'a>>, Invalid> {
    const PATH: &str = "toolConfig.functionCallingConfig";
    let Calling { mode, names, extras: rest } = calling;
    adopt(extras, PATH, rest);
    let mut names = names.unwrap_or_default();
    let Some(Word(mode)) = mode else { return Ok(None) };
    // The numbers are those of the enumeration.
    Ok(match mode.to_ascii_uppercase().as_str() {
        "" | "MODE_UNSPECIFIED" | "0" => None,
        "AUTO" | "1" | "VALIDATED" | "4" if !names.is_empty() => Some(ToolChoice::Allowed { required: false, names }),
        "AUTO" | "1" => Some(ToolChoice::Auto),
        "VALIDATED" | "4" => {
            extras.push(format!("{PATH}.mode"), Raw::literal(r#""VALIDATED""#));
            Some(ToolChoice::Auto)
        }
        "ANY" | "2" if names.len() > 1 => Some(ToolChoice::Allowed { required: true, names }),
        "ANY" | "2" => Some(names.pop().map_or(ToolChoice::Required, ToolChoice::Function)),
        "NONE" | "3" => Some(ToolChoice::None),
        _ => {
            let message = format!("`{}` is none of AUTO, ANY, NONE, VALIDATED", clip(&mode, 40));
            return Err(invalid(format!("{PATH}.mode"), message));
        }
    })
}

fn format<'a>(
    mime: Option<Text<'a>>,
    schema: Option<Raw<'a>>,
    json_schema: Option<Raw<'a>>,
    extras: &mut Extras<'a>,
) -> Result<Format<'a>, Invalid> {
    let (schema, member) = match (json_schema, schema) {
        (Some(schema), _) => (Some(object(schema, "generationConfig.responseJsonSchema")?), "responseJsonSchema"),
        (None, Some(schema)) => (Some(object(schema, "generationConfig.responseSchema")?), "responseSchema"),
        (None, None) => (None, ""),
    };
    let json = mime.as_deref().is_none_or(|mime| mime.eq_ignore_ascii_case("application/json") || mime.is_empty());
    match (mime.filter(|mime| !mime.is_empty()), schema) {
        (_, Some(schema)) if json => {
            let schema = if member == "responseSchema" { openapi::json_schema(schema) } else { schema };
            Ok(Format::JsonSchema { name: None, description: None, schema, strict: None })
        }
        (None, _) => Ok(Format::Free),
        (Some(_), None) if json => Ok(Format::JsonObject),
        (Some(mime), None) if mime.eq_ignore_ascii_case("text/plain") => Ok(Format::Text),
        // `text/x.enum`: one of the schema's words, without the quotes that JSON has.
        (Some(mime), schema) => {
            let mut quoted = Vec::new();
            writer::string(&mut quoted, &mime);
            extras.push("generationConfig.responseMimeType", super::response::raw(quoted));
            if let Some(schema) = schema {
                extras.push(format!("generationConfig.{member}"), schema);
            }
            Ok(Format::Free)
        }
    }
}

fn wish<'a>(thinking: Thinking<'a>, extras: &mut Extras<'a>) -> Result<Option<ReasoningWish<'a>>, Invalid> {
    let Thinking { show, budget, level, extras: rest } = thinking;
    adopt(extras, "generationConfig.thinkingConfig", rest);
    let mut wish = ReasoningWish { show, ..ReasoningWish::default() };
    match budget {
        // The model decides (Gemini API, "Thinking", seen 2026-11-21).
        Some(Figure(n)) if n.as_f64() == -1.0 => wish.adaptive = true,
        budget => wish.budget = count(budget, "thinkingConfig.thinkingBudget", 0)?,
    }
    if let Some(Word(level)) = level {
        let word = level.to_ascii_lowercase();
        wish.effort = match word.as_str() {
            "" | "thinking_level_unspecified" | "0" => None,
            "minimal" => Some(Effort::Minimal),
            "low" => Some(Effort::Low),
            "medium" => Some(Effort::Medium),
            "high" => Some(Effort::High),
            _ => {
                let message = format!("`{}` is none of MINIMAL, LOW, MEDIUM, HIGH", clip(&level, 40));
                return Err(invalid("generationConfig.thinkingConfig.thinkingLevel", message));
            }
        };
    }
    Ok((wish != ReasoningWish::default()).then_some(wish))
}
