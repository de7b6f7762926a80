//! Requests: the IR to the body of `POST /v2/chat`.
//!
//! Every member of the request ends in the body or in the losses, under the name that the caller gave it. Only wishes that
//! Cohere grants anyway go without either: one candidate, biases of nothing, plain text. Ranges are narrower than
//! OpenAI's (penalties 0 to 1, `p` 0.01 to 0.99, `k` to 500, five stop sequences); what lies outside is drawn to the edge
//! and named, since Cohere would refuse the whole request for it.

use super::NAME;
use super::tools::Tools;
use super::turns;
use super::wire::says;
use crate::dialect::{To, Unsayable};
use crate::ir::{Effort, Format, Losses, ReasoningWish, Request};
use crate::wire::json::Number;
use crate::wire::writer::{self, Object};

/// Asks for JSON where the target cannot be held to it.
const JSON: &str = "Answer with one JSON object and nothing else: no explanation, no code fence.";

/// Most stop sequences.
const MOST_STOPS: usize = 5;

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
        return Err(Unsayable { path: "n".into(), message: "Cohere gives one answer to a request".into() });
    }
    turns::check(request)?;
    let own = request.origin.0 == NAME;
    let tools = Tools::of(request, own, losses);
    let grounded = own && request.extras.get("documents").is_some_and(says);
    // Cohere takes no format beside tools or documents (guide "Structured outputs").
    let held = tools.is_empty() && !grounded && to.abilities.structured_output != Some(false);
    let instruction = instruction(request, held, losses);
    writer::object(out, |o| {
        let mut body = Body { request, to, own, losses, o };
        let (model, messages) = (body.name("model"), body.name("messages"));
        if !to.quirks.no_model {
            body.o.string(model, to.model);
        }
        body.o.array(messages, |a| turns::write(a, request, to, own, instruction.as_deref(), body.losses));
        body.tools(&tools);
        if held {
            body.format();
        }
        body.thinking();
        body.sampling();
        body.rest();
        body.extras();
    });
    Ok(())
}

