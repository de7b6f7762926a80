//! What the model may call, and whether it must.
//!
//! Whoever shows calls or results must name tools, or is refused: where a caller does not, or forbids calls, the tools
//! that were called stand there all the same.

use super::blocks::{Cache, LONGEST_ID};
use super::format::{ANSWER, Form, object_schema};
use super::model::Model;
use super::thinking::Wish;
use super::turns::Turns;
use crate::dialect::anthropic::schema::{self, Fit, Notes};
use crate::dialect::{To, Unsayable};
use crate::ir::{Losses, Request, Tool, ToolChoice};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{Array, Object};

crate::shape! {
    /// A tool in Converse's own words.
    struct Own { system "systemTool": Raw<'a> }
}

/// The tools of a request that go to the target, by their place in it.
pub(super) struct Tools<'r> {
    list: Vec<(usize, &'r Tool<'r>)>,
    model: Model,
    /// The target can hold calls to their schemas.
    strict: bool,
}

impl<'r> Tools<'r> {
    /// Chooses them.
    ///
    /// # Errors
    /// A name that Bedrock refuses cannot be changed for another: the answer would call a function that the caller does not
    /// have.
    pub(super) fn of(
        request: &'r Request<'r>,
        model: Model,
        to: &To<'_>,
        losses: &mut Losses,
    ) -> Result<Tools<'r>, Unsayable> {
        // A model that cannot be made to call one tool can be given that one alone.
        let allowed: Option<&[Text<'_>]> = match &request.tool_choice {
            Some(ToolChoice::Allowed { names, .. }) => {
                losses.altered("tool_choice");
                Some(names)
            }
            Some(ToolChoice::Function(name)) if !model.forces_one_tool() && model.forces_some_tool() => {
                losses.emulated("tool_choice");
                Some(std::slice::from_ref(name))
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
                Tool::Other { json, .. } if json.read::<Own<'_>>().is_ok_and(|own| own.system.is_some()) => {
                    list.push((i, tool));
                }
                Tool::Other { .. } => losses.dropped(format!("tools[{i}]")),
            }
        }
        Ok(Tools { list, model, strict: model.takes_schema(to) })
    }

    /// Writes `toolConfig`, if there is anything to say in it.
    pub(super) fn write(
        &self,
        request: &Request<'_>,
        (turns, form): (&Turns<'_>, &Form<'_>),
        wish: &Wish,
        losses: &mut Losses,
        o: &mut Object<'_>,
    ) {
        let forbidden = matches!(request.tool_choice, Some(ToolChoice::None));
        if request.parallel_tool_calls == Some(false) && !self.list.is_empty() && !forbidden {
            losses.dropped("parallel_tool_calls");
        }
        let stands_in = matches!(form, Form::Tool { .. });
        let none = (self.list.is_empty() || forbidden) && !turns.has_calls();
        if stands_in || none {
            // Where there are no tools, calls are not made: so a choice that forbids them is kept.
            match &request.tool_choice {
                None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { .. }) => {}
                Some(_) => losses.dropped("tool_choice"),
            }
            if stands_in {
                o.object("toolConfig", |o| {
                    o.array("tools", |a| form.write_tool(a));
                    o.object("toolChoice", |o| o.object("tool", |o| o.string("name", ANSWER)));
                });
            }
            return;
        }
        o.object("toolConfig", |o| {
            o.array("tools", |a| match self.list.is_empty() {
                true => {
                    losses.emulated("tools");
                    stubs(turns, a);
                }
                false => self.list.iter().for_each(|(i, tool)| self.tool(tool, *i, losses, a)),
            });
            self.choice(request, wish, losses, o);
        });
    }

    fn choice(&self, request: &Request<'_>, wish: &Wish, losses: &mut Losses, o: &mut Object<'_>) {
        let (kind, name) = match &request.tool_choice {
            // What goes without saying: some models refuse to hear it.
            None | Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => return,
            Some(ToolChoice::None) => {
                if !self.list.is_empty() {
                    losses.dropped("tool_choice");
                }
                return;
            }
            Some(_) if self.list.is_empty() => return losses.dropped("tool_choice"),
            Some(ToolChoice::Function(name)) if self.model.forces_one_tool() => ("tool", Some(name.as_str())),
            Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Allowed { required: true, .. })
                if self.model.forces_some_tool() =>
            {
                ("any", None)
            }
            Some(_) => return losses.dropped("tool_choice"),
        };
        // A call cannot be forced while thinking on a budget.
        if wish.forbids_force() {
            return losses.altered("tool_choice");
        }
        o.object("toolChoice", |o| {
            o.object(kind, |o| {
                if let Some(name) = name {
                    o.string("name", name);
                }
            });
        });
    }

    fn tool(&self, tool: &Tool<'_>, i: usize, losses: &mut Losses, a: &mut Array<'_>) {
        let cache = match tool {
            Tool::Other { json, .. } => return a.raw(json),
            Tool::Function { cache, .. } => cache.as_ref(),
        };
        a.object(|o| o.object("toolSpec", |o| self.function(tool, i, losses, o)));
        let Some(mark) = cache else { return };
        let path = format!("tools[{i}]");
        if !self.model.caches_tools() {
            losses.dropped(format!("{path}.cache_control"));
        } else if let Some(cache) = Cache::of(&mark.0, self.model, &path, losses) {
            cache.write(a);
        }
    }

    fn function(&self, tool: &Tool<'_>, i: usize, losses: &mut Losses, o: &mut Object<'_>) {
        let Tool::Function { name, description, parameters, strict, extras, .. } = tool else { return };
        o.string("name", name);
        // One that is empty is refused.
        if let Some(description) = description.as_deref().filter(|text| !text.trim().is_empty()) {
            o.string("description", description);
        }
        let mut strict = *strict == Some(true);
        if strict && !self.strict {
            strict = false;
            losses.dropped(format!("tools[{i}].function.strict"));
        }
        o.object("inputSchema", |o| {
            let out = o.value("json");
            let start = out.len();
            match parameters.as_ref().filter(|schema| !schema.is_null()) {
                None => out.extend_from_slice(br#"{"type":"object","properties":{}}"#),
                Some(schema) if strict => match schema::adapt(schema, Notes::default(), out) {
                    Fit::Whole => {}
                    Fit::Altered => losses.altered(format!("tools[{i}].function.parameters")),
                    Fit::None => {
                        out.truncate(start);
                        object_schema(schema, out);
                        strict = false;
                        losses.dropped(format!("tools[{i}].function.strict"));
                    }
                },
                Some(schema) => {
                    if !object_schema(schema, out) {
                        losses.altered(format!("tools[{i}].function.parameters"));
                    }
                }
            }
        });
        if strict {
            o.bool("strict", true);
        }
        for (name, _) in extras.iter() {
            losses.dropped(format!("tools[{i}].{name}"));
        }
    }
}

/// The tools that were called, as far as that tells of them.
fn stubs(turns: &Turns<'_>, a: &mut Array<'_>) {
    let named = turns.called().iter().map(|name| name.as_ref());
    // Results of calls that are not there have no name; but there must be a tool.
    let nameless = turns.called().is_empty().then_some("tool");
    for name in named.chain(nameless) {
        a.object(|o| {
            o.object("toolSpec", |o| {
                o.string("name", name);
                o.object("inputSchema", |o| o.object("json", |o| o.string("type", "object")));
            });
        });
    }
}

fn check(name: &str, i: usize) -> Result<(), Unsayable> {
    let all = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if all && (1..=LONGEST_ID).contains(&name.len()) {
        return Ok(());
    }
    Err(Unsayable {
        path: format!("tools[{i}].function.name"),
        message: format!(
            "Bedrock takes tool names of letters, digits, `_` and `-` with at most {LONGEST_ID} characters"
        ),
    })
}
