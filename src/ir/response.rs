//! One whole answer.

use super::{Block, Content, Event, Origin, Usage};
use crate::wire::json::{Extras, Raw, Text};

#[derive(Clone, Debug, Default)]
pub struct Response<'a> {
    pub origin: Origin,
    /// The provider's id of the answer.
    pub id: Text<'a>,
    /// The model that answered, as the provider calls it.
    pub model: Text<'a>,
    /// Unix seconds.
    pub created: Option<u64>,
    pub candidates: Vec<Candidate<'a>>,
    pub usage: Option<Usage>,
    pub service_tier: Option<Text<'a>>,
    /// OpenAI's `system_fingerprint`.
    pub fingerprint: Option<Text<'a>>,
    pub extras: Extras<'a>,
}

#[derive(Clone, Debug, Default)]
pub struct Candidate<'a> {
    pub index: u32,
    pub blocks: Vec<Block<'a>>,
    pub finish: Option<Finish<'a>>,
    /// Log probabilities in OpenAI's shape (`{"content":[...]}`), whatever dialect they came from.
    pub logprobs: Option<Raw<'a>>,
    pub extras: Extras<'a>,
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish<'a> {
    pub reason: FinishReason,
    /// The stop sequence met.
    pub sequence: Option<Text<'a>>,
    /// The provider's own word, kept for its own dialect and for explanations.
    pub native: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The answer was complete.
    Stop,
    /// A stop sequence of the caller's was met.
    StopSequence,
    /// The token limit was met.
    Length,
    ToolCalls,
    /// A provider's filter cut or withheld the answer.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn; send the answer back to go on (Anthropic `pause_turn`).
    Pause,
    /// The provider stopped for a fault of its own or of the model (Gemini `MALFORMED_FUNCTION_CALL`).
    Error,
    /// A word we do not know; `native` has it.
    Other,
}

impl Candidate<'_> {
    /// The finish of a candidate whose provider stated none: a stream must have one.
    fn unstated(&self) -> Finish<'static> {
        let called = self.blocks.iter().any(|block| matches!(block.content, Content::ToolCall(_)));
        let reason = if called { FinishReason::ToolCalls } else { FinishReason::Stop };
        Finish { reason, sequence: None, native: None }
    }
}

impl Response<'_> {
    /// The answer as the events of a stream, for a caller that asked for one of a provider that sent it whole.
    pub fn events(&self, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Start {
            id: self.id.reborrow(),
            model: self.model.reborrow(),
            created: self.created,
            service_tier: self.service_tier.as_ref().map(Text::reborrow),
            fingerprint: self.fingerprint.as_ref().map(Text::reborrow),
            extras: self.extras.clone(),
        });
        for candidate in &self.candidates {
            for (block, content) in candidate.blocks.iter().enumerate() {
                let block = u32::try_from(block).unwrap_or(u32::MAX);
                emit(Event::Open { candidate: candidate.index, block, content: content.content.clone() });
                emit(Event::Close { candidate: candidate.index, block });
                for (name, json) in content.extras.iter() {
                    emit(Event::Extra { name: format!("content.{name}").into(), json: json.reborrow() });
                }
            }
            for (name, json) in candidate.extras.iter() {
                emit(Event::Extra { name: name.into(), json: json.reborrow() });
            }
            if let Some(json) = &candidate.logprobs {
                emit(Event::Logprobs { candidate: candidate.index, json: json.reborrow() });
            }
            let finish = candidate.finish.clone().unwrap_or_else(|| candidate.unstated());
            emit(Event::Finish { candidate: candidate.index, finish });
        }
        if let Some(usage) = self.usage {
            emit(Event::Usage(usage));
        }
        emit(Event::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ToolCall;

    #[test]
    fn what_is_told_as_a_stream_loses_nothing_in_silence() {
        let mut block = Block::new(Content::ToolCall(ToolCall::default()));
        block.extras.push("caller", Raw::literal("{\"a\":1}"));
        let mut candidate = Candidate { blocks: vec![block], ..Candidate::default() };
        candidate.extras.push("seed", Raw::literal("7"));
        let response = Response { candidates: vec![candidate], ..Response::default() };
        let (mut extras, mut finish) = (Vec::new(), None);
        response.events(&mut |event| match event {
            Event::Extra { name, json } => extras.push(format!("{name}={}", json.get())),
            Event::Finish { finish: told, .. } => finish = Some(told.reason),
            _ => {}
        });
        assert_eq!(extras, ["content.caller={\"a\":1}", "seed=7"]);
        assert_eq!(finish, Some(FinishReason::ToolCalls));
    }
}
