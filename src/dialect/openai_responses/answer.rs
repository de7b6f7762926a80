//! Whole answers, written for a caller: the `Response` object, with the members that repeat its request.

use crate::dialect::openai_chat::response::write_shown;
use crate::dialect::openai_chat::wire::unscored;
use crate::dialect::{Asked, Shown};
use crate::ir::{Block, Content, FinishReason, Losses, Response, Usage};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{self, Object};

use super::output::{self, Body, Item, Part, lost};
use super::usage;
use super::wire::{ITEM, ORIGIN};

/// Writes a whole answer.
pub fn encode(response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let own = response.origin == ORIGIN;
    let mut candidates = response.candidates.iter();
    let first = candidates.next();
    if candidates.next().is_some() {
        losses.dropped("candidates");
    }
    let mut items = Vec::new();
    let mut scored = None;
    if let Some(candidate) = first {
        for (name, _) in candidate.extras.iter() {
            losses.dropped(format!("candidates.{name}"));
        }
        scored = candidate.logprobs.as_ref();
        for block in &candidate.blocks {
            add(&mut items, block, own, shown.asked.id, losses);
        }
    }
    if let Some(json) = scored {
        unscored(json, losses);
    }
    if let Some(tokens) = scored.and_then(output::tokens)
        && !score(&mut items, tokens)
    {
        losses.dropped("logprobs");
    }
    if response.fingerprint.is_some() {
        losses.dropped("system_fingerprint");
    }
    let finish = first.and_then(|candidate| candidate.finish.as_ref());
    let state = State::of(finish.map(|finish| finish.reason), losses);
    let head = Head {
        created: response.created.unwrap_or(shown.now),
        model: &response.model,
        service_tier: response.service_tier.as_deref(),
    };
    writer::object(out, |o| {
        let last = items.len().saturating_sub(1);
        let whole = Whole { state, error: None, usage: response.usage.as_ref() };
        write(o, &head, &whole, shown, |out| {
            writer::array(out, |a| {
                for (i, item) in items.iter().enumerate() {
                    item.write(a.value(), state.of_item(i == last), losses);
                }
            });
        });
        for (name, json) in response.extras.iter() {
            if own {
                o.raw(name, json);
            } else {
                losses.dropped(name.to_owned());
            }
        }
        write_shown(o, shown);
    });
}

fn add<'a>(items: &mut Vec<Item<'a>>, block: &'a Block<'a>, own: bool, answer: &str, losses: &mut Losses) {
    if !own {
        for (name, _) in block.extras.iter() {
            losses.dropped(format!("content.{name}"));
        }
    }
    if own && matches!(block.content, Content::Text { .. } | Content::Refusal(_)) {
        for (name, _) in block.extras.iter().filter(|(name, _)| !name.starts_with(ITEM)) {
            losses.dropped(format!("content.{name}"));
        }
    }
    let extras = Some(&block.extras).filter(|_| own);
    let goes_on = items.last().is_some_and(|item| item.takes(&block.content, extras));
    if !goes_on {
        let index = items.len() as u64;
        let item = match &block.content {
            // A caller of this dialect may know kinds that we do not.
            Content::Other { json, .. } if own => Some(Item { id: String::new(), body: Body::Raw(json.reborrow()) }),
            content => Item::begin(content, answer, index),
        };
        let Some(item) = item else { return losses.dropped(lost(&block.content)) };
        items.push(item);
    }
    let Some(item) = items.last_mut() else { return };
    match (&mut item.body, &block.content) {
        (Body::Message { parts, extras: of_item }, Content::Text { text, citations }) => {
            if !goes_on {
                *of_item = extras;
            }
            let mut part = Part { text: text.as_str().into(), ..Part::default() };
            for json in citations {
                match output::annotation(json) {
                    Some(json) => part.annotations.push(json),
                    None if own => part.annotations.push(json.clone()),
                    None => losses.dropped("content.citations"),
                }
            }
            parts.push(part);
        }
        (Body::Message { parts, extras: of_item }, Content::Refusal(text)) => {
            if !goes_on {
                *of_item = extras;
            }
            parts.push(Part { refusal: true, text: text.as_str().into(), ..Part::default() });
        }
        (Body::Reasoning(thoughts), Content::Reasoning(thought)) => {
            let list = if thought.summary { &mut thoughts.summary } else { &mut thoughts.content };
            list.extend(thought.text.as_deref().map(Into::into));
            thoughts.prove(thought);
        }
        (Body::Call(shown), Content::ToolCall(call)) => {
            shown.arguments = call.arguments.as_str().into();
            shown.signature = call.signature.clone();
            shown.extras = extras;
        }
        (Body::Image(_, of_item), _) => {
            *of_item = extras;
            if let Some(id) = extras.and_then(|extras| extras.get("id")?.read::<Text<'_>>().ok()) {
                item.id = id.to_string();
            }
        }
        _ => {}
    }
    let index = items.len() as u64;
    if let Some(proof) = items.last().and_then(|item| item.proof(answer, index)) {
        items.push(proof);
    }
}

/// Puts log probabilities to the text that they are of: there is one, where there are any.
fn score(items: &mut [Item<'_>], tokens: String) -> bool {
    let texts = items.iter_mut().filter_map(|item| match &mut item.body {
        Body::Message { parts, .. } => Some(parts),
        _ => None,
    });
    match texts.flatten().find(|part| !part.refusal) {
        Some(part) => {
            part.logprobs = tokens;
            true
        }
        None => false,
    }
}

/// What is known of an answer from its beginning.
pub struct Head<'h> {
    /// Unix seconds.
    pub created: u64,
    pub model: &'h str,
    pub service_tier: Option<&'h str>,
}

