//! Requests, written: the IR into a provider's body, bent to the provider's quirks.

use crate::dialect::{ReasoningStyle, To, Unsayable, additions};
use crate::ir::{Effort, Format, Losses, ReasoningWish, Request, Tool, ToolChoice};
use crate::wire::json::{Extras, Number, Raw};
use crate::wire::writer::{self, Array, Object};

use super::turns;
use super::wire::{ORIGIN, is_nested, nested, write_nested};

/// Writes the body for a target.
///
/// # Errors
/// Several candidates are asked of a provider that gives one.
pub fn encode(request: &Request<'_>, to: &To<'_>, out: &mut Vec<u8>, losses: &mut Losses) -> Result<(), Unsayable> {
    if refuses(to, "n") && request.sampling.candidates.is_some_and(|n| n > 1) {
        return Err(Unsayable { path: "n".into(), message: "this provider gives one candidate a call".into() });
    }
    let own = request.origin == ORIGIN;
    let schemas = !to.quirks.no_json_schema && to.abilities.structured_output != Some(false);
    let instruction = match &request.format {
        Format::JsonSchema { schema, .. } if !schemas => Some(turns::schema_instruction(schema)),
        _ => None,
    };
    let start = out.len();
    writer::object(out, |o| {
        if !to.quirks.no_model {
            o.string("model", to.model);
        }
        o.array("messages", |a| turns::encode(a, request, to, instruction.as_deref(), losses));
        let mut top = Top { o, own, request, to, losses, written: Vec::new() };
        top.tools();
        top.format(schemas);
        top.reasoning();
        top.sampling();
        top.rest();
        top.extras();
    });
    additions::complete(to.quirks, start, out);
    Ok(())
}

/// Whether the provider refuses a member, under our name for it or its own.
fn refuses(to: &To<'_>, name: &str) -> bool {
    let theirs = to.quirks.rename.get(name).map_or(name, String::as_str);
    to.quirks.refuses.iter().any(|refused| refused == name || refused == theirs)
}

struct Top<'o, 'w, 'r, 'l> {
    o: &'o mut Object<'w>,
    own: bool,
    request: &'r Request<'r>,
    to: &'r To<'r>,
    losses: &'l mut Losses,
    /// Names as the provider knows them; a renamed member must not come twice.
    written: Vec<String>,
}

impl Top<'_, '_, '_, '_> {
    /// Writes a member under the provider's name for it, unless the provider refuses it.
    fn member(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        let theirs = self.to.quirks.rename.get(name).map_or(name, String::as_str);
        if self.refuses(name) || self.written.iter().any(|written| written == theirs) {
            self.losses.dropped(name.to_owned());
            return;
        }
        self.written.push(theirs.to_owned());
        value(self.o.value(theirs));
    }

    fn refuses(&self, name: &str) -> bool {
        refuses(self.to, name)
    }

    fn raw(&mut self, name: &str, raw: &Raw<'_>) {
        self.member(name, |out| out.extend_from_slice(raw.get().as_bytes()));
    }

    fn string(&mut self, name: &str, text: &str) {
        self.member(name, |out| writer::string(out, text));
    }

    fn number(&mut self, name: &str, n: Option<u64>) {
        if let Some(n) = n {
            self.member(name, |out| writer::number(out, n));
        }
    }

    fn digits(&mut self, name: &str, n: Option<&Number<'_>>) {
        if let Some(n) = n {
            self.member(name, |out| out.extend_from_slice(n.get().as_bytes()));
        }
    }

    fn bool(&mut self, name: &str, yes: Option<bool>) {
        if let Some(yes) = yes {
            self.member(name, |out| out.extend_from_slice(if yes { b"true" } else { b"false" }));
        }
    }

