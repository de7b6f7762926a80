//! What the model may call, and whether it must.

use super::NAME;
use super::schema::{self, Fit, Notes};
use super::thinking::{Plan, Thinking, nested};
use super::wire::Bag;
use crate::dialect::Unsayable;
use crate::ir::{Losses, Request, Tool, ToolChoice};
use crate::wire::json::{Kind, Raw, Text};
use crate::wire::writer::{self, Array, Object};

/// Longest name of a tool.
const LONGEST_NAME: usize = 128;

/// The tools of a request that go to the target, by their place in it.
pub(super) struct Tools<'r> {
    list: Vec<(usize, &'r Tool<'r>)>,
    own: bool,
    /// The target can hold calls to their schemas.
    strict: bool,
}

impl<'r> Tools<'r> {
    /// Chooses them.
    ///
    /// # Errors
    /// A name that Anthropic refuses cannot be changed for another: the answer would call a function that the caller does
    /// not have.
    pub(super) fn of(request: &'r Request<'r>, strict: bool, losses: &mut Losses) -> Result<Tools<'r>, Unsayable> {
        let own = request.origin.0 == NAME;
        let allowed: Option<&[Text<'_>]> = match &request.tool_choice {
            Some(ToolChoice::Allowed { names, .. }) => {
                losses.altered("tool_choice");
                Some(names)
            }
            _ => None,
        };
        let mut list = Vec::new();
        for (i, tool) in request.tools.iter().enumerate() {
            match tool {
                Tool::Function { name, .. } => {
                    check(name, i)?;
                    if allowed.is_none_or(|names| names.contains(name)) {
                        list.push((i, tool));
                    }
                }
                Tool::Other { .. } if own => list.push((i, tool)),
                Tool::Other { .. } => losses.dropped(format!("tools[{i}]")),
            }
        }
        Ok(Tools { list, own, strict })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn write(&self, losses: &mut Losses, a: &mut Array<'_>) {
        for (i, tool) in &self.list {
            match tool {
                Tool::Other { json, .. } => a.raw(json),
                Tool::Function { .. } => a.object(|o| self.function(tool, *i, losses, o)),
            }
        }
    }

    fn function(&self, tool: &Tool<'_>, i: usize, losses: &mut Losses, o: &mut Object<'_>) {
        let Tool::Function { name, description, parameters, strict, cache, extras } = tool else { return };
        o.string("name", name);
        if let Some(description) = description {
            o.string("description", description);
        }
        let mut strict = *strict;
        if !self.strict && strict.take() == Some(true) {
            losses.dropped(format!("tools[{i}].function.strict"));
        }
        let out = o.value("input_schema");
        let start = out.len();
        match parameters.as_ref().filter(|schema| !schema.is_null()) {
            None => out.extend_from_slice(br#"{"type":"object","properties":{}}"#),
            // Who speaks this dialect knows what it takes.
            Some(schema) if self.own => out.extend_from_slice(schema.get().as_bytes()),
            Some(schema) if strict == Some(true) => match schema::adapt(schema, Notes::default(), out) {
                Fit::Whole => {}
                Fit::Altered => losses.altered(format!("tools[{i}].function.parameters")),
                Fit::None => {
                    out.truncate(start);
                    object_schema(schema, out);
                    strict = None;
                    losses.dropped(format!("tools[{i}].function.strict"));
                }
            },
            Some(schema) => {
                if !object_schema(schema, out) {
                    losses.altered(format!("tools[{i}].function.parameters"));
                }
            }
        }
        if let Some(strict) = strict {
            o.bool("strict", strict);
        }
        if let Some(mark) = cache {
            o.raw("cache_control", &mark.0);
        }
        for (name, json) in extras.iter() {
            if self.own {
                o.raw(name, json);
            } else {
                losses.dropped(format!("tools[{i}].{name}"));
            }
        }
    }
}

fn check(name: &str, i: usize) -> Result<(), Unsayable> {
    let all = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if all && !name.is_empty() && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(Unsayable {
        path: format!("tools[{i}].function.name"),
        message: format!(
            "Anthropic takes tool names of letters, digits, `_` and `-` with at most {LONGEST_NAME} characters"
        ),
    })
}

/// Writes the schema as it is, told to be one of an object where it does not say so, as Anthropic demands. Returns
/// whether it was a schema of an object at all.
fn object_schema(schema: &Raw<'_>, out: &mut Vec<u8>) -> bool {
    match schema.read::<Bag<'_>>() {
        Ok(Bag { extras }) if extras.get("type").is_none() => {
            writer::object(out, |o| {
                o.string("type", "object");
                o.extras(&extras);
            });
            true
        }
        Ok(_) => {
            out.extend_from_slice(schema.get().as_bytes());
            true
        }
        Err(_) => {
            out.extend_from_slice(br#"{"type":"object"}"#);
            schema.kind() == Kind::Bool
        }
    }
}

/// Writes `tool_choice`, with the wish for one call at a time in it.
pub(super) fn choice(request: &Request<'_>, any: bool, plan: &Plan, losses: &mut Losses, o: &mut Object<'_>) {
    let chosen = request.tool_choice.as_ref();
    if !any {
        // Anthropic refuses a choice without tools; where calls are merely allowed or forbidden, nothing is lost.
        match chosen {
            None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { .. }) => {}
            Some(_) => losses.dropped("tool_choice"),
        }
        return;
    }
    let (kind, name) = match chosen {
        None if request.parallel_tool_calls.is_none() => return,
        None | Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => ("any", None),
        Some(ToolChoice::Function(name)) => ("tool", Some(name.as_str())),
        Some(ToolChoice::Other(json)) if request.origin.0 == NAME => return o.raw("tool_choice", json),
        Some(ToolChoice::Other(_)) => return losses.dropped("tool_choice"),
    };
    // A call cannot be forced while thinking on a budget (guide "Extended thinking"); while a model decides itself it can,
    // as recordings show.
    let forced = matches!(kind, "any" | "tool") && matches!(plan.thinking, Thinking::Budget { .. });
    let (kind, name) = if forced { ("auto", None) } else { (kind, name) };
    if forced {
        losses.altered("tool_choice");
    }
    o.object("tool_choice", |o| {
        o.string("type", kind);
        if let Some(name) = name {
            o.string("name", name);
        }
        if let (Some(parallel), true) = (request.parallel_tool_calls, kind != "none") {
            o.bool("disable_parallel_tool_use", !parallel);
        }
        if request.origin.0 == NAME {
            for (name, json) in nested(&request.extras, "tool_choice") {
                o.raw(name, json);
            }
        }
    });
}
