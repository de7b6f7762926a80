//! Requests: the IR to the body of Converse, which is ConverseStream's as well. The model stands in the path.
//!
//! Every member of the request ends in the body or in the losses, under the name that the caller gave it. Only wishes that
//! are granted anyway go without either: one candidate, no log probabilities, penalties and biases of zero, plain text.
//! What only Bedrock knows can be told by its own names, whatever dialect the caller speaks ([`OWN`]).

use super::format::Form;
use super::model::{Maker, Model};
use super::thinking::{self, Wish};
use super::tools::Tools;
use super::turns::Turns;
use super::wire::Bag;
use crate::dialect::{To, Unsayable};
use crate::ir::{Losses, Request};
use crate::wire::json::{Kind, Number, Raw, Text};
use crate::wire::writer::{self, Object};

/// Members of Converse that a caller may send among his own; no other dialect has members of these names.
const OWN: [&str; 7] = [
    "guardrailConfig",
    "performanceConfig",
    "requestMetadata",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "serviceTier",
    ADDITIONAL,
];

/// Members of the model's own, which are put together with ours.
const ADDITIONAL: &str = "additionalModelRequestFields";
const TIERS: [&str; 4] = ["default", "flex", "priority", "reserved"];

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
        let message = "Bedrock gives one answer to a request".to_owned();
        return Err(Unsayable { path: "n".to_owned(), message });
    }
    let plan = Plan::of(request, to, losses)?;
    writer::object(out, |o| {
        plan.conversation(losses, o);
        Body { plan: &plan, losses, o }.write();
    });
    Ok(())
}

/// A request whose parts have been judged together.
pub(super) struct Plan<'r> {
    request: &'r Request<'r>,
    to: &'r To<'r>,
    model: Model,
    turns: Turns<'r>,
    tools: Tools<'r>,
    form: Form<'r>,
    wish: Wish,
}

impl<'r> Plan<'r> {
    pub(super) fn of(request: &'r Request<'r>, to: &'r To<'r>, losses: &mut Losses) -> Result<Plan<'r>, Unsayable> {
        let model = Model::of(to.model);
        let takes = |name: &str| !to.quirks.refuses.iter().any(|refused| refused == name);
        // Whether a tool can stand for a schema is known only when the conversation is; an instruction is part of it. So
        // what forbids force is asked of the request, and thinking on a budget is only what it might come to.
        let calls =
            request.messages.iter().flat_map(|message| &message.blocks).any(|block| {
                matches!(block.content, crate::ir::Content::ToolCall(_) | crate::ir::Content::ToolResult(_))
            });
        let thinks = model.maker == Maker::Claude && request.reasoning.is_some();
        let free_to_force = request.tools.is_empty() && !calls && !thinks && takes("tools") && takes("tool_choice");
        let form = match takes("response_format") {
            true => Form::of(request, model, to, free_to_force, losses),
            false => {
                if !matches!(request.format, crate::ir::Format::Free) {
                    losses.dropped("response_format");
                }
                Form::Free
            }
        };
        let turns = Turns::of(request, model, form.instruction(), losses)?;
        let tools = Tools::of(request, model, to, losses)?;
        let wish = Wish::of(request, model, to, &turns, losses);
        Ok(Plan { request, to, model, turns, tools, form, wish })
    }

    /// Writes what is asked, without how: `messages`, `system`, `toolConfig`. It is what tokens are counted of.
    pub(super) fn conversation(&self, losses: &mut Losses, o: &mut Object<'_>) {
        o.array(self.name("messages"), |a| self.turns.write_messages(a));
        if self.turns.has_system() {
            o.array(self.name("system"), |a| self.turns.write_system(a));
        }
        self.tools.write(self.request, (&self.turns, &self.form), &self.wish, losses, o);
    }

    /// The provider's name for a member.
    fn name(&self, ours: &'r str) -> &'r str {
        self.to.quirks.rename.get(ours).map_or(ours, String::as_str)
    }

    /// Whether the target takes a member; where it does not, the caller is told by the name that he gave it.
    fn takes(&self, member: &str, caller: &'static str, losses: &mut Losses) -> bool {
        let refused = self.to.quirks.refuses.iter().any(|refused| refused == member || refused == caller);
        if refused {
            losses.dropped(caller);
        }
        !refused
    }
}