    fn tools(&mut self) {
        let (request, own) = (self.request, self.own);
        let known = |tool: &Tool<'_>| own || matches!(tool, Tool::Function { .. });
        for (i, tool) in request.tools.iter().enumerate() {
            match tool {
                Tool::Other { kind, .. } if !own => self.losses.dropped(format!("tools[{i}].{kind}")),
                Tool::Function { extras, cache, .. } if !own => {
                    let names = extras.iter().map(|(name, _)| name);
                    for name in names.chain(cache.as_ref().filter(|_| !self.marks()).map(|_| "cache_control")) {
                        self.losses.dropped(format!("tools[{i}].{name}"));
                    }
                }
                _ => {}
            }
        }
        let any = request.tools.iter().any(known);
        if any {
            let marks = self.marks();
            self.member("tools", |out| {
                writer::array(out, |a| {
                    request.tools.iter().filter(|tool| known(tool)).for_each(|tool| write_tool(a, tool, own, marks));
                });
            });
        }
        if let Some(choice) = &request.tool_choice {
            match choice {
                ToolChoice::Other(_) if !own => self.losses.dropped("tool_choice"),
                // OpenAI takes neither without tools; that none was to be called is then granted anyway.
                ToolChoice::Auto | ToolChoice::None if !any && !own => {}
                _ if !any && !own => self.losses.dropped("tool_choice"),
                choice => {
                    let none = Extras::default();
                    let extras = if own { &request.extras } else { &none };
                    self.member("tool_choice", |out| write_choice(out, choice, extras));
                }
            }
        }
        if any || own {
            self.bool("parallel_tool_calls", request.parallel_tool_calls);
        }
    }

    /// As for messages: cache marks are written for callers of this dialect, and to OpenRouter.
    fn marks(&self) -> bool {
        self.own || self.to.quirks.reasoning == ReasoningStyle::Object
    }

    fn format(&mut self, schemas: bool) {
        let request = self.request;
        let extras = &request.extras;
        let own = self.own;
        match &request.format {
            Format::Free => {}
            Format::Text | Format::JsonObject => {
                let kind = if request.format == Format::Text { "text" } else { "json_object" };
                self.member("response_format", |out| {
                    writer::object(out, |o| {
                        o.string("type", kind);
                        if own {
                            write_nested(o, extras, "response_format");
                        }
                    });
                });
            }
            Format::JsonSchema { .. } if !schemas => {
                self.losses.emulated("response_format");
                self.member("response_format", |out| writer::object(out, |o| o.string("type", "json_object")));
                self.lose_nested("response_format");
            }
            Format::JsonSchema { name, description, schema, strict } => self.member("response_format", |out| {
                writer::object(out, |o| {
                    o.string("type", "json_schema");
                    o.object("json_schema", |o| {
                        // OpenAI demands a name.
                        o.string("name", name.as_deref().unwrap_or("answer"));
                        if let Some(text) = description {
                            o.string("description", text);
                        }
                        o.raw("schema", schema);
                        if let Some(strict) = strict {
                            o.bool("strict", *strict);
                        }
                        if own {
                            write_nested(o, extras, "response_format.json_schema");
                        }
                    });
                    if own {
                        write_nested(o, extras, "response_format");
                    }
                });
            }),
        }
    }

