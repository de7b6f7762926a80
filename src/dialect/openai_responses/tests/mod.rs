//! Goldens of this dialect (`cases/`) and its properties. `PORTOLAN_BLESS=1` writes the goldens anew; read the diff.

use std::path::PathBuf;

use serde_json::{Value, json};

mod answers;
mod properties;
mod requests;
mod streams;

use super::*;
use crate::dialect::{Abilities, ErrorClass, Quirks};
use crate::ir::*;
use crate::wire::json::{Extras, Raw, Text};
use crate::wire::scan::scan;
use crate::wire::sse::{self, Frame};

/// What ids are made from.
const ID: &str = "0123456789abcdef0123456789abcdef";

fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect/openai_responses/cases").join(name)
}

fn input(name: &str) -> String {
    std::fs::read_to_string(case(name)).unwrap()
}

#[track_caller]
fn golden(name: &str, actual: &str) {
    let path = case(name);
    if std::env::var_os("PORTOLAN_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name}");
}

/// A line for each member, and for each item of a list.
fn pretty(json: &[u8]) -> String {
    let members: Members = scan(json, 64).unwrap();
    let mut out = String::new();
    for member in members.iter() {
        let name = member.name(json);
        let raw = members.raw(json, &name).unwrap();
        match raw.read::<Vec<Raw<'_>>>() {
            Ok(items) if !items.is_empty() => {
                out.push_str(&format!("  {name}:\n"));
                items.iter().for_each(|item| out.push_str(&format!("    {}\n", item.get())));
            }
            _ => out.push_str(&format!("  {name}: {}\n", raw.get())),
        }
    }
    out
}

fn chat() -> Dialect {
    crate::dialect::named("openai_chat").unwrap()
}

fn encode(request: &Request<'_>, model: &str, quirks: &Quirks) -> Result<(Vec<u8>, String), Unsayable> {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let to = To { model, stream: request.stream, quirks, abilities: &Abilities::default() };
    Outbound::encode(&Face, request, &to, &mut out, &mut losses)?;
    scan(&out, 64).expect("what is written is JSON");
    Ok((out, losses.to_string()))
}

/// An answer to a request, as it is shown to its caller.
fn shown<T>(request: &[u8], show: impl FnOnce(&Shown<'_>) -> T) -> T {
    let members = scan(request, 64).unwrap();
    let asked = Asked { body: request, members: Some(&members), model: "asked", id: ID, ..Asked::default() };
    let costs = [("cost_usd".to_owned(), "0.00012".to_owned())];
    show(&Shown { cached: false, costs: &costs, now: 1_700_000_000, asked })
}

fn show(response: &Response<'_>, request: &[u8]) -> (Vec<u8>, String) {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    shown(request, |shown| Inbound::encode(&Face, response, shown, &mut out, &mut losses));
    scan(&out, 64).expect("what is written is JSON");
    (out, losses.to_string())
}

/// A stream's events, in owned form and in the promised order; and what went wrong.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    blocks: Vec<Content<'static>>,
    logprobs: String,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    whole: bool,
    fault: Option<Fault>,
    open: bool,
}