/// The words that ask for JSON, where no parameter can.
fn instruction(request: &Request<'_>, held: bool, losses: &mut Losses) -> Option<String> {
    let text = match &request.format {
        Format::Free | Format::Text => return None,
        _ if held => return None,
        Format::JsonObject => JSON.to_owned(),
        Format::JsonSchema { schema, .. } => format!("{JSON} It must satisfy this JSON Schema:\n{}", schema.get()),
    };
    losses.emulated("response_format");
    Some(text)
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

impl<'c> Body<'c, '_> {
    /// The provider's name for a member.
    fn name(&self, ours: &'c str) -> &'c str {
        self.to.quirks.rename.get(ours).map_or(ours, String::as_str)
    }

    /// Whether the target takes a member; where it does not, the caller is told by the name that he gave it.
    fn takes(&mut self, member: &str, caller: &'static str) -> bool {
        let refused = self.to.quirks.refuses.iter().any(|refused| refused == member || refused == caller);
        if refused {
            self.losses.dropped(caller);
        }
        !refused
    }

    fn tools(&mut self, tools: &Tools<'_>) {
        if tools.is_empty() || !self.takes("tools", "tools") {
            return;
        }
        let name = self.name("tools");
        self.o.array(name, |a| tools.write(a));
        if tools.strict && self.takes("strict_tools", "tools.function.strict") {
            self.o.bool(self.name("strict_tools"), true);
        }
        if let Some(raw) = tools.own_choice {
            self.o.raw(self.name("tool_choice"), raw);
        } else if let Some(word) = tools.choice
            && self.takes("tool_choice", "tool_choice")
        {
            self.o.string(self.name("tool_choice"), word);
        }
    }

    fn format(&mut self) {
        let schema = match &self.request.format {
            Format::Free | Format::Text => return,
            Format::JsonObject => None,
            // A schema is always kept to, and has no name.
            Format::JsonSchema { description, schema, .. } => {
                if description.is_some() {
                    self.losses.dropped("response_format.json_schema.description");
                }
                Some(schema)
            }
        };
        if self.takes("response_format", "response_format") {
            let name = self.name("response_format");
            self.o.object(name, |o| {
                o.string("type", "json_object");
                if let Some(schema) = schema {
                    o.raw("schema", schema);
                }
            });
        }
    }

    /// Cohere counts thoughts in tokens; a level becomes its budget.
    fn thinking(&mut self) {
        let default = ReasoningWish::default();
        let wish = self.request.reasoning.as_ref().unwrap_or(&default);
        if wish.show == Some(false) {
            self.losses.dropped("reasoning.exclude");
        }
        if wish.summary.is_some() {
            self.losses.dropped("reasoning.summary");
        }
        let off = wish.effort == Some(Effort::None) || wish.effort.is_none() && wish.budget == Some(0);
        let asked = wish.effort.is_some() || wish.budget.is_some() || wish.adaptive;
        if !asked {
            // To be shown thoughts is no wish that there be any.
            if wish.show == Some(true) {
                self.losses.dropped("reasoning");
            }
            return;
        }
        let path = if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" };
        if self.to.abilities.reasoning == Some(false) {
            if !off {
                self.losses.dropped(path);
            }
            return;
        }
        if !self.takes("thinking", path) {
            return;
        }
        let budget = wish.budget.or_else(|| wish.effort.map(Effort::budget)).filter(|_| !off);
        if !off && wish.budget.is_none() && wish.effort.is_some() {
            self.losses.altered(path);
        }
        let name = self.name("thinking");
        self.o.object(name, |o| {
            o.string("type", if off { "disabled" } else { "enabled" });
            if let Some(budget) = budget {
                o.number("token_budget", budget);
            }
        });
    }

    fn sampling(&mut self) {
        let sampling = &self.request.sampling;
        self.within("temperature", "temperature", sampling.temperature.as_ref(), ("0", f64::MAX, "0"));
        self.within("p", "top_p", sampling.top_p.as_ref(), ("0.01", 0.99, "0.99"));
        self.within("k", "top_k", sampling.top_k.as_ref(), ("0", 500.0, "500"));
        self.within("frequency_penalty", "frequency_penalty", sampling.frequency_penalty.as_ref(), ("0", 1.0, "1"));
        self.within("presence_penalty", "presence_penalty", sampling.presence_penalty.as_ref(), ("0", 1.0, "1"));
        match &sampling.seed {
            // Another seed would be as good as none.
            Some(seed) if seed.get().starts_with('-') => self.losses.dropped("seed"),
            Some(seed) if self.takes("seed", "seed") => self.o.digits(self.name("seed"), seed),
            _ => {}
        }
        if sampling.logit_bias.as_ref().is_some_and(says) {
            self.losses.dropped("logit_bias");
        }
        if sampling.logprobs == Some(true) && self.takes("logprobs", "logprobs") {
            self.o.bool(self.name("logprobs"), true);
        }
        if sampling.top_logprobs.unwrap_or(0) > 0 {
            self.losses.dropped("top_logprobs");
        }
    }

    /// Writes a number, drawn to the nearer edge of its range: the least, the most, and the most as text.
    fn within(
        &mut self,
        member: &'static str,
        caller: &'static str,
        number: Option<&Number<'_>>,
        (least, most, edge): (&'static str, f64, &'static str),
    ) {
        let Some(number) = number else { return };
        if !self.takes(member, caller) {
            return;
        }
        let value = number.as_f64();
        let drawn = if value > most {
            Some(edge)
        } else if value < least.parse().unwrap_or(0.0) {
            Some(least)
        } else {
            None
        };
        let name = self.name(member);
        match drawn {
            Some(edge) => {
                self.losses.altered(caller);
                self.o.literal(name, edge);
            }
            None => self.o.digits(name, number),
        }
    }

    fn rest(&mut self) {
        let request = self.request;
        if let Some(most) = request.max_tokens
            && self.takes("max_tokens", "max_tokens")
        {
            self.o.number(self.name("max_tokens"), most);
        }
        if !request.stop.is_empty() && self.takes("stop_sequences", "stop") {
            if request.stop.len() > MOST_STOPS {
                self.losses.altered("stop");
            }
            let name = self.name("stop_sequences");
            self.o.array(name, |a| request.stop.iter().take(MOST_STOPS).for_each(|stop| a.string(stop)));
        }
        if self.to.stream {
            self.o.bool(self.name("stream"), true);
        }
        for (said, name) in [
            (request.user.is_some(), "user"),
            (request.metadata.is_some(), "metadata"),
            (request.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "service_tier"),
            (request.cache_key.is_some(), "prompt_cache_key"),
            (request.parallel_tool_calls == Some(false), "parallel_tool_calls"),
        ] {
            if said {
                self.losses.dropped(name);
            }
        }
    }

    /// `documents`, `citation_options`, `safety_mode` and whatever else only this dialect's callers know.
    fn extras(&mut self) {
        let request = self.request;
        for (name, json) in request.extras.iter() {
            if self.own && !self.to.quirks.refuses.iter().any(|refused| refused == name) {
                self.o.raw(name, json);
            } else {
                self.losses.dropped(name.to_owned());
            }
        }
    }
}
