//! What two answers to one call have in common: told in classes, never in words.
//!
//! Both are read in the dialect that the caller was, or would have been, answered in.

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::ir::{Collector, Content, FinishReason, Origin, Response};
use crate::wire::frames::{Decoder, Framing};

/// What counts of an answer where it is compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gist {
    pub finish: Option<FinishReason>,
    text: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
}

/// How much two answers are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Word for word, and call for call.
    Same,
    /// But for case, spaces and punctuation.
    Alike,
    /// The same tools, with other arguments.
    Arguments,
    /// One calls tools, or others than the other one.
    Calls,
    Different,
}

impl Likeness {
    pub fn name(self) -> &'static str {
        match self {
            Likeness::Same => "same",
            Likeness::Alike => "alike",
            Likeness::Arguments => "arguments",
            Likeness::Calls => "calls",
            Likeness::Different => "different",
        }
    }
}

/// The name of a finish reason, as metrics have it.
pub fn finish_name(finish: Option<FinishReason>) -> &'static str {
    match finish {
        None => "none",
        Some(FinishReason::Stop) => "stop",
        Some(FinishReason::StopSequence) => "stop_sequence",
        Some(FinishReason::Length) => "length",
        Some(FinishReason::ToolCalls) => "tool_calls",
        Some(FinishReason::ContentFilter) => "content_filter",
        Some(FinishReason::Refusal) => "refusal",
        Some(FinishReason::Pause) => "pause",
        Some(FinishReason::Error) => "error",
        Some(FinishReason::Other) => "other",
    }
}

impl Gist {
    /// Reads an answer as a caller of that dialect is given it, in pieces; nothing where it cannot be read.
    pub fn read(dialect: Dialect, parts: &[Bytes], stream: bool) -> Option<Gist> {
        let outbound = dialect.outbound?;
        let size = parts.iter().map(Bytes::len).sum();
        if !stream {
            let mut whole = Vec::with_capacity(size);
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            return Some(Gist::of(&outbound.decode(&whole).ok()?));
        }
        let (mut decoder, mut collector) = (outbound.stream(), Collector::new(Origin(dialect.name)));
        let mut frames = Decoder::new(Framing::Sse, size.max(1));
        let mut good = true;
        let mut each = |frame: crate::wire::sse::Frame<'_>| {
            good &= frame.comment || decoder.frame(&frame, &mut |event| collector.event(&event)).is_ok();
        };
        let read = parts.iter().try_for_each(|part| frames.push(part, &mut each)).and_then(|()| frames.end(&mut each));
        let whole = read.is_ok() && good && decoder.end(&mut |event| collector.event(&event)).is_ok();
        whole.then(|| Gist::of(&collector.into_response()))
    }

    fn of(response: &Response<'_>) -> Gist {
        let mut gist = Gist::default();
        // Of several candidates the first stands for all.
        let Some(candidate) = response.candidates.first() else { return gist };
        gist.finish = candidate.finish.as_ref().map(|finish| finish.reason);
        for block in &candidate.blocks {
            match &block.content {
                Content::Text { text, .. } | Content::Refusal(text) => gist.text.push_str(text),
                Content::ToolCall(call) => gist.calls.push((call.name.to_string(), call.arguments.to_string())),
                _ => {}
            }
        }
        gist
    }

    pub fn calls_tools(&self) -> bool {
        !self.calls.is_empty()
    }

    pub fn likeness(&self, other: &Gist) -> Likeness {
        let names = |gist: &Gist| gist.calls.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if names(self) != names(other) {
            return Likeness::Calls;
        }
        let equal = |(one, other): (&(String, String), &(String, String))| same_json(&one.1, &other.1);
        if !self.calls.iter().zip(&other.calls).all(equal) {
            return Likeness::Arguments;
        }
        if self.text == other.text {
            Likeness::Same
        } else if bare(&self.text).eq(bare(&other.text)) {
            Likeness::Alike
        } else {
            Likeness::Different
        }
    }
}

/// Whether two texts are one JSON value; what is no JSON is compared as it is.
fn same_json(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    one == other || value(one).is_some_and(|one| Some(one) == value(other))
}

/// Letters and digits, in lower case.
fn bare(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{anthropic, openai_chat, openai_completions};

    fn gist(text: &str, calls: &[(&str, &str)]) -> Gist {
        let calls = calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
        Gist { finish: None, text: text.to_owned(), calls }
    }

    #[test]
    fn answers_are_put_into_classes() {
        let like = |one: &Gist, other: &Gist| one.likeness(other).name();
        assert_eq!(like(&gist("Yes.", &[]), &gist("Yes.", &[])), "same");
        assert_eq!(like(&gist("Yes.", &[]), &gist("  yes", &[])), "alike");
        assert_eq!(like(&gist("Yes.", &[]), &gist("No.", &[])), "different");
        let call = gist("", &[("f", r#"{"a":1,"b":[2]}"#)]);
        assert_eq!(like(&call, &gist("", &[("f", r#"{ "b": [2], "a": 1 }"#)])), "same");
        assert_eq!(like(&call, &gist("", &[("f", r#"{"a":2}"#)])), "arguments");
        assert_eq!(like(&call, &gist("", &[("g", r#"{"a":1,"b":[2]}"#)])), "calls");
        assert_eq!(like(&call, &gist("I would call f.", &[])), "calls");
        assert_eq!(like(&gist("", &[("f", "not")]), &gist("", &[("f", "json")])), "arguments");
    }

    #[test]
    fn whole_answers_and_streams_are_read_alike_however_they_come() {
        let whole = br#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"a b"}}]}"#;
        let one = Gist::read(openai_chat::DIALECT, &[Bytes::from_static(whole)], false).unwrap();
        let chunk = |delta: &str, finish: &str| {
            format!(
                "data: {{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
            )
        };
        let stream =
            [chunk("{\"content\":\"a \"}", "null"), chunk("{\"content\":\"b\"}", "null"), chunk("{}", "\"stop\"")]
                .concat()
                + "data: [DONE]\n\n";
        for cut in [1, 7, 4_096] {
            let parts: Vec<Bytes> = stream.as_bytes().chunks(cut).map(Bytes::copy_from_slice).collect();
            assert_eq!(Gist::read(openai_chat::DIALECT, &parts, true).unwrap(), one);
        }
        assert_eq!((one.finish, one.calls_tools()), (Some(FinishReason::Stop), false));
        assert!(Gist::read(anthropic::DIALECT, &[Bytes::from_static(b"{")], false).is_none());
        assert!(Gist::read(openai_completions::DIALECT, &[Bytes::from_static(whole)], false).is_none());
    }
}