    fn reasoning(&mut self) {
        let style = self.to.quirks.reasoning;
        let able = self.to.abilities.reasoning != Some(false);
        for (form, prefix) in [(ReasoningStyle::Object, "reasoning"), (ReasoningStyle::Thinking, "thinking")] {
            if style != form || !able {
                self.lose_nested(prefix);
            }
        }
        let own = self.own;
        let extras = &self.request.extras;
        let default = ReasoningWish::default();
        let wish = self.request.reasoning.as_ref().unwrap_or(&default);
        let off = wish.effort == Some(Effort::None) || wish.budget == Some(0);
        let has = |prefix: &str| own && nested(extras, prefix).next().is_some();
        if *wish == default && !has("reasoning") && !has("thinking") {
            return;
        }
        if !able {
            if !off && *wish != default {
                self.losses.dropped("reasoning");
            }
            return;
        }
        if style != ReasoningStyle::Object {
            if wish.show.is_some() {
                self.losses.dropped(if wish.show == Some(true) { "reasoning.show" } else { "reasoning.exclude" });
            }
            if wish.summary.is_some() {
                self.losses.dropped("reasoning.summary");
            }
        }
        match style {
            ReasoningStyle::None => {
                if !off && *wish != default {
                    self.losses.dropped("reasoning");
                }
            }
            ReasoningStyle::Effort => match (wish.effort, wish.budget) {
                (Some(effort), _) => {
                    if wish.budget.is_some_and(|budget| budget > 0) {
                        self.losses.dropped("reasoning.max_tokens");
                    }
                    self.string("reasoning_effort", effort.name());
                }
                (None, Some(budget)) => {
                    self.losses.altered("reasoning.max_tokens");
                    self.string("reasoning_effort", Effort::from_budget(budget).name());
                }
                // "Think, as much as you like": the level in the middle says so nearest.
                (None, None) if wish.adaptive => {
                    self.losses.emulated("reasoning");
                    self.string("reasoning_effort", Effort::Medium.name());
                }
                (None, None) => {}
            },
            ReasoningStyle::Object => self.member("reasoning", |out| {
                writer::object(out, |o| {
                    if let Some(effort) = wish.effort {
                        o.string("effort", effort.name());
                    }
                    if let Some(budget) = wish.budget {
                        o.number("max_tokens", budget);
                    }
                    if wish.adaptive {
                        o.bool("enabled", true);
                    }
                    if let Some(show) = wish.show {
                        o.bool("exclude", !show);
                    }
                    if let Some(summary) = &wish.summary {
                        o.string("summary", summary);
                    }
                    if own {
                        write_nested(o, extras, "reasoning");
                    }
                });
            }),
            ReasoningStyle::Thinking => {
                let on = wish.adaptive || wish.effort.is_some() || wish.budget.is_some();
                if !off {
                    match (wish.effort, wish.budget) {
                        (Some(_), _) => self.losses.altered("reasoning_effort"),
                        // Only a caller who wrote it in this form knows that the provider takes it.
                        (None, Some(_)) if !own => self.losses.altered("reasoning.max_tokens"),
                        _ => {}
                    }
                }
                let budget = wish.budget.filter(|budget| own && *budget > 0);
                if on || has("thinking") {
                    self.member("thinking", |out| {
                        writer::object(out, |o| {
                            if on {
                                o.string("type", if off { "disabled" } else { "enabled" });
                            }
                            if let Some(budget) = budget {
                                o.number("budget_tokens", budget);
                            }
                            if own {
                                write_nested(o, extras, "thinking");
                            }
                        });
                    });
                }
            }
            ReasoningStyle::EnableThinking => {
                if wish.adaptive || wish.effort.is_some() || wish.budget.is_some() {
                    self.bool("enable_thinking", Some(!off));
                }
                if !off {
                    if wish.effort.is_some() && wish.budget.is_none() {
                        self.losses.altered("reasoning_effort");
                    }
                    self.number("thinking_budget", wish.budget.or(wish.effort.map(Effort::budget)));
                }
            }
        }
    }

    fn sampling(&mut self) {
        let sampling = &self.request.sampling;
        self.digits("temperature", sampling.temperature.as_ref());
        self.digits("top_p", sampling.top_p.as_ref());
        self.digits("top_k", sampling.top_k.as_ref());
        self.digits("seed", sampling.seed.as_ref());
        self.digits("frequency_penalty", sampling.frequency_penalty.as_ref());
        self.digits("presence_penalty", sampling.presence_penalty.as_ref());
        if let Some(bias) = &sampling.logit_bias {
            self.raw("logit_bias", bias);
        }
        self.bool("logprobs", sampling.logprobs);
        self.number("top_logprobs", sampling.top_logprobs);
        // One is what every provider gives unasked.
        if sampling.candidates != Some(1) || self.own && !self.refuses("n") {
            self.number("n", sampling.candidates);
        }
    }

