//! Requests: the IR to the body of `POST /messages`.
//!
//! Every member of the request ends in the body or in the losses, under the name that the caller gave it. Only wishes that
//! Anthropic grants anyway go without either: one candidate, no log probabilities, penalties and biases of zero, plain
//! text.

use super::NAME;
use super::model::Model;
use super::schema::{self, Fit, Notes};
use super::thinking::{self, Plan, Thinking};
use super::tools::{self, Tools};
use super::turns::Turns;
use super::wire::Bag;
use crate::dialect::{To, Unsayable, additions};
use crate::ir::{Format, Losses, Request};
use crate::wire::json::{Number, Raw, Text};
use crate::wire::writer::{self, Object};

/// Members of a caller's own that are written by parts: what else they have is kept as `name.member`.
const NESTED: [&str; 3] = ["output_config", "thinking", "tool_choice"];

/// Members of a caller's own, beside those that are written by parts, that have tokens or say how they are counted.
const COUNTED: [&str; 5] = ["cache_control", "context_management", "mcp_servers", "thinking", "speed"];

/// Asks for JSON where the target has no parameter for it. It goes into the system prompt: a tool that the answer is put
/// into by force would have to be undone in the answer, and would forbid thinking and the caller's own tools.
const JSON: &str = "Answer with one JSON object and nothing else: no explanation, no code fence.";

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
    write(request, to, false, out, losses)
}

/// Writes the body of a question for the number of tokens. What only sampling needs is left out, and is no loss.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_count(
    request: &Request<'_>,
    to: &To<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<(), Unsayable> {
    write(request, to, true, out, losses)
}