/// The body being written.
struct Body<'c, 'w> {
    plan: &'c Plan<'c>,
    losses: &'c mut Losses,
    o: &'c mut Object<'w>,
}

impl Body<'_, '_> {
    fn write(mut self) {
        self.inference();
        self.additional();
        if let Form::Native { .. } = self.plan.form {
            let name = self.plan.name("outputConfig");
            self.o.object(name, |o| self.plan.form.write_config(o));
        }
        self.tier();
        self.metadata();
        self.rest();
    }

    fn inference(&mut self) {
        let plan = self.plan;
        let request = plan.request;
        let losses = &mut *self.losses;
        let max_tokens = plan
            .wish
            .max_tokens
            .filter(|_| request.max_tokens.is_none() || plan.takes("maxTokens", "max_tokens", losses));
        let (temperature, top_p) = temperatures(plan, losses);
        // Sequences of white space alone are refused.
        let stop: Vec<&Text<'_>> = match !request.stop.is_empty() && plan.takes("stopSequences", "stop", losses) {
            true => request.stop.iter().filter(|stop| !stop.trim().is_empty()).collect(),
            false => Vec::new(),
        };
        match request.stop.len() - stop.len() {
            0 => {}
            all if all == request.stop.len() => losses.dropped("stop"),
            _ => losses.altered("stop"),
        }
        if max_tokens.is_none() && temperature.is_none() && top_p.is_none() && stop.is_empty() {
            return;
        }
        self.o.object(plan.name("inferenceConfig"), |o| {
            if let Some(most) = max_tokens {
                o.number(plan.name("maxTokens"), most);
            }
            for (name, number) in [("temperature", temperature), ("topP", top_p)] {
                if let Some(number) = number {
                    o.digits(plan.name(name), &number);
                }
            }
            if !stop.is_empty() {
                o.array(plan.name("stopSequences"), |a| stop.iter().for_each(|stop| a.string(stop)));
            }
        });
        // Claude says which sequence it met, if asked to.
        let asked = request.extras.get("additionalModelResponseFieldPaths").is_some();
        if !stop.is_empty() && plan.model.maker == Maker::Claude && !asked {
            self.o.array("additionalModelResponseFieldPaths", |a| a.string("/stop_sequence"));
        }
    }

    /// Members of the model's own: ours first, then the caller's, which go before ours of the same name.
    fn additional(&mut self) {
        let Body { plan, losses, o } = self;
        let request = plan.request;
        let own: Bag<'_> = request.extras.get(ADDITIONAL).and_then(|json| json.read().ok()).unwrap_or_default();
        let mut ours = Vec::new();
        let mut top_k_told = false;
        writer::object(&mut ours, |o| {
            if plan.to.quirks.refuses.iter().any(|name| name == "reasoning_effort" || name == "thinking") {
                if plan.wish.says_something() {
                    losses.dropped("reasoning_effort");
                }
            } else {
                plan.wish.write(o);
            }
            if let Some(top_k) = &request.sampling.top_k {
                let free =
                    plan.model.maker != Maker::Claude || plan.model.claude.takes_sampling() && !plan.wish.thinks();
                top_k_told = free && plan.takes("top_k", "top_k", losses) && thinking::top_k(plan.model, top_k, o);
            }
        });
        if request.sampling.top_k.is_some() && !top_k_told {
            losses.dropped("top_k");
        }
        // A value that is no object is left for Bedrock to refuse.
        if let Some(json) = request.extras.get(ADDITIONAL).filter(|json| json.kind() != Kind::Object) {
            return o.raw(plan.name(ADDITIONAL), json);
        }
        let ours = std::str::from_utf8(&ours).ok().and_then(|json| Raw::parse(json).ok());
        let ours: Bag<'_> = ours.as_ref().and_then(|json| json.read().ok()).unwrap_or_default();
        if ours.extras.is_empty() && own.extras.is_empty() {
            return;
        }
        o.object(plan.name(ADDITIONAL), |o| {
            for (name, json) in ours.extras.iter() {
                match own.extras.get(name) {
                    None => o.raw(name, json),
                    Some(_) => losses.altered(format!("{ADDITIONAL}.{name}")),
                }
            }
            o.extras(&own.extras);
        });
    }

    fn tier(&mut self) {
        let Body { plan, losses, o } = self;
        let Some(tier) = plan.request.service_tier.as_deref() else { return };
        if plan.request.extras.get("serviceTier").is_some() {
            return losses.dropped("service_tier");
        }
        let known = match tier {
            // What is done anyway.
            "auto" => return,
            "standard_only" => Some("default"),
            tier => TIERS.into_iter().find(|known| *known == tier),
        };
        match known {
            Some(known) if plan.takes("serviceTier", "service_tier", losses) => {
                o.object(plan.name("serviceTier"), |o| o.string("type", known));
            }
            Some(_) => {}
            None => losses.dropped("service_tier"),
        }
    }

    /// String pairs that Bedrock writes into the log of calls.
    fn metadata(&mut self) {
        let Body { plan, losses, o } = self;
        let request = plan.request;
        if let Some(json) = &request.metadata {
            if request.extras.get("requestMetadata").is_some() || !is_metadata(json) {
                losses.dropped("metadata");
            } else if plan.takes("requestMetadata", "metadata", losses) {
                o.raw(plan.name("requestMetadata"), json);
            }
        }
        if request.user.is_some() {
            losses.dropped("user");
        }
    }

    fn rest(&mut self) {
        let Body { plan, losses, o } = self;
        let sampling = &plan.request.sampling;
        let zero = |number: &Option<Number<'_>>| number.as_ref().is_none_or(|number| number.as_f64() == 0.0);
        let none = |bias: &Raw<'_>| bias.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.is_empty());
        for (granted, name) in [
            (sampling.seed.is_none(), "seed"),
            (zero(&sampling.frequency_penalty), "frequency_penalty"),
            (zero(&sampling.presence_penalty), "presence_penalty"),
            (sampling.logit_bias.as_ref().is_none_or(none), "logit_bias"),
            (sampling.logprobs != Some(true), "logprobs"),
            (sampling.top_logprobs.unwrap_or(0) == 0, "top_logprobs"),
            (plan.request.cache_key.is_none(), "prompt_cache_key"),
        ] {
            if !granted {
                losses.dropped(name);
            }
        }
        for (name, json) in plan.request.extras.iter() {
            match OWN.contains(&name) {
                true if name == ADDITIONAL => {}
                true => o.raw(name, json),
                false => losses.dropped(name.to_owned()),
            }
        }
    }
}

