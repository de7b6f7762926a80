//! Whole answers, written for a caller: the IR as `GenerateContentResponse`.

use super::media::nested;
use super::parts::{self, Piece, finish_word, logprobs, write_usage};
use super::response::{TRAFFIC, blocked};
use super::signature::Proof;
use super::{NAME, signature};
use crate::dialect::Shown;
use crate::ir::{Block, Candidate, Content, Losses, Reasoning, Response};
use crate::wire::json::{Extras, Number};
use crate::wire::writer::{self, Object};

/// Writes a whole answer.
pub(super) fn encode(response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let own = response.origin.0 == NAME;
    // A prompt that was refused has no candidates; the decoder made one, to hold the reason.
    let refused = own
        && response.extras.get("promptFeedback").and_then(blocked).is_some()
        && response.candidates.iter().all(|candidate| candidate.blocks.is_empty());
    writer::object(out, |o| {
        if !refused {
            o.array("candidates", |a| {
                for candidate in &response.candidates {
                    a.object(|o| write_candidate(candidate, own, o, losses));
                }
            });
        }
        let traffic = response.extras.get(TRAFFIC).filter(|_| own);
        let tier = response.service_tier.as_deref();
        if response.usage.is_some() || tier.is_some() || traffic.is_some() {
            o.object("usageMetadata", |o| write_usage(response.usage.as_ref(), tier, traffic, o));
        }
        if let Some(usage) = &response.usage {
            parts::uncounted(usage, losses);
        }
        write_head(&response.model, &response.id, response.created, shown, o);
        if response.fingerprint.is_some() {
            losses.dropped("system_fingerprint");
        }
        for (name, json) in response.extras.iter() {
            match own {
                true if name == TRAFFIC => {}
                true => o.raw(name, json),
                false => losses.dropped(name.to_owned()),
            }
        }
        write_shown(shown, o);
    });
}

/// Writes what every answer, and every frame of a stream, says of itself.
pub(super) fn write_head(model: &str, id: &str, created: Option<u64>, shown: &Shown<'_>, o: &mut Object<'_>) {
    o.string("modelVersion", if model.is_empty() { shown.asked.model } else { model });
    o.string("responseId", if id.is_empty() { shown.asked.id } else { id });
    let created = created.and_then(|seconds| i64::try_from(seconds).ok());
    if let Some(time) = created.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
        o.string("createTime", &time.to_string());
    }
}

/// Writes what Portolan adds, where the cost is known.
pub(super) fn write_shown(shown: &Shown<'_>, o: &mut Object<'_>) {
    if shown.costs.is_empty() {
        return;
    }
    o.bool("cached", shown.cached);
    for (name, amount) in shown.costs {
        match serde_json::from_str::<Number<'_>>(amount) {
            Ok(number) => o.digits(name, &number),
            Err(_) => o.string(name, amount),
        }
    }
}

fn write_candidate(candidate: &Candidate<'_>, own: bool, o: &mut Object<'_>, losses: &mut Losses) {
    o.object("content", |o| {
        o.array("parts", |a| {
            let mut parts = Parts { own, waiting: Vec::new(), losses };
            for block in &candidate.blocks {
                parts.block(block, a);
            }
            parts.end(a);
        });
        o.string("role", "model");
        nested(&candidate.extras, "content").filter(|_| own).for_each(|(name, json)| o.raw(name, json));
    });
    match &candidate.finish {
        Some(finish) => {
            let (word, less) = match &finish.native {
                // A word of tomorrow.
                Some(word) if own && !word.starts_with(|c: char| c.is_ascii_digit()) => (word.as_str(), false),
                _ => finish_word(finish),
            };
            o.string("finishReason", word);
            if less {
                losses.altered("finish_reason");
            }
            if finish.sequence.is_some() {
                losses.dropped("stop_sequence");
            }
        }
        None => o.string("finishReason", "STOP"),
    }
    o.number("index", u64::from(candidate.index));
    if let Some(json) = &candidate.logprobs {
        let mut value = Vec::new();
        if let Some(mean) = logprobs(json, &mut value, losses) {
            // Google's own mean rides along.
            if !own && mean.is_finite() {
                o.value("avgLogprobs").extend_from_slice(mean.to_string().as_bytes());
            }
            o.value("logprobsResult").extend_from_slice(&value);
        }
    }
    for (name, json) in candidate.extras.iter() {
        if own && name.starts_with("content.") {
            // Was written there.
        } else if own {
            o.raw(name, json);
        } else {
            losses.dropped(format!("candidates.{name}"));
        }
    }
}