impl Told {
    fn take(&mut self, event: &Event<'_>) {
        self.lines.push(format!("{event:?}"));
        assert!(!self.whole, "nothing follows the end");
        let begun = self.lines.iter().any(|line| line.starts_with("Start"));
        match event {
            Event::Start { .. } => assert_eq!(self.lines.iter().filter(|line| line.starts_with("Start")).count(), 1),
            Event::Open { block, content, .. } => {
                assert!(begun && !self.open && self.finish.is_none(), "{:#?}", self.lines);
                assert_eq!(*block as usize, self.blocks.len());
                self.open = true;
                self.blocks.push(own(content));
            }
            Event::Delta { block, delta, .. } => {
                assert!(self.open && *block as usize + 1 == self.blocks.len(), "{:#?}", self.lines);
                add(self.blocks.last_mut().unwrap(), delta);
            }
            Event::Close { block, .. } => {
                assert!(self.open && *block as usize + 1 == self.blocks.len(), "{:#?}", self.lines);
                self.open = false;
            }
            Event::Logprobs { json, .. } => {
                self.logprobs.push_str(&output::tokens(json).unwrap_or_default());
            }
            Event::Finish { finish, .. } => {
                assert!(begun && !self.open);
                self.finish = Some(finish.reason);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.whole = true,
            Event::Fault(fault) => self.fault = Some(fault.clone()),
            Event::Ping | Event::Extra { .. } => {}
        }
    }
}

fn own(content: &Content<'_>) -> Content<'static> {
    let text = |text: &Text<'_>| text.clone().into_owned();
    let some = |text: &Option<Text<'_>>| text.clone().map(Text::into_owned);
    match content {
        Content::Text { text: t, citations } => {
            Content::Text { text: text(t), citations: citations.iter().map(|json| json.clone().into_owned()).collect() }
        }
        Content::Refusal(t) => Content::Refusal(text(t)),
        Content::Reasoning(r) => Content::Reasoning(Reasoning {
            text: some(&r.text),
            summary: r.summary,
            signature: some(&r.signature),
            encrypted: some(&r.encrypted),
            issuer: some(&r.issuer),
            id: some(&r.id),
        }),
        Content::ToolCall(call) => Content::ToolCall(ToolCall {
            id: text(&call.id),
            name: text(&call.name),
            arguments: text(&call.arguments),
            kind: call.kind,
            signature: some(&call.signature),
        }),
        Content::Media(media) => Content::Media(Media {
            kind: media.kind,
            source: match &media.source {
                Source::Url(t) => Source::Url(text(t)),
                Source::Base64(t) => Source::Base64(text(t)),
                Source::Id(t) => Source::Id(text(t)),
                Source::Text(t) => Source::Text(text(t)),
            },
            mime: some(&media.mime),
            name: some(&media.name),
            detail: some(&media.detail),
        }),
        Content::Other { kind, json } => Content::Other { kind: text(kind), json: json.clone().into_owned() },
        Content::ToolResult(_) => panic!("answers have no results"),
    }
}

fn add(content: &mut Content<'static>, delta: &Delta<'_>) {
    let more = |text: &mut Text<'static>, piece: &str| *text = Text::from(format!("{text}{piece}"));
    match (content, delta) {
        (Content::Text { text, .. } | Content::Refusal(text), Delta::Text(piece)) => more(text, piece),
        (Content::Text { citations, .. }, Delta::Citation(json)) => citations.push(json.clone().into_owned()),
        (Content::Reasoning(thought), Delta::Text(piece)) => more(thought.text.get_or_insert_default(), piece),
        (Content::Reasoning(thought), Delta::Signature(text)) => thought.signature = Some(text.clone().into_owned()),
        (Content::Reasoning(thought), Delta::Encrypted(text)) => thought.encrypted = Some(text.clone().into_owned()),
        (Content::ToolCall(call), Delta::Arguments(piece)) => more(&mut call.arguments, piece),
        (Content::ToolCall(call), Delta::Signature(text)) => call.signature = Some(text.clone().into_owned()),
        (content, delta) => panic!("{delta:?} on {content:?}"),
    }
}

/// The frames of a stream that comes in pieces of `size` bytes.
fn frames(sse: &[u8], size: usize, each: &mut dyn FnMut(Frame<'_>)) {
    let mut decoder = sse::Decoder::new(1 << 26);
    sse.chunks(size.max(1)).for_each(|chunk| decoder.push(chunk, each).unwrap());
    decoder.end(each).unwrap();
}

fn told(sse: &[u8], size: usize) -> Told {
    let mut told = Told::default();
    let mut decoder = stream::Decoder::default();
    frames(sse, size, &mut |frame| {
        if let Err(fault) = decoder.frame(&frame, &mut |event| told.take(&event)) {
            told.lines.push(format!("unreadable: {fault:?}"));
            told.fault.get_or_insert(fault);
        }
    });
    if let Err(fault) = decoder.end(&mut |event| told.take(&event)) {
        told.lines.push(format!("not whole: {:?} {}", fault.kind, fault.message));
        told.fault.get_or_insert(fault);
    }
    told
}

/// Writes the events of a stream for a caller.
fn relayed(sse: &[u8], request: &[u8]) -> (Vec<u8>, String) {
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    shown(request, |shown| {
        let mut encoder = Inbound::stream(&Face, &shown.asked);
        let mut decoder = stream::Decoder::default();
        let mut emit = |event: Event<'_>| encoder.event(&event, shown, &mut out, &mut losses);
        frames(sse, sse.len(), &mut |frame| decoder.frame(&frame, &mut emit).unwrap());
        let _ = decoder.end(&mut emit);
    });
    (out, losses.to_string())
}

/// The data of every event of a stream of ours; checks that it is numbered and named as it should be.
fn events(sse: &[u8]) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    frames(sse, sse.len(), &mut |frame| {
        if frame.comment {
            return;
        }
        let event: Value = serde_json::from_str(frame.data).unwrap();
        assert_eq!(event["type"], frame.event);
        assert_eq!(event["sequence_number"], events.len() as u64);
        events.push(event);
    });
    events
}
