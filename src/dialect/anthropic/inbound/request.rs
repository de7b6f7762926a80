//! Requests, read: the body of `POST /v1/messages` to the IR.
//!
//! What only this dialect knows rides along: whole members under their names (`container`, `context_management`,
//! `mcp_servers`), unknown members of `thinking`, `output_config` and `tool_choice` as `thinking.name`.

use super::{NAME, at, invalid, messages, required};
use crate::dialect::CONTROLS;
use crate::ir::{CacheMark, Effort, Format, Message, Origin, ReasoningWish, Request, Role, Sampling, Tool, ToolChoice};
use crate::shape;
use crate::wire::json::{self, Extras, Invalid, Kind, Number, Raw, Text, TextOr};
use crate::wire::writer;

shape! {
    struct Body {
        model "model": Text<'a>,
        max_tokens "max_tokens": Number<'a>,
        system "system": TextOr<'a, Vec<Raw<'a>>>,
        messages "messages": Vec<messages::Turn<'a>>,
        tools "tools": Vec<Raw<'a>>,
        tool_choice "tool_choice": Raw<'a>,
        thinking "thinking": Raw<'a>,
        output "output_config": Raw<'a>,
        // Before `output_config` took it in.
        format "output_format": Raw<'a>,
        temperature "temperature": Number<'a>,
        top_p "top_p": Number<'a>,
        top_k "top_k": Number<'a>,
        stop "stop_sequences": Vec<Text<'a>>,
        stream "stream": bool,
        metadata "metadata": Raw<'a>,
        tier "service_tier": Text<'a>,
    }
}

shape! {
    struct ToolDef {
        kind "type": Text<'a>,
        name "name": Text<'a>,
        description "description": Text<'a>,
        schema "input_schema": Raw<'a>,
        strict "strict": bool,
        cache "cache_control": Raw<'a>,
    }
}

shape! {
    struct Choice { kind "type": Text<'a>, name "name": Text<'a>, single "disable_parallel_tool_use": bool }
}

shape! {
    struct Thinking { kind "type": Text<'a>, budget "budget_tokens": Number<'a>, display "display": Raw<'a> }
}

shape! {
    struct Output { effort "effort": Raw<'a>, format "format": Raw<'a> }
}

shape! {
    struct JsonSchema { kind "type": Text<'a>, schema "schema": Raw<'a> }
}

shape! {
    struct Metadata { user "user_id": Text<'a> }
}

/// Reads a request for an answer.
///
/// # Errors
/// A member that we interpret is missing or of the wrong kind.
pub(super) fn decode(body: &[u8]) -> Result<Request<'_>, Invalid> {
    let request = decode_count(body)?;
    if request.max_tokens.is_none() {
        return Err(required("max_tokens"));
    }
    Ok(request)
}

/// Reads a request whose tokens are to be counted: the same, but it needs no limit.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_count<'a>(body: &'a [u8]) -> Result<Request<'a>, Invalid> {
    let body: Body<'a> = json::read(body)?;
    let mut extras = Extras::default();
    adopt(&mut extras, "", body.extras);
    extras.0.retain(|(name, _)| !CONTROLS.contains(&name.as_str()));

    let model = body.model.ok_or_else(|| required("model"))?;
    let turns = body.messages.ok_or_else(|| required("messages"))?;
    if turns.is_empty() {
        return Err(invalid("messages", "at least one message is required"));
    }
    let mut all = Vec::with_capacity(turns.len() + 1);
    if let Some(blocks) = body.system.map(messages::system).transpose()?.filter(|blocks| !blocks.is_empty()) {
        all.push(Message { role: Role::System, blocks, ..Message::default() });
    }
    messages::decode(turns, &mut all)?;

    let mut tools = Vec::new();
    for (i, raw) in body.tools.unwrap_or_default().into_iter().enumerate() {
        tools.push(tool(raw).map_err(|e| at(&format!("tools[{i}]"), e))?);
    }
    let (tool_choice, parallel_tool_calls) = match body.tool_choice {
        Some(raw) => choice(raw, &mut extras).map_err(|e| at("tool_choice", e))?,
        None => (None, None),
    };
    let output = body.output.map(|raw| raw.open::<Output<'_>>().map_err(|e| at("output_config", e))).transpose()?;
    let output = output.unwrap_or_default();
    adopt(&mut extras, "output_config", output.extras);
    let format = match (output.format, body.format) {
        (Some(raw), _) => format(raw, "output_config.format", &mut extras)?,
        (None, Some(raw)) => format(raw, "output_format", &mut extras)?,
        (None, None) => Format::Free,
    };
    let reasoning = wish(body.thinking, output.effort, &mut extras)?;
    let (user, metadata) = match body.metadata {
        Some(raw) => metadata(raw)?,
        None => (None, None),
    };
    Ok(Request {
        origin: Origin(NAME),
        model,
        messages: all,
        tools,
        tool_choice,
        parallel_tool_calls,
        format,
        reasoning,
        sampling: Sampling {
            temperature: body.temperature,
            top_p: body.top_p,
            top_k: body.top_k,
            ..Sampling::default()
        },
        max_tokens: count(body.max_tokens, "max_tokens", 1)?,
        stop: body.stop.unwrap_or_default(),
        stream: body.stream == Some(true),
        // Every stream of this dialect ends with it.
        include_usage: true,
        user,
        metadata,
        service_tier: body.tier,
        cache_key: None,
        extras,
    })
}

fn count(n: Option<Number<'_>>, path: &str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(n) = n else { return Ok(None) };
    match n.as_u64() {
        Some(n) if n >= least => Ok(Some(n)),
        _ => {
            let got = json::clip(n.get(), 40);
            Err(invalid(path, format!("expected a whole number of at least {least}, got `{got}`")))
        }
    }
}

/// Adds the unknown members of an inner object as `prefix.name`; `null` is nothing.
fn adopt<'a>(into: &mut Extras<'a>, prefix: &str, inner: Extras<'a>) {
    for (name, json) in inner.0.into_iter().filter(|(_, json)| !json.is_null()) {
        let name = if prefix.is_empty() { name } else { Text::from(format!("{prefix}.{name}")) };
        into.0.push((name, json));
    }
}

