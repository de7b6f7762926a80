//! Requests, written: the IR into a provider's body, bent to the provider's quirks.

use crate::dialect::openai_chat::turns::schema_instruction;
use crate::dialect::openai_chat::wire::{is_nested, nested, write_nested};
use crate::dialect::{To, Unsayable};
use crate::ir::{Effort, Format, Losses, ReasoningWish, Request, Tool, ToolChoice};
use crate::wire::json::{Extras, Number, Text};
use crate::wire::writer::{self, Array, Object};

use super::request::{ENCRYPTED, LOGPROBS};
use super::turns;
use super::wire::ORIGIN;

/// The least `max_output_tokens` that OpenAI takes.
const LEAST_TOKENS: u64 = 16;

/// Writes the body for a target.
///
/// # Errors
/// Several candidates are asked for, or media are said that have no place here.
pub fn encode(request: &Request<'_>, to: &To<'_>, out: &mut Vec<u8>, losses: &mut Losses) -> Result<(), Unsayable> {
    if request.sampling.candidates.is_some_and(|n| n > 1) {
        let message = "the Responses API gives one answer to a request".to_owned();
        return Err(Unsayable { path: "n".to_owned(), message });
    }
    turns::check(request)?;
    let own = request.origin == ORIGIN;
    let schemas = !to.quirks.no_json_schema && to.abilities.structured_output != Some(false);
    let instruction = match &request.format {
        Format::JsonSchema { schema, .. } if !schemas => Some(schema_instruction(schema)),
        _ => None,
    };
    writer::object(out, |o| {
        if !to.quirks.no_model {
            o.string("model", to.model);
        }
        let (instructions, rest) = turns::instructions(request);
        let instructions = match (instructions, instruction) {
            (Some(text), Some(more)) => Some(Text::from(format!("{text}\n\n{more}"))),
            (text, more) => text.or(more.map(Text::from)),
        };
        let mut top = Top { o, own, request, to, losses, written: Vec::new() };
        if let Some(text) = instructions {
            top.string("instructions", &text);
        }
        top.input(rest);
        top.tools();
        top.text(schemas);
        top.reasoning();
        top.sampling();
        top.rest();
        top.extras();
    });
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
    /// Writes a member under the provider's name for it, unless the provider refuses it. `lost` is what the caller
    /// calls it.
    fn member(&mut self, name: &str, lost: &'static str, value: impl FnOnce(&mut Vec<u8>)) {
        if !self.ours(name, value) {
            self.losses.dropped(lost);
        }
    }

    /// As [`Top::member`], for what no caller asked for.
    fn ours(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) -> bool {
        let theirs = self.to.quirks.rename.get(name).map_or(name, String::as_str);
        if refuses(self.to, name) || self.written.iter().any(|written| written == theirs) {
            return false;
        }
        self.written.push(theirs.to_owned());
        value(self.o.value(theirs));
        true
    }

    fn string(&mut self, name: &'static str, text: &str) {
        self.member(name, name, |out| writer::string(out, text));
    }

    fn digits(&mut self, name: &'static str, n: Option<&Number<'_>>) {
        if let Some(n) = n {
            self.member(name, name, |out| out.extend_from_slice(n.get().as_bytes()));
        }
    }

    fn bool(&mut self, name: &'static str, yes: Option<bool>) {
        if let Some(yes) = yes {
            self.member(name, name, |out| out.extend_from_slice(if yes { b"true" } else { b"false" }));
        }
    }

    fn input(&mut self, rest: usize) {
        let out = self.o.value("input");
        writer::array(out, |a| turns::encode(a, self.request, rest, self.to, self.losses));
    }

    fn tools(&mut self) {
        let (request, own) = (self.request, self.own);
        let known = |tool: &Tool<'_>| own || matches!(tool, Tool::Function { .. });
        for (i, tool) in request.tools.iter().enumerate() {
            match tool {
                Tool::Other { kind, .. } if !own => self.losses.dropped(format!("tools[{i}].{kind}")),
                Tool::Function { extras, cache, .. } => {
                    let names = extras.iter().map(|(name, _)| name).filter(|_| !own);
                    for name in names.chain(cache.as_ref().map(|_| "cache_control")) {
                        self.losses.dropped(format!("tools[{i}].{name}"));
                    }
                }
                Tool::Other { .. } => {}
            }
        }
        let any = request.tools.iter().any(known);
        if any {
            self.member("tools", "tools", |out| {
                writer::array(out, |a| {
                    request.tools.iter().filter(|tool| known(tool)).for_each(|tool| write_tool(a, tool, own));
                });
            });
        }
        match &request.tool_choice {
            None => {}
            Some(ToolChoice::Other(_)) if !own => self.losses.dropped("tool_choice"),
            // Refused without tools; that none was to be called is then granted anyway.
            Some(ToolChoice::Auto | ToolChoice::None) if !any && !own => {}
            Some(_) if !any && !own => self.losses.dropped("tool_choice"),
            Some(choice) => {
                let none = Extras::default();
                let extras = if own { &request.extras } else { &none };
                self.member("tool_choice", "tool_choice", |out| write_choice(out, choice, extras));
            }
        }
        if any || own {
            self.bool("parallel_tool_calls", request.parallel_tool_calls);
        }
    }

    /// Writes `text`: the answer's form and its length.
    fn text(&mut self, schemas: bool) {
        let (request, own) = (self.request, self.own);
        let lost = if own { "text.format" } else { "response_format" };
        // The same word stands at the top of a chat request.
        let verbosity = request.extras.get("verbosity").filter(|_| self.is_chat());
        if own && !schemas {
            for (name, _) in nested(&request.extras, "text.format") {
                self.losses.dropped(format!("text.format.{name}"));
            }
        }
        let nothing = matches!(request.format, Format::Free);
        let extras = nested(&request.extras, "text").next().is_some() && own;
        if nothing && verbosity.is_none() && !extras {
            return;
        }
        if !schemas && matches!(request.format, Format::JsonSchema { .. }) {
            self.losses.emulated(lost);
        }
        self.member("text", lost, |out| {
            writer::object(out, |o| {
                if !nothing {
                    o.object("format", |o| {
                        write_format(o, &request.format, schemas);
                        if own && schemas {
                            write_nested(o, &request.extras, "text.format");
                        }
                    });
                }
                if let Some(verbosity) = verbosity {
                    o.raw("verbosity", verbosity);
                }
                if own {
                    write_nested(o, &request.extras, "text");
                }
            });
        });
    }

    fn is_chat(&self) -> bool {
        self.request.origin == crate::dialect::openai_chat::wire::ORIGIN
    }

    fn reasoning(&mut self) {
        let own = self.own;
        let default = ReasoningWish::default();
        let wish = self.request.reasoning.as_ref().unwrap_or(&default);
        let extras = &self.request.extras;
        let has = own && nested(extras, "reasoning").next().is_some();
        if *wish == default && !has {
            return;
        }
        let off = wish.effort == Some(Effort::None) || wish.effort.is_none() && wish.budget == Some(0);
        if self.to.abilities.reasoning == Some(false) {
            if !off {
                self.losses.dropped("reasoning");
            }
            return;
        }
        let effort = match (wish.effort, wish.budget) {
            (Some(effort), budget) => {
                if budget.is_some_and(|budget| budget > 0) {
                    self.losses.dropped("reasoning.max_tokens");
                }
                Some(effort)
            }
            (None, Some(budget)) => {
                if budget > 0 {
                    self.losses.altered("reasoning.max_tokens");
                }
                Some(Effort::from_budget(budget))
            }
            // "Think, as much as you like": the level in the middle says so nearest.
            (None, None) if wish.adaptive => {
                self.losses.emulated("reasoning");
                Some(Effort::Medium)
            }
            (None, None) => None,
        };
        if wish.show == Some(false) && !own {
            // No thoughts are shown of which no summary is asked for.
            self.losses.emulated("reasoning.exclude");
        }
        let show = (wish.show == Some(true) && !off).then(|| Text::from("auto"));
        let summary = wish.summary.as_ref().map(Text::reborrow).filter(|_| wish.show != Some(false)).or(show);
        if effort.is_none() && summary.is_none() && !has {
            return;
        }
        self.member("reasoning", "reasoning", |out| {
            writer::object(out, |o| {
                if let Some(effort) = effort {
                    o.string("effort", effort.name());
                }
                if let Some(summary) = summary {
                    o.string("summary", &summary);
                }
                if own {
                    write_nested(o, extras, "reasoning");
                }
            });
        });
    }

    fn sampling(&mut self) {
        let sampling = &self.request.sampling;
        self.digits("temperature", sampling.temperature.as_ref());
        self.digits("top_p", sampling.top_p.as_ref());
        if let Some(n) = sampling.top_logprobs.filter(|_| sampling.logprobs != Some(false)) {
            // Without `include` none are shown.
            if refuses(self.to, "include") {
                self.losses.dropped("top_logprobs");
            } else {
                self.member("top_logprobs", "top_logprobs", |out| writer::number(out, n));
            }
        }
        let zero = |n: &Number<'_>| n.as_f64() == 0.0;
        let bias = sampling.logit_bias.as_ref().is_some_and(|json| json.get() != "{}");
        for (name, asked) in [
            ("top_k", sampling.top_k.is_some()),
            ("seed", sampling.seed.is_some()),
            ("frequency_penalty", sampling.frequency_penalty.as_ref().is_some_and(|n| !zero(n))),
            ("presence_penalty", sampling.presence_penalty.as_ref().is_some_and(|n| !zero(n))),
            ("logit_bias", bias),
            ("stop", !self.request.stop.is_empty()),
        ] {
            if asked {
                self.losses.dropped(name);
            }
        }
    }

    fn rest(&mut self) {
        let request = self.request;
        if let Some(most) = request.max_tokens {
            if most < LEAST_TOKENS && !self.own {
                self.losses.altered("max_tokens");
            }
            let most = if self.own { most } else { most.max(LEAST_TOKENS) };
            self.member("max_output_tokens", "max_tokens", |out| writer::number(out, most));
        }
        if let Some(user) = &request.user {
            self.string("user", user);
        }
        if let Some(metadata) = &request.metadata {
            self.member("metadata", "metadata", |out| out.extend_from_slice(metadata.get().as_bytes()));
        }
        if let Some(tier) = &request.service_tier {
            // Other dialects have other tiers; this word they share.
            if self.own || self.is_chat() || tier == "auto" {
                self.string("service_tier", tier);
            } else {
                self.losses.dropped("service_tier");
            }
        }
        if let Some(key) = &request.cache_key {
            self.string("prompt_cache_key", key);
        }
        self.include();
        // What a caller may refer to later is kept by us, whoever the provider was.
        self.ours("store", |out| out.extend_from_slice(b"false"));
        if self.to.stream {
            self.bool("stream", Some(true));
        }
    }

    /// Asks for thoughts in the form in which they can be sent back, as the provider stores nothing.
    fn include(&mut self) {
        let mut names: Vec<Text<'_>> = Vec::new();
        if reasons(self.to) {
            names.push(ENCRYPTED.into());
        }
        if self.request.sampling.logprobs == Some(true) {
            names.push(LOGPROBS.into());
        }
        let asked = names.len();
        if self.own
            && let Some(raw) = self.request.extras.get("include")
        {
            names.extend(raw.read::<Vec<Text<'_>>>().unwrap_or_default());
        }
        let logprobs = names.iter().any(|name| *name == LOGPROBS);
        if !names.is_empty()
            && !self.ours("include", |out| writer::array(out, |a| names.iter().for_each(|name| a.string(name))))
        {
            if logprobs {
                self.losses.dropped("logprobs");
            }
            if names.len() > asked {
                self.losses.dropped("include");
            }
        }
    }

    fn extras(&mut self) {
        let request = self.request;
        let chat = self.is_chat();
        for (name, json) in request.extras.iter() {
            // One company's two dialects share these.
            let shared = chat && matches!(name, "safety_identifier" | "prompt_cache_retention");
            let placed = chat && name == "verbosity" || self.own && name == "include";
            if placed || self.own && is_nested(name, &["text", "reasoning", "tool_choice"]) {
                continue;
            }
            if self.own && is_nested(name, &["stream_options"]) {
                if !self.to.stream || self.to.quirks.no_stream_options {
                    self.losses.dropped(name.to_owned());
                }
                continue;
            }
            if !(self.own || shared) || !self.ours(name, |out| out.extend_from_slice(json.get().as_bytes())) {
                self.losses.dropped(name.to_owned());
            }
        }
        let options = self.own && self.to.stream && !self.to.quirks.no_stream_options;
        if options && nested(&request.extras, "stream_options").next().is_some() {
            self.member("stream_options", "stream_options", |out| {
                writer::object(out, |o| write_nested(o, &request.extras, "stream_options"));
            });
        }
    }
}

/// Whether the model thinks, so that it can be asked for its thoughts: others refuse the question. Models that the
/// catalogue does not know are told by OpenAI's names for its last models that did not think.
fn reasons(to: &To<'_>) -> bool {
    let name = to.model.rsplit_once('/').map_or(to.model, |(_, name)| name);
    let plain = ["gpt-4", "gpt-3.5", "chatgpt-4"].iter().any(|prefix| name.starts_with(prefix));
    to.abilities.reasoning.unwrap_or(!plain)
}

fn write_tool(a: &mut Array<'_>, tool: &Tool<'_>, own: bool) {
    let (name, description, parameters, strict, extras) = match tool {
        Tool::Other { json, .. } => return a.raw(json),
        Tool::Function { name, description, parameters, strict, extras, .. } => {
            (name, description, parameters, strict, extras)
        }
    };
    a.object(|o| {
        o.string("type", "function");
        o.string("name", name);
        if let Some(text) = description {
            o.string("description", text);
        }
        match parameters {
            Some(schema) => o.raw("parameters", schema),
            None if own => o.null("parameters"),
            None => o.literal("parameters", r#"{"type":"object","properties":{}}"#),
        }
        match strict {
            Some(strict) => o.bool("strict", *strict),
            // Here a function is strict unless it says otherwise; elsewhere it is not.
            None if !own => o.bool("strict", false),
            None => {}
        }
        if own {
            o.extras(extras);
        }
    });
}

fn write_choice(out: &mut Vec<u8>, choice: &ToolChoice<'_>, extras: &Extras<'_>) {
    let function = |o: &mut Object<'_>, name: &str| {
        o.string("type", "function");
        o.string("name", name);
    };
    match choice {
        ToolChoice::Auto => writer::string(out, "auto"),
        ToolChoice::None => writer::string(out, "none"),
        ToolChoice::Required => writer::string(out, "required"),
        ToolChoice::Function(name) => writer::object(out, |o| {
            function(o, name);
            write_nested(o, extras, "tool_choice");
        }),
        ToolChoice::Allowed { required, names } => writer::object(out, |o| {
            o.string("type", "allowed_tools");
            o.string("mode", if *required { "required" } else { "auto" });
            o.array("tools", |a| names.iter().for_each(|name| a.object(|o| function(o, name))));
            write_nested(o, extras, "tool_choice");
        }),
        ToolChoice::Other(raw) => out.extend_from_slice(raw.get().as_bytes()),
    }
}

fn write_format(o: &mut Object<'_>, format: &Format<'_>, schemas: bool) {
    match format {
        Format::Free | Format::Text => o.string("type", "text"),
        Format::JsonSchema { name, description, schema, strict } if schemas => {
            o.string("type", "json_schema");
            // A name is demanded.
            o.string("name", name.as_deref().unwrap_or("answer"));
            if let Some(text) = description {
                o.string("description", text);
            }
            o.raw("schema", schema);
            if let Some(strict) = strict {
                o.bool("strict", *strict);
            }
        }
        Format::JsonObject | Format::JsonSchema { .. } => o.string("type", "json_object"),
    }
}
