//! A streamed answer gathered into a whole one, for a caller that did not ask for a stream of a target that only streams.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Block, CacheMark, Candidate, Content, Delta, Event, Finish, Media, Origin, Reasoning, Response, Source, ToolCall,
    ToolResult,
};
use crate::wire::json::{Extras, Raw, Text};

/// Takes the events of one answer, in the order that [`Event`] promises.
#[derive(Debug, Default)]
pub struct Collector {
    response: Response<'static>,
    candidates: BTreeMap<u32, Candidate<'static>>,
}

impl Collector {
    /// `origin`: the dialect whose answer it is.
    pub fn new(origin: Origin) -> Collector {
        Collector { response: Response { origin, ..Response::default() }, candidates: BTreeMap::new() }
    }

    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { id, model, created, service_tier, fingerprint, extras: own } => {
                let response = &mut self.response;
                response.id = text(id);
                response.model = text(model);
                response.created = *created;
                response.service_tier = service_tier.as_ref().map(text);
                response.fingerprint = fingerprint.as_ref().map(text);
                response.extras.0.extend(extras(own).0);
            }
            Event::Open { candidate, content: opened, .. } => {
                self.candidate(*candidate).blocks.push(Block::new(content(opened)));
            }
            Event::Delta { candidate, delta, .. } => {
                // Blocks of one candidate do not overlap: a delta belongs to the last one.
                if let Some(block) = self.candidate(*candidate).blocks.last_mut() {
                    add(&mut block.content, delta);
                }
            }
            Event::Logprobs { candidate, json } => {
                let known = &mut self.candidate(*candidate).logprobs;
                *known = Some(match known.take() {
                    None => json.clone().into_owned(),
                    Some(before) => joined(&before, json),
                });
            }
            Event::Finish { candidate, finish } => {
                self.candidate(*candidate).finish = Some(Finish {
                    reason: finish.reason,
                    sequence: finish.sequence.as_ref().map(text),
                    native: finish.native.as_ref().map(text),
                });
            }
            Event::Usage(usage) => self.response.usage = Some(*usage),
            Event::Extra { name, json } => self.response.extras.push(text(name), json.clone().into_owned()),
            Event::Close { .. } | Event::End | Event::Fault(_) | Event::Ping => {}
        }
    }

    /// The answer, as far as it has come.
    pub fn into_response(self) -> Response<'static> {
        Response { candidates: self.candidates.into_values().collect(), ..self.response }
    }

    fn candidate(&mut self, index: u32) -> &mut Candidate<'static> {
        self.candidates.entry(index).or_insert_with(|| Candidate { index, ..Candidate::default() })
    }
}

fn add(content: &mut Content<'static>, delta: &Delta<'_>) {
    match (content, delta) {
        (Content::Text { text, .. } | Content::Refusal(text), Delta::Text(more)) => text.0.to_mut().push_str(more),
        (Content::Reasoning(thought), Delta::Text(more)) => {
            thought.text.get_or_insert_default().0.to_mut().push_str(more);
        }
        (Content::ToolCall(call), Delta::Arguments(more)) => call.arguments.0.to_mut().push_str(more),
        (Content::Reasoning(thought), Delta::Signature(whole)) => thought.signature = Some(text(whole)),
        (Content::ToolCall(call), Delta::Signature(whole)) => call.signature = Some(text(whole)),
        (Content::Reasoning(thought), Delta::Encrypted(whole)) => thought.encrypted = Some(text(whole)),
        (Content::Text { citations, .. }, Delta::Citation(one)) => citations.push(one.clone().into_owned()),
        // A piece that its block cannot hold: decoders do not send such.
        _ => {}
    }
}

/// Log probabilities one after the other, in OpenAI's shape.
fn joined(before: &Raw<'_>, after: &Raw<'_>) -> Raw<'static> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Parts<'a> {
        #[serde(borrow)]
        content: Option<Vec<Raw<'a>>>,
        #[serde(borrow)]
        refusal: Option<Vec<Raw<'a>>>,
        // DeepSeek's.
        #[serde(borrow)]
        reasoning_content: Option<Vec<Raw<'a>>>,
    }
    let (Ok(before), Ok(after)) = (before.read::<Parts<'_>>(), after.read::<Parts<'_>>()) else {
        return after.clone().into_owned();
    };
    let both = |a: Option<Vec<Raw<'_>>>, b: Option<Vec<Raw<'_>>>| {
        (a.is_some() || b.is_some()).then(|| {
            let all = a.into_iter().chain(b).flatten();
            format!("[{}]", all.map(|raw| raw.get().to_owned()).collect::<Vec<_>>().join(","))
        })
    };
    let parts = [
        ("content", both(before.content, after.content)),
        ("refusal", both(before.refusal, after.refusal)),
        ("reasoning_content", both(before.reasoning_content, after.reasoning_content)),
    ];
    let members: Vec<_> = parts.into_iter().filter_map(|(name, list)| Some(format!("\"{name}\":{}", list?))).collect();
    Raw::trusted(format!("{{{}}}", members.join(",")))
}

