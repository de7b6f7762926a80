//! OpenAI's legacy Completions: one text in, texts out. Spoken by callers only; whatever answers them is a chat model.
//!
//! Source of all shapes and rules here: OpenAI API reference "Completions" (seen 2026-11-21) and recorded calls to
//! `/v1/completions`. The prompt becomes what a user said, and what the model says becomes the text. What a chat has and
//! a completion has not (calls, thoughts, images) is named as a loss of the answer.
//!
//! Two things are done here, since no chat model does them: `echo` puts the prompt before each text, and the API's
//! default limit of [`MAX_TOKENS`] is said aloud to the target. Both are named as emulated. What would change the answer
//! if it were left out is refused: several prompts, prompts as token ids, `suffix`.

use super::{
    Asked, Dialect, ErrorShape, Inbound, ListedModel, Reads, Shown, StreamEncoder,
    openai_chat::{fault, models},
};
use crate::dialect::words::Words;
use crate::ir::{Losses, Origin, Request, Response};
use crate::wire::json::Invalid;

mod chunks;
mod logprobs;
mod request;
mod response;
mod words;

#[cfg(test)]
mod tests;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: ORIGIN.0, inbound: Some(&Face), outbound: None };

/// The owner of this dialect's extras.
const ORIGIN: Origin = Origin("openai_completions");

/// The API's limit of generated tokens where the caller gave none.
const MAX_TOKENS: u64 = 16;

struct Face;

impl Inbound for Face {
    fn reads(&self) -> &'static Reads {
        &Reads { in_body: true, usage_always: false, max_output: &["max_tokens"], prompt: &["prompt"], single: &[] }
    }

    fn words(&self) -> &'static Words {
        &words::WORDS
    }

    fn decode<'a>(&self, body: &'a [u8]) -> Result<Request<'a>, Invalid> {
        request::decode(body)
    }

    fn encode(&self, response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        response::encode(response, shown, out, losses);
    }

    fn stream(&self, asked: &Asked<'_>) -> Box<dyn StreamEncoder> {
        Box::new(chunks::Encoder::new(asked))
    }

    fn error(&self, error: &ErrorShape<'_>, out: &mut Vec<u8>) {
        fault::write(error, out);
    }

    fn error_event(&self, error: &ErrorShape<'_>, _: &Asked<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        fault::write(error, out);
        out.extend_from_slice(b"\n\n");
    }

    fn models(&self, models: &[ListedModel<'_>], _: bool, out: &mut Vec<u8>) {
        models::list(models, out);
    }

    fn model(&self, model: &ListedModel<'_>, out: &mut Vec<u8>) {
        models::show(model, out);
    }
}