fn write(
    request: &Request<'_>,
    to: &To<'_>,
    counting: bool,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<(), Unsayable> {
    if request.sampling.candidates.is_some_and(|candidates| candidates > 1) {
        let message = "Anthropic gives one answer to a request".to_owned();
        return Err(Unsayable { path: "n".to_owned(), message });
    }
    let model = Model::of(to.model);
    let (format, instruction) = format(request, model, to, losses);
    let turns = Turns::of(request, model, instruction, losses)?;
    let tools = Tools::of(request, model.takes_schema(to), losses)?;
    let plan = Plan::new(request, model, to, turns.breaks_thinking(), losses);
    let start = out.len();
    writer::object(out, |o| {
        Body { request, to, model, plan, own: request.origin.0 == NAME, counting, losses, o }
            .write(&turns, &tools, format)
    });
    additions::complete(to.quirks, start, out);
    Ok(())
}

/// The schema as Anthropic takes it, or the instruction in its place.
fn format(request: &Request<'_>, model: Model, to: &To<'_>, losses: &mut Losses) -> (Option<Vec<u8>>, Option<String>) {
    match &request.format {
        Format::Free | Format::Text => (None, None),
        Format::JsonObject => {
            losses.emulated("response_format");
            (None, Some(JSON.to_owned()))
        }
        Format::JsonSchema { name, description, schema, .. } => {
            let mut out = Vec::new();
            let fit = if !model.takes_schema(to) {
                Fit::None
            } else if request.origin.0 == NAME {
                out.extend_from_slice(schema.get().as_bytes());
                Fit::Whole
            } else {
                let notes = Notes { title: name.as_deref(), description: description.as_deref() };
                let fit = schema::adapt(schema, notes, &mut out);
                let [title, description] = schema::shadows(schema, notes).map(|shadows| shadows && fit != Fit::None);
                for (lost, path) in [
                    (title, "response_format.json_schema.name"),
                    (description, "response_format.json_schema.description"),
                ] {
                    if lost {
                        losses.dropped(path);
                    }
                }
                fit
            };
            match fit {
                Fit::Whole => (Some(out), None),
                Fit::Altered => {
                    losses.altered("response_format.json_schema.schema");
                    (Some(out), None)
                }
                Fit::None => {
                    losses.emulated("response_format");
                    (None, Some(told(schema, name.as_deref(), description.as_deref())))
                }
            }
        }
    }
}

fn told(schema: &Raw<'_>, name: Option<&str>, description: Option<&str>) -> String {
    let mut text = format!("{JSON} It must satisfy this JSON Schema");
    for (mark, words) in [(" ", name), (": ", description)] {
        if let Some(words) = words {
            text.push_str(mark);
            text.push_str(words);
        }
    }
    text.push_str(":\n");
    text.push_str(schema.get());
    text
}

/// The body being written.
struct Body<'c, 'w> {
    request: &'c Request<'c>,
    to: &'c To<'c>,
    model: Model,
    plan: Plan,
    /// The request came in this very dialect.
    own: bool,
    /// Only the tokens are asked for.
    counting: bool,
    losses: &'c mut Losses,
    o: &'c mut Object<'w>,
}

impl<'c> Body<'c, '_> {
    fn write(mut self, turns: &Turns<'_>, tools: &Tools<'_>, format: Option<Vec<u8>>) {
        let request = self.request;
        if !self.to.quirks.no_model {
            self.o.string(self.name("model"), self.to.model);
        }
        if !self.counting {
            self.o.number(self.name("max_tokens"), self.plan.max_tokens);
        }
        turns.write(self.o, self.name("system"), self.name("messages"));
        if !tools.is_empty() && self.takes("tools", "tools") {
            let (name, losses) = (self.name("tools"), &mut *self.losses);
            self.o.array(name, |a| tools.write(losses, a));
            if request.tool_choice.is_none() && request.parallel_tool_calls.is_none()
                || self.takes("tool_choice", "tool_choice")
            {
                tools::choice(request, true, &self.plan, self.losses, self.o);
            }
        } else {
            tools::choice(request, false, &self.plan, self.losses, self.o);
        }
        self.thinking();
        self.output(format);
        if !self.counting {
            self.sampling();
            self.rest();
        }
        for (name, json) in request.extras.iter() {
            if !self.own {
                self.losses.dropped(name.to_owned());
            } else if !NESTED.iter().any(|outer| name.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.')))
                && (!self.counting || COUNTED.contains(&name))
            {
                self.o.raw(name, json);
            }
        }
    }

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

    fn thinking(&mut self) {
        if self.plan.thinking != Thinking::Default && self.takes("thinking", "reasoning_effort") {
            let (name, plan) = (self.name("thinking"), self.plan);
            let rest = thinking::nested(&self.request.extras, "thinking").filter(|_| self.own);
            self.o.object(name, |o| plan.write(o, rest));
        }
    }

    fn output(&mut self, format: Option<Vec<u8>>) {
        let request = self.request;
        let own = self.own;
        let rest = || thinking::nested(&request.extras, "output_config").filter(|_| own);
        let effort = self.plan.effort();
        if format.is_none() && effort.is_none() && rest().next().is_none() {
            return;
        }
        if !self.takes("output_config", if format.is_some() { "response_format" } else { "reasoning_effort" }) {
            return;
        }
        self.o.object(self.name("output_config"), |o| {
            if let Some(effort) = effort {
                o.string("effort", effort);
            }
            if let Some(schema) = format {
                o.object("format", |o| {
                    o.string("type", "json_schema");
                    o.value("schema").extend_from_slice(&schema);
                    for (name, json) in thinking::nested(&request.extras, "output_config.format").filter(|_| own) {
                        o.raw(name, json);
                    }
                });
            }
            for (name, json) in rest() {
                o.raw(name, json);
            }
        });
    }

    /// Anthropic's scale of temperatures ends at 1, and a model that thinks takes no other. See also [`Model`].
    fn sampling(&mut self) {
        let sampling = &self.request.sampling;
        let thinks = self.plan.thinks();
        let free = self.model.takes_sampling();
        let is = |number: &Number<'_>, wanted: f64| number.as_f64() == wanted;
        let mut tempered = false;
        if let Some(temperature) = &sampling.temperature {
            if !is(temperature, 1.0) && (thinks || !free) {
                self.losses.dropped("temperature");
            } else if self.takes("temperature", "temperature") {
                if temperature.as_f64() > 1.0 {
                    self.o.number(self.name("temperature"), 1);
                    self.losses.altered("temperature");
                } else {
                    self.o.digits(self.name("temperature"), temperature);
                }
                tempered = true;
            }
        }
        if let Some(top_p) = &sampling.top_p {
            let both = tempered && !self.model.takes_both();
            if !free || both || (thinks && !(0.95..=1.0).contains(&top_p.as_f64())) {
                self.losses.dropped("top_p");
            } else if self.takes("top_p", "top_p") {
                self.o.digits(self.name("top_p"), top_p);
            }
        }
        if let Some(top_k) = &sampling.top_k {
            if !free || thinks {
                self.losses.dropped("top_k");
            } else if self.takes("top_k", "top_k") {
                self.o.digits(self.name("top_k"), top_k);
            }
        }
        let zero = |number: &Option<Number<'_>>| number.as_ref().is_none_or(|number| is(number, 0.0));
        let none = |bias: &Raw<'_>| bias.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.is_empty());
        for (granted, name) in [
            (sampling.seed.is_none(), "seed"),
            (zero(&sampling.frequency_penalty), "frequency_penalty"),
            (zero(&sampling.presence_penalty), "presence_penalty"),
            (sampling.logit_bias.as_ref().is_none_or(none), "logit_bias"),
            (sampling.logprobs != Some(true), "logprobs"),
            (sampling.top_logprobs.unwrap_or(0) == 0, "top_logprobs"),
        ] {
            if !granted {
                self.losses.dropped(name);
            }
        }
    }

    fn rest(&mut self) {
        let request = self.request;
        if !request.stop.is_empty() && self.takes("stop_sequences", "stop") {
            // Sequences of white space alone are refused.
            let taken: Vec<_> = request.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
            if taken.is_empty() {
                self.losses.dropped("stop");
            } else {
                self.o.array(self.name("stop_sequences"), |a| taken.iter().for_each(|stop| a.string(stop)));
                if taken.len() < request.stop.len() {
                    self.losses.altered("stop");
                }
            }
        }
        if self.to.stream {
            self.o.bool(self.name("stream"), true);
        }
        self.metadata();
        let tier = request.service_tier.as_deref().map(|tier| match tier {
            "auto" | "standard_only" => Some(tier),
            // OpenAI's word for no priority, which is what Anthropic's says too.
            "default" if !self.own => Some("standard_only"),
            _ => None,
        });
        match tier {
            None => {}
            Some(None) => self.losses.dropped("service_tier"),
            Some(Some(tier)) => {
                let taken = self.takes("service_tier", "service_tier");
                if taken {
                    self.o.string(self.name("service_tier"), tier);
                }
            }
        }
        if request.cache_key.is_some() {
            self.losses.dropped("prompt_cache_key");
        }
    }

    /// Anthropic's metadata has one member, the end user; a caller of this dialect may know of more.
    fn metadata(&mut self) {
        let request = self.request;
        let user = request.user.as_ref().filter(|_| self.takes("metadata", "user"));
        let own = self.own.then_some(request.metadata.as_ref()).flatten();
        if request.metadata.is_some() && !self.own {
            self.losses.dropped("metadata");
        }
        let Some(Bag { extras }) = own.map_or(Some(Bag::default()), |json| json.read().ok()) else { return };
        if user.is_none() && extras.is_empty() {
            return;
        }
        self.o.object(self.name("metadata"), |o| {
            if let Some(user) = user {
                o.string("user_id", user as &Text<'_>);
            }
            for (name, json) in extras.iter().filter(|(name, _)| user.is_none() || *name != "user_id") {
                o.raw(name, json);
            }
        });
    }
}