fn text(text: &Text<'_>) -> Text<'static> {
    text.clone().into_owned()
}

fn option(value: Option<&Text<'_>>) -> Option<Text<'static>> {
    value.map(text)
}

fn extras(extras: &Extras<'_>) -> Extras<'static> {
    Extras(extras.0.iter().map(|(name, json)| (text(name), json.clone().into_owned())).collect())
}

fn block(block: &Block<'_>) -> Block<'static> {
    Block {
        content: content(&block.content),
        cache: block.cache.as_ref().map(|mark| CacheMark(mark.0.clone().into_owned())),
        extras: extras(&block.extras),
        whence: block.whence,
    }
}

fn content(of: &Content<'_>) -> Content<'static> {
    match of {
        Content::Text { text: said, citations } => Content::Text {
            text: text(said),
            citations: citations.iter().map(|one| one.clone().into_owned()).collect(),
        },
        Content::Refusal(said) => Content::Refusal(text(said)),
        Content::Media(media) => Content::Media(Media {
            kind: media.kind,
            source: match &media.source {
                Source::Url(url) => Source::Url(text(url)),
                Source::Base64(data) => Source::Base64(text(data)),
                Source::Id(id) => Source::Id(text(id)),
                Source::Text(said) => Source::Text(text(said)),
            },
            mime: option(media.mime.as_ref()),
            name: option(media.name.as_ref()),
            detail: option(media.detail.as_ref()),
        }),
        Content::Reasoning(thought) => Content::Reasoning(Reasoning {
            text: option(thought.text.as_ref()),
            summary: thought.summary,
            signature: option(thought.signature.as_ref()),
            encrypted: option(thought.encrypted.as_ref()),
            issuer: option(thought.issuer.as_ref()),
            id: option(thought.id.as_ref()),
        }),
        Content::ToolCall(call) => Content::ToolCall(ToolCall {
            id: text(&call.id),
            name: text(&call.name),
            arguments: text(&call.arguments),
            kind: call.kind,
            signature: option(call.signature.as_ref()),
        }),
        Content::ToolResult(result) => Content::ToolResult(ToolResult {
            id: text(&result.id),
            name: option(result.name.as_ref()),
            blocks: result.blocks.iter().map(block).collect(),
            structured: result.structured.as_ref().map(|json| json.clone().into_owned()),
            is_error: result.is_error,
        }),
        Content::Other { kind, json } => Content::Other { kind: text(kind), json: json.clone().into_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{FinishReason, Usage};

    fn call() -> ToolCall<'static> {
        ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"a\":".into(), ..ToolCall::default() }
    }

    #[test]
    fn deltas_add_up_to_what_a_whole_answer_says() {
        let mut collector = Collector::new(Origin("openai_chat"));
        let open = |candidate, block, content| Event::Open { candidate, block, content };
        let delta = |candidate, block, delta| Event::Delta { candidate, block, delta };
        let thought = Reasoning { issuer: Some("anthropic".into()), ..Reasoning::default() };
        for event in [
            Event::Start {
                id: "r".into(),
                model: "m".into(),
                created: Some(7),
                service_tier: None,
                fingerprint: None,
                extras: Extras::default(),
            },
            open(1, 0, Content::Refusal("n".into())),
            open(0, 0, Content::Reasoning(thought)),
            delta(0, 0, Delta::Text("hm".into())),
            delta(0, 0, Delta::Signature("sig".into())),
            Event::Close { candidate: 0, block: 0 },
            open(0, 1, Content::ToolCall(call())),
            delta(0, 1, Delta::Arguments("1}".into())),
            delta(1, 0, Delta::Text("o".into())),
            Event::Logprobs { candidate: 1, json: Raw::literal("{\"content\":[1]}") },
            Event::Logprobs { candidate: 1, json: Raw::literal("{\"content\":[2],\"refusal\":null}") },
            Event::Logprobs { candidate: 1, json: Raw::literal("{\"reasoning_content\":[3]}") },
            Event::Usage(Usage { input: 1, ..Usage::default() }),
            Event::Usage(Usage { input: 1, output: 2, ..Usage::default() }),
            Event::Finish { candidate: 1, finish: Finish { reason: FinishReason::Stop, sequence: None, native: None } },
            Event::End,
        ] {
            collector.event(&event);
        }
        let response = collector.into_response();
        assert_eq!((&*response.id, response.created, response.usage.map(|u| u.output)), ("r", Some(7), Some(2)));
        let [first, second] = &response.candidates[..] else { panic!("two candidates") };
        let Content::Reasoning(thought) = &first.blocks[0].content else { panic!("a thought") };
        assert_eq!((thought.text.as_deref(), thought.signature.as_deref()), (Some("hm"), Some("sig")));
        let Content::ToolCall(call) = &first.blocks[1].content else { panic!("a call") };
        assert_eq!(&*call.arguments, "{\"a\":1}");
        assert_eq!(second.blocks[0].content, Content::Refusal("no".into()));
        assert_eq!(second.logprobs.as_ref().map(Raw::get), Some("{\"content\":[1,2],\"reasoning_content\":[3]}"));
        assert_eq!((second.index, second.finish.as_ref().map(|f| f.reason)), (1, Some(FinishReason::Stop)));
    }
}
