//! How much to think: the wish of the IR as `thinking` and `output_config.effort`, and the token limit with it.
//!
//! Models that decide themselves take a level, others a budget: at least 1,024 tokens and below `max_tokens`, which
//! includes it. The caller's limit is money and stays as it is; the budget gives way, and where no room is left for it,
//! the wish does.

use super::NAME;
use super::model::Model;
use crate::dialect::To;
use crate::ir::{Effort, Losses, ReasoningWish, Request};
use crate::wire::json::{Extras, Raw};
use crate::wire::writer::Object;

/// The smallest budget that is accepted.
const LEAST: u64 = 1_024;
/// Tokens kept for the answer itself where the caller's limit has room for them.
const ANSWER: u64 = 1_024;

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Thinking {
    /// Nothing is said: the model's default holds.
    Default,
    Disabled,
    Adaptive {
        effort: Option<&'static str>,
        display: Option<&'static str>,
    },
    Budget {
        tokens: u64,
        display: Option<&'static str>,
    },
}

/// Thinking and the limit that it fits into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Plan {
    pub(in crate::dialect) thinking: Thinking,
    /// The level that a caller of this dialect set beside it.
    beside: Option<&'static str>,
    pub(in crate::dialect) max_tokens: u64,
}

impl Plan {
    /// `broken`: the conversation stands where thinking cannot set in (see
    /// [`Turns::breaks_thinking`](super::turns::Turns::breaks_thinking)).
    pub(in crate::dialect) fn new(
        request: &Request<'_>,
        model: Model,
        to: &To<'_>,
        broken: bool,
        losses: &mut Losses,
    ) -> Plan {
        if request.origin.0 == NAME {
            return Plan::own(request, model, broken, losses);
        }
        let ceiling = to.abilities.max_output;
        let limit = match (request.max_tokens, ceiling) {
            (Some(most), Some(ceiling)) if most > ceiling => {
                losses.altered("max_tokens");
                Some(ceiling)
            }
            (most, _) => most,
        };
        let default = limit.or(ceiling).unwrap_or_else(|| model.default_limit());
        let plain = |thinking| Plan { thinking, beside: None, max_tokens: default };
        let Some(wish) = &request.reasoning else { return plain(Thinking::Default) };
        if wish.summary.as_deref().is_some_and(|kind| kind != "auto") {
            losses.altered("reasoning.summary");
        }
        let asked = wish.effort.is_some() || wish.budget.is_some() || wish.adaptive;
        let none = wish.effort == Some(Effort::None) || (wish.effort.is_none() && wish.budget == Some(0));
        if !model.thinks(to) {
            if !none {
                losses.dropped(path(wish));
            }
            return plain(Thinking::Default);
        }
        if none {
            return plain(Thinking::Disabled);
        }
        if !asked {
            // To be shown thoughts is no wish that there be any.
            if wish.show == Some(true) || wish.summary.is_some() {
                losses.dropped("reasoning");
            }
            return plain(Thinking::Default);
        }
        if model.is_adaptive(to) {
            return plain(adaptive(wish, model, losses));
        }
        if broken {
            losses.dropped(path(wish));
            return plain(Thinking::Default);
        }
        budget(wish, limit, ceiling, model, losses)
    }

    /// The wish of a caller of this dialect, who knows what the model takes: word for word.
    fn own(request: &Request<'_>, model: Model, broken: bool, losses: &mut Losses) -> Plan {
        let max_tokens = request.max_tokens.unwrap_or_else(|| model.default_limit());
        let Some(wish) = &request.reasoning else {
            return Plan { thinking: Thinking::Default, beside: None, max_tokens };
        };
        let display = wish.show.map(|show| if show { "summarized" } else { "omitted" });
        let thinking = match (wish.effort, wish.budget) {
            (Some(Effort::None), _) | (_, Some(0)) => Thinking::Disabled,
            (_, Some(_)) if broken => {
                losses.dropped("thinking");
                Thinking::Default
            }
            (_, Some(tokens)) => Thinking::Budget { tokens, display },
            (_, None) if wish.adaptive => Thinking::Adaptive { effort: None, display },
            (_, None) => Thinking::Default,
        };
        let beside = wish.effort.filter(|effort| *effort != Effort::None).map(Effort::name);
        Plan { thinking, beside, max_tokens }
    }