/// Temperature and `top_p` as they are taken: the scale ends at 1, and Claude has rules of its own.
fn temperatures<'r>(plan: &'r Plan<'r>, losses: &mut Losses) -> (Option<Number<'r>>, Option<Number<'r>>) {
    let sampling = &plan.request.sampling;
    let claude = plan.model.maker == Maker::Claude;
    let thinks = plan.wish.thinks();
    let free = !claude || plan.model.claude.takes_sampling();
    let mut temperature = None;
    if let Some(asked) = &sampling.temperature {
        if asked.as_f64() != 1.0 && (thinks || !free) {
            losses.dropped("temperature");
        } else if plan.takes("temperature", "temperature", losses) {
            let over = asked.as_f64() > 1.0;
            if over {
                losses.altered("temperature");
            }
            temperature = Some(if over { Number::from(1) } else { asked.reborrow() });
        }
    }
    let mut top_p = None;
    if let Some(asked) = &sampling.top_p {
        let both = claude && temperature.is_some() && !plan.model.claude.takes_both();
        if !free || both || (thinks && !(0.95..=1.0).contains(&asked.as_f64())) {
            losses.dropped("top_p");
        } else if plan.takes("topP", "top_p", losses) {
            top_p = Some(asked.reborrow());
        }
    }
    (temperature, top_p)
}

/// Whether these are pairs that Bedrock takes: at most 16, of strings of at most 256 characters, most of them letters
/// ("Converse", `requestMetadata`, seen 2026-11-21).
fn is_metadata(json: &Raw<'_>) -> bool {
    let fits = |text: &str| {
        let taken = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":_@$#=/+,-.".contains(c);
        text.len() <= 256 && text.chars().all(taken)
    };
    let Ok(Bag { extras }) = json.read::<Bag<'_>>() else { return false };
    let pair = |(name, value): (&str, &Raw<'_>)| {
        !name.is_empty() && fits(name) && value.read::<Text<'_>>().is_ok_and(|value| fits(&value))
    };
    extras.0.len() <= 16 && extras.iter().all(pair)
}
