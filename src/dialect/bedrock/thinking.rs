//! How much to think, in the words of each maker: they ride in `additionalModelRequestFields`, and so does `top_k`.
//!
//! Claude's are those of its own API, with the same plan of budget and limit. Nova's second generation takes levels, and
//! at the highest one neither a token limit nor a temperature ("Using reasoning" in the guide of Nova 2, seen 2026-11-21).
//! OpenAI's open weights and Qwen take levels too, as recorded requests show. All others think or do not, unasked.

use super::model::{Maker, Model};
use super::turns::Turns;
use crate::dialect::To;
use crate::dialect::anthropic::thinking::{Plan, Thinking};
use crate::ir::{Effort, Losses, ReasoningWish, Request};
use crate::wire::json::Number;
use crate::wire::writer::Object;

/// What is asked of the model.
pub(super) struct Wish {
    kind: Kind,
    /// The token limit that goes with it; `None`: the model's own.
    pub(super) max_tokens: Option<u64>,
}

enum Kind {
    /// Nothing is said: the model's default holds.
    Default,
    Claude(Plan),
    Nova(&'static str),
    GptOss(&'static str),
    Qwen(&'static str),
}

impl Wish {
    pub(super) fn of(request: &Request<'_>, model: Model, to: &To<'_>, turns: &Turns<'_>, losses: &mut Losses) -> Wish {
        if model.maker == Maker::Claude {
            let plan = Plan::new(request, model.claude, to, turns.breaks_thinking(), losses);
            // A budget needs a limit above it; else the model's own is as good as ours.
            let limited = request.max_tokens.is_some() || matches!(plan.thinking, Thinking::Budget { .. });
            return Wish { kind: Kind::Claude(plan), max_tokens: limited.then_some(plan.max_tokens) };
        }
        let max_tokens = request.max_tokens.map(|most| match to.abilities.max_output {
            Some(ceiling) if most > ceiling => {
                losses.altered("max_tokens");
                ceiling
            }
            _ => most,
        });
        let kind = request.reasoning.as_ref().map_or(Kind::Default, |wish| kind(wish, request, model, to, losses));
        Wish { kind, max_tokens }
    }

    /// Whether Claude is told to think, which then takes no temperature.
    pub(super) fn thinks(&self) -> bool {
        matches!(&self.kind, Kind::Claude(plan) if plan.thinks())
    }

    /// Whether anything is asked for.
    pub(super) fn says_something(&self) -> bool {
        match &self.kind {
            Kind::Default => false,
            Kind::Claude(plan) => plan.thinking != Thinking::Default,
            _ => true,
        }
    }

    /// Whether no tool can be forced.
    pub(super) fn forbids_force(&self) -> bool {
        matches!(&self.kind, Kind::Claude(Plan { thinking: Thinking::Budget { .. }, .. }))
    }

    /// Writes the members of `additionalModelRequestFields`.
    pub(super) fn write(&self, o: &mut Object<'_>) {
        match &self.kind {
            Kind::Default => {}
            Kind::Claude(plan) => {
                if plan.thinking != Thinking::Default {
                    o.object("thinking", |o| plan.write(o, std::iter::empty()));
                }
                if let Some(effort) = plan.effort() {
                    o.object("output_config", |o| o.string("effort", effort));
                }
            }
            Kind::Nova("disabled") => o.object("reasoningConfig", |o| o.string("type", "disabled")),
            Kind::Nova(level) => o.object("reasoningConfig", |o| {
                o.string("type", "enabled");
                o.string("maxReasoningEffort", level);
            }),
            Kind::GptOss(level) => o.string("reasoning_effort", level),
            Kind::Qwen(level) => o.string("reasoning_config", level),
        }
    }
}

/// The path of the wish in the caller's words.
fn path(wish: &ReasoningWish<'_>) -> &'static str {
    if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" }
}

fn kind(wish: &ReasoningWish<'_>, request: &Request<'_>, model: Model, to: &To<'_>, losses: &mut Losses) -> Kind {
    let asked = wish.effort.or(wish.budget.map(Effort::from_budget)).or(wish.adaptive.then_some(Effort::Medium));
    let Some(effort) = asked else {
        // To be shown thoughts is no wish that there be any.
        if wish.show == Some(true) || wish.summary.is_some() {
            losses.dropped("reasoning");
        }
        return Kind::Default;
    };
    let thinks = match model.maker {
        Maker::Nova => to.abilities.reasoning.unwrap_or(model.second),
        Maker::GptOss | Maker::Qwen => to.abilities.reasoning.unwrap_or(true),
        _ => false,
    };
    if !thinks {
        // Those that always think cannot be told to stop; those that never do need not be.
        let always = matches!(model.maker, Maker::DeepSeek | Maker::Open | Maker::Unknown);
        if effort != Effort::None || always {
            losses.dropped(path(wish));
        }
        return Kind::Default;
    }
    // What they think is shown as it is, or not at all: nobody is asked.
    if wish.show == Some(false) && effort != Effort::None {
        losses.dropped("reasoning.exclude");
    }
    if wish.summary.is_some() {
        losses.dropped("reasoning.summary");
    }
    let level = match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    };
    let mut same = wish.effort.is_some_and(|effort| effort.name() == level);
    let kind = match (model.maker, level) {
        (Maker::Nova, _) if effort == Effort::None => {
            same = true;
            Kind::Nova("disabled")
        }
        (Maker::Nova, "high") if is_bounded(request) => {
            same = false;
            Kind::Nova("medium")
        }
        (Maker::Nova, level) => Kind::Nova(level),
        (Maker::Qwen, "medium") => {
            same = false;
            Kind::Qwen("high")
        }
        (Maker::Qwen, level) => Kind::Qwen(level),
        (_, level) => Kind::GptOss(level),
    };
    if !same {
        losses.altered(path(wish));
    }
    kind
}

/// Whether something is set that Nova refuses at its highest level. A limit of the caller's is money and stays.
fn is_bounded(request: &Request<'_>) -> bool {
    let Request { max_tokens, sampling, .. } = request;
    max_tokens.is_some() || sampling.temperature.is_some() || sampling.top_p.is_some()
}

/// Writes `top_k` where its maker has a place for it; `false`: there is none.
pub(super) fn top_k(model: Model, top_k: &Number<'_>, o: &mut Object<'_>) -> bool {
    match model.maker {
        Maker::Claude => o.digits("top_k", top_k),
        Maker::Nova => o.object("inferenceConfig", |o| o.digits("topK", top_k)),
        _ => return false,
    }
    true
}