/// The parts of one candidate being written.
struct Parts<'p> {
    own: bool,
    /// Proofs of thoughts without text, for the next part.
    waiting: Vec<Proof>,
    losses: &'p mut Losses,
}

impl Parts<'_> {
    fn block(&mut self, block: &Block<'_>, a: &mut writer::Array<'_>) {
        let none = Extras::default();
        let extras = if self.own { &block.extras } else { &none };
        if !self.own {
            for (name, _) in block.extras.iter() {
                self.losses.dropped(format!("content.{name}"));
            }
        }
        match &block.content {
            Content::Text { text, citations } => {
                if !citations.is_empty() {
                    self.losses.dropped("content.citations");
                }
                if !text.is_empty() || !extras.is_empty() {
                    self.part(Piece::Text(text), None, extras, a);
                }
            }
            Content::Refusal(text) => {
                self.losses.altered("content.refusal");
                self.part(Piece::Text(text), None, extras, a);
            }
            Content::Reasoning(thought) => self.thought(thought, extras, a),
            Content::ToolCall(call) => self.part(Piece::Call(call), call.signature.as_deref(), extras, a),
            Content::Media(media) => {
                if let Some(piece) = parts::media(media, self.losses) {
                    self.part(piece, None, extras, a);
                }
            }
            Content::Other { kind, json } if self.own || parts::is_own(kind, json) => {
                self.bare(a);
                self.part(Piece::Raw(json), None, extras, a);
            }
            other => self.losses.dropped(parts::lost(other)),
        }
    }

    fn thought(&mut self, thought: &Reasoning<'_>, extras: &Extras<'_>, a: &mut writer::Array<'_>) {
        let own = thought.issuer.as_deref() == Some(NAME);
        let text = thought.text.as_deref().filter(|text| own || !text.is_empty());
        let proof = Proof::of(thought, text.map(str::len));
        let Some(text) = text else {
            return self.waiting.extend(proof);
        };
        match proof {
            Some(proof) if proof.is_own() => {
                self.part(Piece::Thought(text), proof.thought.signature.as_deref(), extras, a);
            }
            proof => {
                self.waiting.extend(proof);
                self.part(Piece::Thought(text), None, extras, a);
            }
        }
    }

    fn part(&mut self, piece: Piece<'_>, own: Option<&str>, extras: &Extras<'_>, a: &mut writer::Array<'_>) {
        let none = Extras::default();
        let losses = &mut *self.losses;
        let mut bare =
            |signature: &str| parts::write(Piece::Text(""), Some(signature), &none, a.value(), &mut Losses::default());
        let signature = parts::sign(&mut self.waiting, own, &mut bare);
        parts::write(piece, signature.as_deref(), extras, a.value(), losses);
    }

    /// A part without text for what waits.
    fn bare(&mut self, a: &mut writer::Array<'_>) {
        if let Some(signature) = signature::carry(&self.waiting) {
            parts::write(Piece::Text(""), Some(&signature), &Extras::default(), a.value(), self.losses);
        }
        self.waiting.clear();
    }

    fn end(&mut self, a: &mut writer::Array<'_>) {
        self.bare(a);
        if a.is_empty() {
            // SDKs take a content without parts for no answer, and forget the turn (google-genai, `chats`).
            parts::write(Piece::Text(""), None, &Extras::default(), a.value(), self.losses);
        }
    }
}