fn tool(raw: Raw<'_>) -> Result<Tool<'_>, Invalid> {
    let shape: ToolDef<'_> = raw.open()?;
    if let Some(kind) = shape.kind.filter(|kind| kind != "custom") {
        return Ok(Tool::Other { kind, json: raw });
    }
    let name = shape.name.ok_or_else(|| required("name"))?;
    if name.is_empty() {
        return Err(invalid("name", "expected a name of at least one character"));
    }
    let schema = shape.schema.ok_or_else(|| required("input_schema"))?;
    if schema.kind() != Kind::Object {
        return Err(invalid("input_schema", "expected an object"));
    }
    let mut extras = Extras::default();
    adopt(&mut extras, "", shape.extras);
    Ok(Tool::Function {
        name,
        description: shape.description,
        parameters: Some(schema),
        strict: shape.strict,
        cache: shape.cache.map(CacheMark),
        extras,
    })
}

fn choice<'a>(raw: Raw<'a>, extras: &mut Extras<'a>) -> Result<(Option<ToolChoice<'a>>, Option<bool>), Invalid> {
    let shape: Choice<'a> = raw.open()?;
    let kind = shape.kind.ok_or_else(|| required("type"))?;
    let choice = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Function(shape.name.filter(|name| !name.is_empty()).ok_or_else(|| required("name"))?),
        _ => return Ok((Some(ToolChoice::Other(raw)), shape.single.map(|single| !single))),
    };
    adopt(extras, "tool_choice", shape.extras);
    Ok((Some(choice), shape.single.map(|single| !single)))
}

fn format<'a>(raw: Raw<'a>, path: &'static str, extras: &mut Extras<'a>) -> Result<Format<'a>, Invalid> {
    let shape: JsonSchema<'a> = raw.open().map_err(|e| at(path, e))?;
    match shape.kind.as_deref() {
        None => Err(required(format!("{path}.type"))),
        Some("json_schema") => {
            let schema = shape.schema.ok_or_else(|| required(format!("{path}.schema")))?;
            if schema.kind() != Kind::Object {
                return Err(invalid(format!("{path}.schema"), "expected an object"));
            }
            adopt(extras, "output_config.format", shape.extras);
            // No word on strictness: what Anthropic holds its answer to need not be in the subset that others are strict
            // about, and they refuse what is not.
            Ok(Format::JsonSchema { name: None, description: None, schema, strict: None })
        }
        Some(_) => {
            extras.push(path, raw);
            Ok(Format::Free)
        }
    }
}

/// The wish to think, out of `thinking` and `output_config.effort`. A level that finds no place in it rides along.
fn wish<'a>(
    thinking: Option<Raw<'a>>,
    effort: Option<Raw<'a>>,
    extras: &mut Extras<'a>,
) -> Result<Option<ReasoningWish<'a>>, Invalid> {
    const LEVEL: &str = "output_config.effort";
    let mut wish = ReasoningWish::default();
    if let Some(raw) = &effort {
        let word: Text<'a> = raw.open().map_err(|e| at(LEVEL, e))?;
        wish.effort = Effort::parse(&word).filter(|level| *level != Effort::None);
    }
    let mut placed = wish.effort.is_some();
    if let Some(raw) = thinking {
        let shape: Thinking<'a> = raw.open().map_err(|e| at("thinking", e))?;
        let mut known = true;
        match shape.kind.as_deref() {
            None => return Err(required("thinking.type")),
            Some("enabled") => {
                let budget = count(shape.budget, "thinking.budget_tokens", 1)?;
                wish.budget = Some(budget.ok_or_else(|| required("thinking.budget_tokens"))?);
            }
            Some("adaptive") => wish.adaptive = true,
            Some("disabled") => {
                // The level then says only how much to write, which no other dialect tells apart from thinking.
                wish.effort = Some(Effort::None);
                placed = false;
            }
            Some(_) => known = false,
        }
        if known {
            if let Some(display) = shape.display {
                match display.get() {
                    r#""summarized""# => wish.show = Some(true),
                    r#""omitted""# => wish.show = Some(false),
                    _ => extras.push("thinking.display", display),
                }
            }
            adopt(extras, "thinking", shape.extras);
        } else {
            extras.push("thinking", raw);
        }
    }
    if let Some(raw) = effort.filter(|_| !placed) {
        extras.push(LEVEL, raw);
    }
    Ok((wish != ReasoningWish::default()).then_some(wish))
}

/// The end user, and what is said beside.
fn metadata<'a>(raw: Raw<'a>) -> Result<(Option<Text<'a>>, Option<Raw<'a>>), Invalid> {
    let shape: Metadata<'a> = raw.open().map_err(|e| at("metadata", e))?;
    let mut json = Vec::new();
    writer::object(&mut json, |o| o.extras(&shape.extras));
    let rest = String::from_utf8(json).ok().filter(|_| !shape.extras.is_empty()).map(Raw::trusted);
    Ok((shape.user, rest))
}
