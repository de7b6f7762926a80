//! A count of input tokens where the provider has none to give: an estimate, and named as one.
//!
//! Four bytes of plain text are about one token in the vocabularies of today's models, a character of Chinese or Japanese
//! about one too; pictures and documents have prices of their own. The estimate is meant to be near, never exact.

use super::{Call, Refusal};
use crate::dialect::Inbound;
use crate::ir::{Block, Content, Media, MediaKind, Request, Source, Tool};

/// Tokens that frame a message or a tool, whatever it says.
const FRAME: u64 = 4;
/// A picture of ordinary size (Anthropic: width x height / 750; OpenAI: 765 for high detail at 1024 x 1024).
const IMAGE: u64 = 1_000;
/// Bytes of base64 of a document for one token, and the least a document counts.
const FILE_BYTES: u64 = 24;
const FILE: u64 = 1_500;

/// The answer to a question for the number of input tokens, by estimate.
///
/// # Errors
/// The question is not one of the caller's dialect.
pub fn answer(call: &Call, inbound: &dyn Inbound) -> Result<Vec<u8>, Refusal> {
    let request = inbound.decode_count(&call.body).map_err(Refusal::Invalid)?;
    let mut out = Vec::with_capacity(32);
    inbound.count(input_tokens(&request), &mut out);
    Ok(out)
}

/// What a request brings with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// By estimate.
    pub tokens: u64,
    /// Pictures, those in results of tools among them.
    pub images: u64,
    /// Of text that is said, whoever says it.
    pub characters: u64,
}

/// Counts what a request brings with it.
pub fn size(request: &Request<'_>) -> Size {
    fn count(blocks: &[Block<'_>], size: &mut Size) {
        let said = |text: &str| text.chars().count() as u64;
        for block in blocks {
            match &block.content {
                Content::Text { text, .. } | Content::Refusal(text) => size.characters += said(text),
                Content::Media(media) => match (media.kind, &media.source) {
                    (_, Source::Text(text)) => size.characters += said(text),
                    (MediaKind::Image, _) => size.images += 1,
                    _ => {}
                },
                Content::ToolResult(result) => count(&result.blocks, size),
                _ => {}
            }
        }
    }
    let mut size = Size { tokens: input_tokens(request), ..Size::default() };
    for message in &request.messages {
        count(&message.blocks, &mut size);
    }
    size
}

/// Estimates the input tokens of a request.
pub fn input_tokens(request: &Request<'_>) -> u64 {
    let messages = request.messages.iter().map(|message| FRAME + blocks(&message.blocks));
    let tools = request.tools.iter().map(|tool| match tool {
        Tool::Function { name, description, parameters, .. } => {
            FRAME
                + text(name)
                + description.as_ref().map_or(0, |said| text(said))
                + parameters.as_ref().map_or(0, |schema| text(schema.get()))
        }
        Tool::Other { json, .. } => FRAME + text(json.get()),
    });
    messages.chain(tools).fold(3, u64::saturating_add)
}

fn blocks(blocks: &[Block<'_>]) -> u64 {
    blocks.iter().map(|block| content(&block.content)).fold(0, u64::saturating_add)
}

fn content(content: &Content<'_>) -> u64 {
    match content {
        Content::Text { text: said, .. } | Content::Refusal(said) => text(said),
        Content::Reasoning(thought) => thought.text.as_ref().map_or(0, |said| text(said)),
        Content::ToolCall(call) => FRAME + text(&call.name) + text(&call.arguments),
        Content::ToolResult(result) => {
            FRAME + blocks(&result.blocks) + result.structured.as_ref().map_or(0, |json| text(json.get()))
        }
        Content::Media(media) => self::media(media),
        Content::Other { json, .. } => text(json.get()),
    }
}

fn media(media: &Media<'_>) -> u64 {
    match (media.kind, &media.source) {
        (_, Source::Text(said)) => text(said),
        (MediaKind::Image, _) => IMAGE,
        (_, Source::Base64(data)) => FILE.max(data.len() as u64 / FILE_BYTES),
        _ => FILE,
    }
}

/// Characters beyond Latin, Greek and Cyrillic count as a token each, other bytes as a quarter.
fn text(text: &str) -> u64 {
    if text.is_ascii() {
        return (text.len() as u64).div_ceil(4);
    }
    let (dense, bytes) = text.chars().fold((0u64, 0u64), |(dense, bytes), c| match c {
        '\u{0}'..='\u{2e7f}' => (dense, bytes + c.len_utf8() as u64),
        _ => (dense + 1, bytes),
    });
    dense + bytes.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai_chat;

    #[test]
    fn what_is_said_counts_and_what_is_not_does_not() {
        let estimate =
            |body: &str| input_tokens(&openai_chat::DIALECT.inbound.unwrap().decode(body.as_bytes()).unwrap());
        let ask =
            |content: &str| estimate(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#));
        assert_eq!(ask(r#""12345678""#), 3 + FRAME + 2);
        assert_eq!(ask(r#""日本語""#), 3 + FRAME + 3);
        let image = r#"[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]"#;
        assert_eq!(ask(image), 3 + FRAME + IMAGE);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"日本"}},{{"role":"user","content":{image}}}]}}"#
        );
        let size = size(&openai_chat::DIALECT.inbound.unwrap().decode(body.as_bytes()).unwrap());
        assert_eq!((size.images, size.characters), (1, 2));
    }
}