    fn rest(&mut self) {
        let request = self.request;
        self.number("max_completion_tokens", request.max_tokens);
        if !request.stop.is_empty() {
            self.member("stop", |out| writer::array(out, |a| request.stop.iter().for_each(|stop| a.string(stop))));
        }
        if let Some(user) = &request.user {
            self.string("user", user);
        }
        if let Some(metadata) = &request.metadata {
            self.raw("metadata", metadata);
        }
        if let Some(tier) = &request.service_tier {
            // Other dialects have other tiers; this word they share.
            if self.own || tier == "auto" {
                self.string("service_tier", tier);
            } else {
                self.losses.dropped("service_tier");
            }
        }
        if let Some(key) = &request.cache_key {
            self.string("prompt_cache_key", key);
        }
        if !self.to.stream {
            return;
        }
        self.bool("stream", Some(true));
        if self.to.quirks.no_stream_options {
            self.lose_nested("stream_options");
            return;
        }
        let own = self.own;
        self.member("stream_options", |out| {
            writer::object(out, |o| {
                o.bool("include_usage", true);
                if own {
                    write_nested(o, &request.extras, "stream_options");
                }
            });
        });
    }

    fn extras(&mut self) {
        let request = self.request;
        for (name, json) in request.extras.iter() {
            if self.own {
                if !turns::is_inner(name) {
                    self.raw(name, json);
                }
            } else {
                self.losses.dropped(name.to_owned());
            }
        }
    }

    /// Names the unknown members of an object that is not written.
    fn lose_nested(&mut self, prefix: &str) {
        if self.own {
            for (name, _) in nested(&self.request.extras, prefix) {
                self.losses.dropped(format!("{prefix}.{name}"));
            }
        }
    }
}

fn write_tool(a: &mut Array<'_>, tool: &Tool<'_>, own: bool, marks: bool) {
    let (name, description, parameters, strict, cache, extras) = match tool {
        Tool::Other { json, .. } => return a.raw(json),
        Tool::Function { name, description, parameters, strict, cache, extras } => {
            (name, description, parameters, strict, cache, extras)
        }
    };
    a.object(|o| {
        o.string("type", "function");
        o.object("function", |o| {
            o.string("name", name);
            if let Some(text) = description {
                o.string("description", text);
            }
            if let Some(schema) = parameters {
                o.raw("parameters", schema);
            }
            if let Some(strict) = strict {
                o.bool("strict", *strict);
            }
            if own {
                write_nested(o, extras, "function");
            }
        });
        if let (true, Some(mark)) = (marks, cache) {
            o.raw("cache_control", &mark.0);
        }
        if own {
            for (name, json) in extras.iter().filter(|(name, _)| !is_nested(name, &["function"])) {
                o.raw(name, json);
            }
        }
    });
}

fn write_choice(out: &mut Vec<u8>, choice: &ToolChoice<'_>, extras: &Extras<'_>) {
    let function = |o: &mut Object<'_>, name: &str| {
        o.string("type", "function");
        o.object("function", |o| o.string("name", name));
    };
    match choice {
        ToolChoice::Auto => writer::string(out, "auto"),
        ToolChoice::None => writer::string(out, "none"),
        ToolChoice::Required => writer::string(out, "required"),
        ToolChoice::Function(name) => writer::object(out, |o| {
            o.string("type", "function");
            o.object("function", |o| {
                o.string("name", name);
                write_nested(o, extras, "tool_choice.function");
            });
            write_nested(o, extras, "tool_choice");
        }),
        ToolChoice::Allowed { required, names } => writer::object(out, |o| {
            o.string("type", "allowed_tools");
            o.object("allowed_tools", |o| {
                o.string("mode", if *required { "required" } else { "auto" });
                o.array("tools", |a| {
                    for name in names {
                        a.object(|o| function(o, name));
                    }
                });
                write_nested(o, extras, "tool_choice.allowed_tools");
            });
            write_nested(o, extras, "tool_choice");
        }),
        ToolChoice::Other(raw) => out.extend_from_slice(raw.get().as_bytes()),
    }
}