/// What is known of an answer at its end.
pub struct Whole<'w> {
    pub state: State,
    /// Code and message of a failure.
    pub error: Option<(&'w str, &'w str)>,
    pub usage: Option<&'w Usage>,
}

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Completed,
    /// The reason.
    Incomplete(&'static str),
    Failed,
}

impl State {
    /// From why the model stopped; less said than was meant goes to `losses`.
    pub fn of(reason: Option<FinishReason>, losses: &mut Losses) -> State {
        match reason {
            None | Some(FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls) => State::Completed,
            Some(FinishReason::Length) => State::Incomplete("max_output_tokens"),
            // Anthropic's `refusal` is its classifiers' doing, and often comes without a word: `completed` would hide it.
            Some(FinishReason::ContentFilter | FinishReason::Refusal) => State::Incomplete("content_filter"),
            Some(FinishReason::Pause | FinishReason::Error | FinishReason::Other) => {
                losses.altered("status");
                State::Completed
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            State::Running => "in_progress",
            State::Completed => "completed",
            State::Incomplete(_) => "incomplete",
            State::Failed => "failed",
        }
    }

    /// The status of an item; only the last one was cut.
    pub fn of_item(self, last: bool) -> &'static str {
        if last && matches!(self, State::Incomplete(_) | State::Failed) { "incomplete" } else { "completed" }
    }
}

/// Writes the members of a `Response` up to those that Portolan adds. What the request did not say is shown with the
/// API's defaults, as the API does.
pub fn write(
    o: &mut Object<'_>,
    head: &Head<'_>,
    whole: &Whole<'_>,
    shown: &Shown<'_>,
    output: impl FnOnce(&mut Vec<u8>),
) {
    let asked = &shown.asked;
    o.string("id", &format!("resp_{}", asked.id));
    o.string("object", "response");
    o.number("created_at", head.created);
    o.string("status", whole.state.name());
    o.bool("background", false);
    if whole.state == State::Completed {
        o.number("completed_at", shown.now.max(head.created));
    } else {
        o.null("completed_at");
    }
    match whole.error {
        Some((code, message)) => o.object("error", |o| {
            o.string("code", code);
            o.string("message", message);
        }),
        None => o.null("error"),
    }
    match whole.state {
        State::Incomplete(reason) => o.object("incomplete_details", |o| o.string("reason", reason)),
        _ => o.null("incomplete_details"),
    }
    echo(o, asked, &[("instructions", "null"), ("max_output_tokens", "null"), ("max_tool_calls", "null")]);
    echo(o, asked, &[("metadata", "{}")]);
    o.string("model", if head.model.is_empty() { asked.model } else { head.model });
    output(o.value("output"));
    echo(o, asked, &[("parallel_tool_calls", "true"), ("previous_response_id", "null"), ("prompt_cache_key", "null")]);
    reasoning(o, asked);
    echo(o, asked, &[("safety_identifier", "null")]);
    match head.service_tier {
        Some(tier) => o.string("service_tier", tier),
        None => echo(o, asked, &[("service_tier", r#""auto""#)]),
    }
    echo(o, asked, &[("store", "true"), ("temperature", "1.0")]);
    text(o, asked);
    echo(o, asked, &[("tool_choice", r#""auto""#), ("tools", "[]"), ("top_logprobs", "0"), ("top_p", "1.0")]);
    echo(o, asked, &[("truncation", r#""disabled""#)]);
    match whole.usage {
        Some(counted) => o.object("usage", |o| usage::write(o, counted)),
        None => o.null("usage"),
    }
    echo(o, asked, &[("user", "null")]);
}

/// Writes members as the request said them.
fn echo(o: &mut Object<'_>, asked: &Asked<'_>, members: &[(&str, &'static str)]) {
    for (name, default) in members {
        match asked.member(name) {
            Some(json) => o.raw(name, &json),
            None => o.literal(name, default),
        }
    }
}

crate::shape! {
    /// An object of the request of which we know one member.
    struct Known { first "effort" | "format": Raw<'a>, second "summary" | "verbosity": Raw<'a> }
}

fn reasoning(o: &mut Object<'_>, asked: &Asked<'_>) {
    pair(o, asked, "reasoning", ("effort", "null"), ("summary", "null"));
}

fn text(o: &mut Object<'_>, asked: &Asked<'_>) {
    pair(o, asked, "text", ("format", r#"{"type":"text"}"#), ("verbosity", r#""medium""#));
}

/// Writes an object of the request with its two known members filled in.
fn pair(o: &mut Object<'_>, asked: &Asked<'_>, name: &str, first: (&str, &'static str), second: (&str, &'static str)) {
    let raw = asked.member(name);
    let known: Known<'_> = raw.as_ref().and_then(|raw| raw.read().ok()).unwrap_or_default();
    o.object(name, |o| {
        for ((name, default), said) in [(first, &known.first), (second, &known.second)] {
            match said {
                Some(json) => o.raw(name, json),
                None => o.literal(name, default),
            }
        }
        for (name, json) in known.extras.iter() {
            o.raw(name, json);
        }
    });
}