    /// Whether the model is told to think.
    pub(in crate::dialect) fn thinks(&self) -> bool {
        matches!(self.thinking, Thinking::Adaptive { .. } | Thinking::Budget { .. })
    }

    pub(in crate::dialect) fn effort(&self) -> Option<&'static str> {
        match self.thinking {
            Thinking::Adaptive { effort: Some(effort), .. } => Some(effort),
            _ => self.beside,
        }
    }

    /// Writes the member's value, with what only this dialect's callers know of it. Nothing for the default.
    pub(in crate::dialect) fn write<'a>(&self, o: &mut Object<'_>, rest: impl Iterator<Item = (&'a str, &'a Raw<'a>)>) {
        let display = match self.thinking {
            Thinking::Default => return,
            Thinking::Disabled => {
                o.string("type", "disabled");
                None
            }
            Thinking::Adaptive { display, .. } => {
                o.string("type", "adaptive");
                display
            }
            Thinking::Budget { tokens, display } => {
                o.string("type", "enabled");
                o.number("budget_tokens", tokens);
                display
            }
        };
        if let Some(display) = display {
            o.string("display", display);
        }
        for (name, json) in rest {
            o.raw(name, json);
        }
    }
}

fn adaptive(wish: &ReasoningWish<'_>, model: Model, losses: &mut Losses) -> Thinking {
    let asked = match (wish.effort, wish.budget) {
        (Some(effort), _) => Some(effort),
        (None, Some(tokens)) => Some(Effort::from_budget(tokens)),
        (None, None) => None,
    };
    let effort = asked.map(|effort| match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh if model.has_xhigh() => "xhigh",
        Effort::XHigh | Effort::Max => "max",
    });
    if effort.is_some_and(|word| wish.effort.is_none_or(|effort| effort.name() != word)) {
        losses.altered(path(wish));
    }
    let display = match wish.show {
        Some(false) => Some("omitted"),
        Some(true) => Some("summarized"),
        None => model.hides_thoughts().then_some("summarized"),
    };
    Thinking::Adaptive { effort, display }
}

fn budget(
    wish: &ReasoningWish<'_>,
    limit: Option<u64>,
    ceiling: Option<u64>,
    model: Model,
    losses: &mut Losses,
) -> Plan {
    let level = wish.effort.unwrap_or(Effort::Medium);
    let asked = wish.budget.unwrap_or_else(|| level.budget());
    // A limit of ours makes room for both; the caller's does not move.
    let ours = model.default_limit().saturating_add(asked);
    let max_tokens = limit.or(ceiling).unwrap_or(ours);
    if max_tokens <= LEAST {
        losses.dropped(path(wish));
        return Plan { thinking: Thinking::Default, beside: None, max_tokens };
    }
    let most = max_tokens.saturating_sub(ANSWER).max(LEAST);
    // Who names a number below the limit means it; for a level of ours, room is left for the answer.
    let exact = wish.budget.is_some() && asked < max_tokens;
    let tokens = asked.max(LEAST).min(if exact { max_tokens.saturating_sub(1) } else { most });
    if tokens != asked || wish.adaptive {
        losses.altered(path(wish));
    }
    let display = (wish.show == Some(false)).then_some("omitted");
    Plan { thinking: Thinking::Budget { tokens, display }, beside: None, max_tokens }
}

