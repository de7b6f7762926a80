//! What a caller's encoder is told of a stream that broke and of the one that goes on with it.

use super::*;
use crate::dialect::{openai_chat, openai_responses};
use crate::ir::{Finish, FinishReason, Reasoning, ToolCall};

fn text(text: &str) -> Content<'_> {
    Content::Text { text: text.into(), citations: Vec::new() }
}

fn open(block: u32, content: Content<'_>) -> Event<'_> {
    Event::Open { candidate: 0, block, content }
}

fn say(block: u32, text: &str) -> Event<'_> {
    Event::Delta { candidate: 0, block, delta: Delta::Text(text.into()) }
}

fn close(block: u32) -> Event<'static> {
    Event::Close { candidate: 0, block }
}

fn start() -> Event<'static> {
    let (id, model) = ("b".into(), "n".into());
    Event::Start { id, model, created: None, service_tier: None, fingerprint: None, extras: Default::default() }
}

fn finish() -> Event<'static> {
    Event::Finish { candidate: 0, finish: Finish { reason: FinishReason::Stop, sequence: None, native: None } }
}

fn thought() -> Content<'static> {
    Content::Reasoning(Reasoning { text: Some("Hm".into()), ..Reasoning::default() })
}

/// What is told of these events, in short.
fn told(seam: &mut Seam, events: &[Event<'_>]) -> Vec<String> {
    let mut told = Vec::new();
    for event in events {
        seam.event(event, &mut |event| {
            told.push(match event {
                Event::Start { .. } => "start".to_owned(),
                Event::Open { block, content: Content::Text { text, .. }, .. } => format!("text {block} {text}"),
                Event::Open { block, .. } => format!("open {block}"),
                Event::Delta { block, delta: Delta::Text(text), .. } => format!("{block} {text}"),
                Event::Close { block, .. } => format!("close {block}"),
                Event::Finish { .. } => "finish".to_owned(),
                Event::Usage(usage) => format!("usage {} {}", usage.input, usage.output),
                Event::End => "end".to_owned(),
                _ => "other".to_owned(),
            });
        });
    }
    told
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[test]
fn the_open_block_goes_on_and_the_rest_follows() {
    let mut seam = Seam::new(1_000);
    let begun = [start(), open(0, thought()), close(0), open(1, text("One")), say(1, " two")];
    assert_eq!(told(&mut seam, &begun), ["start", "open 0", "close 0", "text 1 One", "1  two"]);
    assert!(seam.is_good());
    seam.carry(Some(usage(10, 2)), 5);
    seam.go_on();
    let rest = [
        start(),
        open(0, thought()),
        close(0),
        open(1, text("")),
        say(1, "two"),
        say(1, " three"),
        close(1),
        open(2, Content::ToolCall(ToolCall::default())),
        close(2),
        finish(),
        Event::Usage(usage(14, 3)),
        Event::End,
    ];
    assert_eq!(
        told(&mut seam, &rest),
        ["1  three", "close 1", "open 2", "close 2", "finish", "usage 24 5", "end"],
        "no second start, no second thoughts"
    );
    assert!(!seam.is_good());
}

#[test]
fn a_continuation_that_breaks_is_gone_on_with_too() {
    let mut seam = Seam::new(1_000);
    told(&mut seam, &[start(), open(0, text("One"))]);
    seam.go_on();
    // What is held was never said.
    assert_eq!(told(&mut seam, &[start(), open(0, text("On"))]), Vec::<String>::new());
    seam.go_on();
    assert_eq!(told(&mut seam, &[start(), open(0, text(" two"))]), ["0  two"]);
    seam.go_on();
    assert_eq!(told(&mut seam, &[start(), open(0, text(" three")), finish()]), ["0  three", "close 0", "finish"]);
    assert_eq!((seam.text.as_str(), seam.times), ("One two three", 3));
}

#[test]
fn only_plain_text_is_gone_on_with() {
    let good = |events: &[Event<'_>]| {
        let mut seam = Seam::new(20);
        told(&mut seam, events);
        seam.is_good()
    };
    let call = || Content::ToolCall(ToolCall::default());
    assert!(good(&[open(0, text("One"))]));
    assert!(good(&[open(0, text("One")), close(0)]));
    for events in [
        vec![open(0, thought())],
        vec![open(0, text("One")), close(0), open(1, thought())],
        vec![open(0, text("One")), close(0), open(1, call())],
        vec![open(0, call()), close(0), open(1, text("One"))],
        vec![open(0, text("One")), finish()],
        vec![open(0, text("  \n"))],
        vec![open(0, text("One")), say(0, " that is longer than is kept")],
        vec![open(0, text("One")), Event::Open { candidate: 1, block: 0, content: text("Two") }],
    ] {
        assert!(!good(&events), "{events:?}");
    }
}

#[test]
fn the_model_is_given_what_was_said() {
    let mut seam = Seam::new(1_000);
    told(&mut seam, &[start(), open(0, text("One"))]);
    seam.carry(Some(usage(10, 40)), 0);
    let asked = |prefill, reasoning| {
        let mut request = Request { max_tokens: Some(100), reasoning, ..Request::default() };
        let mark = seam.ask(&mut request, prefill);
        (request.messages.iter().map(|message| message.role).collect::<Vec<_>>(), request.max_tokens, mark)
    };
    assert_eq!(asked(Prefill::Prefix, None), (vec![Role::Assistant], Some(60), Some("prefix")));
    assert_eq!(asked(Prefill::None, None), (vec![Role::Assistant, Role::User], Some(60), None));
    let wish = crate::ir::ReasoningWish { budget: Some(1_024), ..Default::default() };
    assert_eq!(asked(Prefill::Plain, Some(wish)), (vec![Role::Assistant, Role::User], Some(60), None));
    let body = br#"{"messages":[{"role":"user","content":"}]"},{"role":"assistant","content":"a}"}],"model":"m"}"#;
    let marked = String::from_utf8(marked(body.to_vec(), "prefix", 64)).unwrap();
    assert!(marked.contains(r#""content":"a}","prefix":true}],"model""#), "{marked}");
}

#[test]
fn a_form_cannot_be_gone_on_with() {
    let may = |more: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{more}}}"#);
        let inbound = openai_chat::DIALECT.inbound.unwrap();
        let said =
            crate::exchange::Said { reads: inbound.reads(), model: "", stream: false, array: false, count: false };
        let limits = crate::config::from_text("providers: {}\nmodels: {}\n", &|_| None).unwrap().limits;
        may_go_on(inbound, &Call::read(body.into(), &said, &limits, &|_| None).unwrap())
    };
    assert!(may("") && may(r#","response_format":{"type":"text"},"n":1"#));
    assert!(!may(r#","response_format":{"type":"json_object"}"#));
    assert!(!may(r#","n":2"#));
    assert!(!openai_responses::DIALECT.inbound.unwrap().takes_over());
}
