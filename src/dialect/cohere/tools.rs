//! What the model may call, and whether it must.
//!
//! Cohere can force a call and forbid one, and name no tool while it does. One tool, or some of them, is forced by giving
//! it no others. That a call keeps to its schema is asked for all tools at once (`strict_tools`), so it is only asked
//! where the caller asked it of all.

use crate::ir::{Losses, Request, Tool, ToolChoice};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{Array, Object};

/// The tools of a request that go to the target.
pub(super) struct Tools<'r> {
    list: Vec<&'r Tool<'r>>,
    own: bool,
    /// Calls must keep to their schemas.
    pub(super) strict: bool,
    /// Cohere's word; `None` leaves it to the model.
    pub(super) choice: Option<&'static str>,
    /// A choice of this dialect's own.
    pub(super) own_choice: Option<&'r Raw<'r>>,
}

impl<'r> Tools<'r> {
    /// Chooses them.
    pub(super) fn of(request: &'r Request<'r>, own: bool, losses: &mut Losses) -> Tools<'r> {
        let mut list = Vec::new();
        let (mut strict, mut loose) = (Vec::new(), false);
        let chosen = Chosen::of(request, losses);
        for (i, tool) in request.tools.iter().enumerate() {
            match tool {
                Tool::Function { name, strict: wish, cache, extras, .. } => {
                    if !chosen.takes(name) {
                        continue;
                    }
                    if *wish == Some(true) {
                        strict.push(i)
                    } else {
                        loose = true
                    }
                    if cache.is_some() {
                        losses.dropped(format!("tools[{i}].cache_control"));
                    }
                    for (name, _) in extras.iter().filter(|_| !own) {
                        losses.dropped(format!("tools[{i}].{name}"));
                    }
                    list.push(tool);
                }
                Tool::Other { .. } if own => list.push(tool),
                Tool::Other { kind, .. } => losses.dropped(format!("tools[{i}].{kind}")),
            }
        }
        if loose {
            for i in strict.drain(..) {
                losses.dropped(format!("tools[{i}].function.strict"));
            }
        }
        let mut own_choice = None;
        match &request.tool_choice {
            Some(ToolChoice::Other(raw)) if own => own_choice = Some(raw),
            Some(ToolChoice::Other(_)) => losses.dropped("tool_choice"),
            _ => {}
        }
        if list.is_empty() && chosen.word == Some("REQUIRED") {
            losses.dropped("tool_choice");
        }
        Tools { list, own, strict: !strict.is_empty(), choice: chosen.word, own_choice }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn write(&self, a: &mut Array<'_>) {
        for tool in &self.list {
            match tool {
                Tool::Other { json, .. } => a.raw(json),
                Tool::Function { .. } => a.object(|o| self.function(tool, o)),
            }
        }
    }

    fn function(&self, tool: &Tool<'_>, o: &mut Object<'_>) {
        let Tool::Function { name, description, parameters, extras, .. } = tool else { return };
        o.string("type", "function");
        o.object("function", |o| {
            o.string("name", name);
            if let Some(description) = description {
                o.string("description", description);
            }
            match parameters.as_ref().filter(|schema| !schema.is_null()) {
                Some(schema) => o.raw("parameters", schema),
                None => o.literal("parameters", r#"{"type":"object","properties":{}}"#),
            }
        });
        if self.own {
            o.extras(extras);
        }
    }
}

/// What the caller's choice leaves.
struct Chosen<'r> {
    word: Option<&'static str>,
    /// Only these; `None` is all.
    names: Option<Vec<&'r Text<'r>>>,
}

impl<'r> Chosen<'r> {
    fn of(request: &'r Request<'r>, losses: &mut Losses) -> Chosen<'r> {
        let known = |wanted: &&Text<'_>| {
            request.tools.iter().any(|tool| matches!(tool, Tool::Function { name, .. } if name == *wanted))
        };
        let (required, names) = match &request.tool_choice {
            None | Some(ToolChoice::Auto | ToolChoice::Other(_)) => return Chosen { word: None, names: None },
            Some(ToolChoice::None) => return Chosen { word: Some("NONE"), names: None },
            Some(ToolChoice::Required) => return Chosen { word: Some("REQUIRED"), names: None },
            Some(ToolChoice::Function(name)) => (true, vec![name]),
            Some(ToolChoice::Allowed { required, names }) => (*required, names.iter().collect()),
        };
        let word = required.then_some("REQUIRED");
        let names: Vec<_> = names.into_iter().filter(known).collect();
        if names.is_empty() {
            losses.altered("tool_choice");
            return Chosen { word, names: None };
        }
        losses.emulated("tool_choice");
        Chosen { word, names: Some(names) }
    }

    fn takes(&self, name: &Text<'_>) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(&name))
    }
}