/// The wish in the caller's words.
fn path(wish: &ReasoningWish<'_>) -> &'static str {
    if wish.effort.is_some() { "reasoning_effort" } else { "reasoning" }
}

/// The unknown members of an inner object, which decoders keep as `prefix.name`; what lies deeper is not of them.
pub(in crate::dialect) fn nested<'e>(
    extras: &'e Extras<'e>,
    prefix: &'e str,
) -> impl Iterator<Item = (&'e str, &'e Raw<'e>)> {
    extras.iter().filter_map(move |(name, json)| {
        let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
        (!name.contains('.')).then_some((name, json))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Abilities, Quirks};

    fn plan(wish: ReasoningWish<'_>, max_tokens: Option<u64>, name: &str, abilities: &Abilities) -> (Plan, String) {
        let request = Request { reasoning: Some(wish), max_tokens, ..Request::default() };
        let to = To { model: name, stream: false, quirks: &Quirks::default(), abilities };
        let mut losses = Losses::default();
        let plan = Plan::new(&request, Model::of(name), &to, false, &mut losses);
        (plan, losses.to_string())
    }

    #[track_caller]
    fn check(wish: ReasoningWish<'_>, max_tokens: Option<u64>, name: &str, wanted: (Thinking, u64, &str)) {
        let (plan, losses) = plan(wish, max_tokens, name, &Abilities::default());
        assert_eq!((plan.thinking, plan.max_tokens, losses.as_str()), wanted);
    }

    fn effort(effort: Effort) -> ReasoningWish<'static> {
        ReasoningWish { effort: Some(effort), ..ReasoningWish::default() }
    }

    fn tokens(budget: u64) -> ReasoningWish<'static> {
        ReasoningWish { budget: Some(budget), ..ReasoningWish::default() }
    }

    fn fixed(tokens: u64) -> Thinking {
        Thinking::Budget { tokens, display: None }
    }

    #[test]
    fn levels_become_budgets_within_the_limit() {
        let old = "claude-sonnet-4-5";
        check(effort(Effort::Medium), None, old, (fixed(8_192), 16_384, ""));
        check(effort(Effort::Medium), Some(20_000), old, (fixed(8_192), 20_000, ""));
        check(effort(Effort::High), Some(4_096), old, (fixed(3_072), 4_096, "altered:reasoning_effort"));
        check(effort(Effort::High), Some(1_100), old, (fixed(1_024), 1_100, "altered:reasoning_effort"));
        check(effort(Effort::High), Some(1_024), old, (Thinking::Default, 1_024, "dropped:reasoning_effort"));
        check(tokens(500), Some(4_000), old, (fixed(1_024), 4_000, "altered:reasoning"));
        check(tokens(3_999), Some(4_000), old, (fixed(3_999), 4_000, ""));
        check(tokens(4_000), Some(4_000), old, (fixed(2_976), 4_000, "altered:reasoning"));
        check(effort(Effort::None), Some(500), old, (Thinking::Disabled, 500, ""));
        check(tokens(0), None, old, (Thinking::Disabled, 8_192, ""));
        let free = ReasoningWish { adaptive: true, ..ReasoningWish::default() };
        check(free, Some(9_000), old, (fixed(7_976), 9_000, "altered:reasoning"));
    }

    #[test]
    fn models_that_decide_themselves_take_levels() {
        let adaptive = |effort, display| Thinking::Adaptive { effort, display };
        let seen = Some("summarized");
        check(effort(Effort::High), None, "claude-opus-4-6", (adaptive(Some("high"), None), 8_192, ""));
        let altered = "altered:reasoning_effort";
        check(effort(Effort::XHigh), None, "claude-opus-4-6", (adaptive(Some("max"), None), 8_192, altered));
        check(effort(Effort::XHigh), None, "claude-opus-4-7", (adaptive(Some("xhigh"), seen), 8_192, ""));
        check(effort(Effort::Minimal), None, "claude-opus-5", (adaptive(Some("low"), seen), 8_192, altered));
        check(tokens(2_000), Some(500), "claude-sonnet-5", (adaptive(Some("low"), seen), 500, "altered:reasoning"));
        let free = ReasoningWish { adaptive: true, show: Some(false), ..ReasoningWish::default() };
        check(free, None, "claude-opus-4-8", (adaptive(None, Some("omitted")), 8_192, ""));
        check(effort(Effort::None), None, "claude-sonnet-5", (Thinking::Disabled, 8_192, ""));
    }

    #[test]
    fn what_cannot_think_is_not_asked_to() {
        let dropped = "dropped:reasoning_effort";
        check(effort(Effort::Low), None, "claude-3-5-haiku-latest", (Thinking::Default, 8_192, dropped));
        check(effort(Effort::None), None, "claude-3-opus-20240229", (Thinking::Default, 4_096, ""));
    }

    #[test]
    fn abilities_go_before_names() {
        let abilities = Abilities { max_output: Some(6_000), adaptive_thinking: Some(true), ..Abilities::default() };
        let (told, losses) = plan(effort(Effort::Low), Some(9_000), "claude-sonnet-4-5", &abilities);
        assert_eq!(told.thinking, Thinking::Adaptive { effort: Some("low"), display: None });
        assert_eq!((told.max_tokens, losses.as_str()), (6_000, "altered:max_tokens"));
        let abilities = Abilities { reasoning: Some(false), ..Abilities::default() };
        assert_eq!(plan(effort(Effort::Low), None, "claude-opus-5", &abilities).1, "dropped:reasoning_effort");
    }
}
