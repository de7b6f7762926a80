//! Requests: the IR to the body of `POST /api/chat`.
//!
//! Every member of the request ends in the body or in the losses, under the name that the caller gave it. Only wishes that
//! Ollama grants anyway go without either: one candidate, biases of nothing, plain text.

use super::wire::says;
use super::{NAME, options, turns};
use crate::dialect::{To, Unsayable};
use crate::ir::{Effort, Format, Losses, ReasoningWish, Request, Tool, ToolChoice};
use crate::wire::json::Text;
use crate::wire::writer::{self, Array, Object};

/// Writes the body.
///
/// # Errors
/// Something asked for has no counterpart.
pub(super) fn encode(
    request: &Request<'_>,
    to: &To<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<(), Unsayable> {
    if request.sampling.candidates.is_some_and(|candidates| candidates > 1) {
        return Err(Unsayable { path: "n".into(), message: "Ollama gives one answer to a request".into() });
    }
    turns::check(request)?;
    let own = request.origin.0 == NAME;
    writer::object(out, |o| {
        let mut body = Body { request, to, own, losses, o };
        if !to.quirks.no_model {
            body.o.string("model", to.model);
        }
        body.o.array("messages", |a| turns::write(a, request, body.losses));
        body.tools();
        body.format();
        body.think();
        options::write(request, to, body.o, body.losses);
        body.rest();
    });
    Ok(())
}

/// The body being written.
struct Body<'c, 'w> {
    request: &'c Request<'c>,
    to: &'c To<'c>,
    /// The request came in this very dialect.
    own: bool,
    losses: &'c mut Losses,
    o: &'c mut Object<'w>,
}

impl Body<'_, '_> {
    /// Whether the target takes a member; where it does not, the caller is told by the name that he gave it.
    fn takes(&mut self, member: &str, caller: &'static str) -> bool {
        let refused = self.to.quirks.refuses.iter().any(|refused| refused == member || refused == caller);
        if refused {
            self.losses.dropped(caller);
        }
        !refused
    }

    /// There is no choice of tools; what can be chosen is which are given. None is forbidden by giving none, one is
    /// suggested by giving no other.
    fn tools(&mut self) {
        let request = self.request;
        let allowed: Option<Vec<&Text<'_>>> = match &request.tool_choice {
            None | Some(ToolChoice::Auto) => None,
            Some(ToolChoice::None) => {
                if !request.tools.is_empty() {
                    self.losses.emulated("tool_choice");
                }
                return;
            }
            Some(ToolChoice::Required | ToolChoice::Other(_)) => {
                self.losses.dropped("tool_choice");
                None
            }
            Some(ToolChoice::Function(name)) => {
                self.losses.altered("tool_choice");
                Some(vec![name])
            }
            Some(ToolChoice::Allowed { required, names }) => {
                if *required {
                    self.losses.altered("tool_choice");
                } else {
                    self.losses.emulated("tool_choice");
                }
                Some(names.iter().collect())
            }
        };
        if request.parallel_tool_calls == Some(false) && !request.tools.is_empty() {
            self.losses.dropped("parallel_tool_calls");
        }
        let mut list = Vec::new();
        for (i, tool) in request.tools.iter().enumerate() {
            match tool {
                Tool::Function { name, strict, cache, extras, .. } => {
                    if allowed.as_ref().is_some_and(|names| !names.contains(&name)) {
                        continue;
                    }
                    if *strict == Some(true) {
                        self.losses.dropped(format!("tools[{i}].function.strict"));
                    }
                    if cache.is_some() {
                        self.losses.dropped(format!("tools[{i}].cache_control"));
                    }
                    for (name, _) in extras.iter().filter(|_| !self.own) {
                        self.losses.dropped(format!("tools[{i}].{name}"));
                    }
                    list.push(tool);
                }
                Tool::Other { .. } if self.own => list.push(tool),
                Tool::Other { kind, .. } => self.losses.dropped(format!("tools[{i}].{kind}")),
            }
        }
        if !list.is_empty() && self.takes("tools", "tools") {
            self.o.array("tools", |a| list.into_iter().for_each(|tool| write_tool(a, tool)));
        }
    }

    fn format(&mut self) {
        match &self.request.format {
            Format::Free | Format::Text => {}
            Format::JsonObject => {
                if self.takes("format", "response_format") {
                    self.o.string("format", "json");
                }
            }
            // A schema is always kept to, and has no name.
            Format::JsonSchema { description, schema, .. } => {
                if description.is_some() {
                    self.losses.dropped("response_format.json_schema.description");
                }
                if self.takes("format", "response_format") {
                    self.o.raw("format", schema);
                }
            }
        }
    }

    /// Thinking is switched; only the gpt-oss models know levels, and the server refuses those of others.
    fn think(&mut self) {
        let default = ReasoningWish::default();
        let wish = self.request.reasoning.as_ref().unwrap_or(&default);
        if wish.show == Some(false) {
            self.losses.dropped("reasoning.exclude");
        }
        if wish.summary.is_some() {
            self.losses.dropped("reasoning.summary");
        }
        if wish.effort.is_none() && wish.budget.is_none() && !wish.adaptive {
            // To be shown thoughts is no wish that there be any.
            if wish.show == Some(true) {
                self.losses.dropped("reasoning");
            }
            return;
        }
        let path = if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" };
        let off = wish.effort == Some(Effort::None) || wish.effort.is_none() && wish.budget == Some(0);
        if self.to.abilities.reasoning == Some(false) {
            if !off {
                self.losses.dropped(path);
            }
            return;
        }
        if !self.takes("think", path) {
            return;
        }
        if off {
            return self.o.bool("think", false);
        }
        let asked = wish.effort.or_else(|| wish.budget.map(Effort::from_budget));
        if !self.to.model.contains("gpt-oss") {
            if asked.is_some() {
                self.losses.altered(path);
            }
            return self.o.bool("think", true);
        }
        let level = match asked {
            Some(Effort::None | Effort::Minimal | Effort::Low) => "low",
            None | Some(Effort::Medium) => "medium",
            Some(Effort::High | Effort::XHigh | Effort::Max) => "high",
        };
        if wish.effort.is_none_or(|effort| effort.name() != level) && !wish.adaptive {
            self.losses.altered(path);
        }
        self.o.string("think", level);
    }

    fn rest(&mut self) {
        let request = self.request;
        let sampling = &request.sampling;
        if sampling.logprobs == Some(true) && self.takes("logprobs", "logprobs") {
            self.o.bool("logprobs", true);
            if let Some(most) = sampling.top_logprobs {
                self.o.number("top_logprobs", most);
            }
        }
        // The server streams unless it is told not to.
        self.o.bool("stream", self.to.stream);
        for (said, name) in [
            (sampling.logit_bias.as_ref().is_some_and(says), "logit_bias"),
            (request.user.is_some(), "user"),
            (request.metadata.is_some(), "metadata"),
            (request.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "service_tier"),
            (request.cache_key.is_some(), "prompt_cache_key"),
        ] {
            if said {
                self.losses.dropped(name);
            }
        }
        for (name, json) in request.extras.iter().filter(|(name, _)| !options::takes(name)) {
            let known = self.own || name == "keep_alive";
            if known && !self.to.quirks.refuses.iter().any(|refused| refused == name) {
                self.o.raw(name, json);
            } else {
                self.losses.dropped(name.to_owned());
            }
        }
    }
}

fn write_tool(a: &mut Array<'_>, tool: &Tool<'_>) {
    let (name, description, parameters) = match tool {
        Tool::Other { json, .. } => return a.raw(json),
        Tool::Function { name, description, parameters, .. } => (name, description, parameters),
    };
    a.object(|o| {
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
    });
}
