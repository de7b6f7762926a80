//! The most that an attempt can cost, from a look at its request: what a budget reserves for it.
//!
//! It must never be below the truth, and should not be far above. No token of text is less than a byte, so the bytes of the
//! request bound its text in any language; pictures cost what the dearest way to look at one picture costs; what brings
//! in more than stands in the request (an earlier answer that the provider keeps, its own tools, documents, films) may fill the model's
//! context window. Output is bounded by the caller, else by the model, for each candidate. Only a request with marks of media is
//! read; the others are looked over once, and only for callers who have a budget.

use memchr::{memchr, memmem};

use super::Call;
use crate::dialect::{Abilities, Inbound};
use crate::ir::{Block, Content, Media, MediaKind, Source};
use crate::policy::price::Extent;
use crate::wire::pieces::Pieces;

/// Tokens that a provider adds of its own: the model's template, a prompt for schemas (some bring their own instead of the
/// model's), and for tools (Anthropic: up to 804 for any, and 735 for one of its own; docs.claude.com, "Tool use", seen
/// 2026-11-21). Recorded exchanges have shown up to 1,550.
const FRAME: u64 = 256;
const STRANGE_FRAME: u64 = 2_048;
const TOOLS: u64 = 1_024;
/// The least that a bound of the answer counts for with some, and by how much answers were longer than theirs.
const SHORTEST: u64 = 16;
const OVERRUN: u64 = 1;
/// Times that a provider asks the model anew within one call, for what its own tools have found: prompt and answer count
/// each time (docs.claude.com, "Server tools", seen 2026-11-21).
const ROUNDS: u64 = 10;
/// Where nobody says how long the model's context, and how long its answer may be.
const CONTEXT: u64 = 262_144;
const ANSWER: u64 = 131_072;
/// Most searches of the provider's own in one call.
const SEARCHES: u64 = 32;
/// Of base64 for a token of sound: the thinnest that is taken has some thousand bytes a second, and 32 tokens at most
/// (ai.google.dev, "Understand and count tokens", seen 2026-11-21).
const SOUND: u64 = 20;

/// Members with which more is read than stands in the request.
const OPEN: [&str; 11] = [
    "previous_response_id",
    "conversation",
    "cachedContent",
    "cached_content",
    "container",
    "mcp_servers",
    "web_search_options",
    "search_parameters",
    "plugins",
    "data_sources",
    "venice_parameters",
];

/// Whereto the request goes, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// The provider's dialect.
    pub dialect: &'a str,
    pub model: &'a str,
    pub abilities: &'a Abilities,
    /// The body as it is sent.
    pub body: &'a Pieces,
}

/// How much of everything the provider may count at most.
pub fn extent(call: &Call, inbound: &dyn Inbound, to: &To<'_>) -> Extent {
    let signs = Signs::of(&call.body);
    let context = to.abilities.context.unwrap_or(CONTEXT);
    let text = call.body.len().max(to.body.len()) as u64;
    let strange = !matches!(to.dialect, "anthropic" | "bedrock");
    let tools = tools(call);
    let theirs = tools == Tools::Theirs || to.model.contains("compound");
    let open = theirs || OPEN.iter().any(|name| is_there(call, name)) || is_template(call);
    let look = if signs.media { look(call, inbound, to) } else { Look::default() };
    let template = if matches!(to.dialect, "anthropic" | "bedrock" | "gemini") { FRAME } else { STRANGE_FRAME };
    let framed = template + if tools == Tools::None { 0 } else { TOOLS };
    let read = text.saturating_sub(look.encoded).saturating_add(look.tokens).saturating_add(framed);
    let input = if open || look.open { context } else { read.min(context) };
    // Anthropic counts every round of its own tools, others the last one.
    let rounds = if theirs && to.dialect == "anthropic" { ROUNDS } else { 1 };
    let marked = strange || signs.escaped || has(to.body, b"cache_control") || has(to.body, b"cachePoint");
    Extent {
        input: input.saturating_mul(rounds),
        output: output(call, to).saturating_mul(rounds),
        cache_write: marked,
        cache_write_1h: marked && (strange || signs.escaped || has(to.body, b"\"1h\"")),
        audio: signs.sound || look.sound,
        searches: if open { SEARCHES } else { 0 },
    }
}

/// Tokens of all candidates together.
fn output(call: &Call, to: &To<'_>) -> u64 {
    let most = to.abilities.max_output.or(to.abilities.context);
    // What xAI's models think comes on top of what they may say.
    let asked = call.max_output.filter(|_| !to.model.contains("grok"));
    let asked = asked.map(|asked| asked.max(SHORTEST).saturating_add(OVERRUN));
    let one = match (asked, most) {
        (Some(asked), Some(most)) => asked.min(most),
        (asked, most) => asked.or(most).unwrap_or(ANSWER),
    };
    let of = |name: &str| call.written(name).and_then(number).unwrap_or(1);
    let inner = ["generationConfig", "generation_config"].iter().find_map(|name| {
        let mut found = None;
        // The body's depth is settled: this cannot fail for it.
        let _ = crate::wire::scan::walk(call.written(name)?, usize::MAX, &mut |name, value| {
            if matches!(name, "candidateCount" | "candidate_count") {
                found = number(value);
            }
        });
        found
    });
    let candidates = of("n").max(of("best_of")).max(inner.unwrap_or(1));
    // Predicted tokens that the model did not use are charged beside its answer.
    let predicted = call.written("prediction").map_or(0, |written| written.len() as u64);
    one.saturating_mul(candidates.max(1)).saturating_add(predicted)
}

fn number(json: &str) -> Option<u64> {
    json.parse().ok()
}

fn is_there(call: &Call, name: &str) -> bool {
    call.written(name).is_some_and(|written| !matches!(written, "null" | "false" | "[]" | "\"\""))
}

/// A prompt that the provider keeps is an object (Responses); elsewhere `prompt` is text.
fn is_template(call: &Call) -> bool {
    call.written("prompt").is_some_and(|written| written.starts_with('{'))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tools {
    None,
    /// The caller runs them.
    Ours,
    /// The provider runs some: what they find is read too.
    Theirs,
}

/// What is looked at of a tool: functions have these members in the dialects of callers, and no other kind.
#[derive(serde::Deserialize)]
struct Tool<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, alias = "function_declarations", rename = "functionDeclarations")]
    declared: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "input_schema")]
    schema: Option<serde::de::IgnoredAny>,
}

fn tools(call: &Call) -> Tools {
    let Some(written) = call.written("tools").filter(|written| !matches!(*written, "null" | "[]")) else {
        return if is_there(call, "functions") { Tools::Ours } else { Tools::None };
    };
    let one = |json: &str| {
        let Ok(tool) = serde_json::from_str::<Tool<'_>>(json) else { return false };
        let alone = || {
            let mut names = 0;
            let _ = crate::wire::scan::walk(json, usize::MAX, &mut |_, _| names += 1);
            names == 1
        };
        match tool.kind.as_deref() {
            Some("function" | "custom") => true,
            Some(_) => false,
            None => tool.schema.is_some() || (tool.declared.is_some() && alone()),
        }
    };
    match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(written) {
        Ok(list) if list.iter().all(|tool| one(tool.get())) => Tools::Ours,
        _ => Tools::Theirs,
    }
}

/// What a glance over the body tells.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// There may be something that is not text.
    media: bool,
    sound: bool,
    /// Something that could be written plainly is not: what it is cannot be seen at a glance.
    escaped: bool,
}

impl Signs {
    /// Strings that begin like the members and kinds of media of the callers' dialects. A quoted word of a prompt does not look
    /// so: its quotes are escaped.
    fn of(body: &[u8]) -> Signs {
        const MEDIA: [&[u8]; 16] = [
            b"image",
            b"input_image",
            b"input_file",
            b"input_audio",
            b"input_video",
            b"inlineData",
            b"inline_data",
            b"file",
            b"document",
            b"video",
            b"audio",
            b"AUDIO",
            b"container_upload",
            b"computer",
            b"screenshot",
            b"media",
        ];
        let mut signs = Signs::default();
        let mut rest = body;
        while let Some(quote) = memchr(b'"', rest) {
            rest = rest.get(quote + 1..).unwrap_or_default();
            if !matches!(rest.first(), Some(b'i' | b'f' | b'd' | b'v' | b'a' | b'A' | b'c' | b's' | b'm')) {
                continue;
            }
            if let Some(sign) = MEDIA.iter().find(|sign| rest.starts_with(sign)) {
                signs.media = true;
                signs.sound |= matches!(sign, [b'a', ..] | [b'A', ..] | [b'v', ..])
                    || matches!(sign, [b'i', b'n', b'p', b'u', b't', b'_', b'a' | b'v', ..]);
            }
        }
        let mut escapes = memmem::find_iter(body, b"\\u00");
        signs.escaped = escapes.any(|at| body.get(at + 4).is_some_and(|digit| matches!(digit, b'2'..=b'7')));
        signs.media |= signs.escaped;
        signs.sound |= signs.escaped;
        signs
    }
}

/// What reading the request has found.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Bytes that are no text.
    encoded: u64,
    /// Tokens in their place.
    tokens: u64,
    /// Of no bounded length.
    open: bool,
    sound: bool,
}

fn look(call: &Call, inbound: &dyn Inbound, to: &To<'_>) -> Look {
    let mut look = Look::default();
    match inbound.decode(&call.body) {
        Ok(request) => request.messages.iter().for_each(|message| look.blocks(&message.blocks, picture(to))),
        // Passed through unread: only the provider knows what it is.
        Err(_) => look = Look { open: true, sound: true, ..look },
    }
    look
}

/// Most tokens of one picture.
///
/// OpenAI: 2,833 and 5,667 a tile of at most 8 for gpt-4o-mini, else up to 10,000 patches; Anthropic: 4,784; Gemini: 258 a tile,
/// a few dozen of them (developers.openai.com "Images and vision", docs.claude.com "Vision", ai.google.dev "Image
/// understanding", seen 2026-11-21).
fn picture(to: &To<'_>) -> u64 {
    match to.dialect {
        "anthropic" | "bedrock" => 5_000,
        "gemini" => 10_000,
        _ if to.model.contains("4o-mini") => 48_200,
        _ => 17_000,
    }
}

impl Look {
    fn blocks(&mut self, blocks: &[Block<'_>], picture: u64) {
        for block in blocks {
            match &block.content {
                Content::Media(media) => self.media(media, picture),
                Content::ToolResult(result) => self.blocks(&result.blocks, picture),
                // A screenshot, by its address, may be in there.
                Content::Other { kind, json } => {
                    self.open |= kind.as_str() == "container_upload";
                    let pictured = json.get().contains("image") || json.get().contains("screenshot");
                    self.tokens += if pictured { picture } else { 0 };
                }
                _ => {}
            }
        }
    }

    fn media(&mut self, media: &Media<'_>, picture: u64) {
        let encoded = match &media.source {
            Source::Text(_) => return,
            Source::Base64(data) => data.len() as u64,
            Source::Url(_) | Source::Id(_) => 0,
        };
        self.encoded = self.encoded.saturating_add(encoded);
        // Silence takes next to nothing where a format knows how to write it.
        let thin = |mime: &str| ["flac", "ogg", "opus", "webm"].iter().any(|name| mime.contains(name));
        match media.kind {
            MediaKind::Image => self.tokens = self.tokens.saturating_add(picture),
            MediaKind::Audio if encoded != 0 && !media.mime.as_ref().is_none_or(|mime| thin(mime)) => {
                self.tokens = self.tokens.saturating_add(encoded / SOUND + 1);
                self.sound = true;
            }
            MediaKind::Audio | MediaKind::Video => (self.open, self.sound) = (true, true),
            MediaKind::File => self.open = true,
        }
    }
}

/// Pieces meet where a value of JSON ends, so that nothing that is looked for is in two of them.
fn has(body: &Pieces, part: &[u8]) -> bool {
    body.iter().any(|piece| memmem::find(piece, part).is_some())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::snapshot::Limits;
    use crate::dialect::{Dialect, anthropic, gemini, openai_chat};
    use crate::exchange::Said;

    const CONTEXT_WINDOW: u64 = 200_000;

    fn most(dialect: Dialect, body: &str) -> Extent {
        let inbound = dialect.inbound.unwrap();
        let said = Said { reads: inbound.reads(), model: "m", stream: false, array: false, count: false };
        let call = Call::read(Bytes::copy_from_slice(body.as_bytes()), &said, &Limits::small(), &|_| None).unwrap();
        let abilities = Abilities { context: Some(CONTEXT_WINDOW), max_output: Some(8_000), ..Abilities::default() };
        extent(
            &call,
            inbound,
            &To {
                dialect: dialect.name,
                model: "m",
                abilities: &abilities,
                body: &Bytes::copy_from_slice(body.as_bytes()).into(),
            },
        )
    }

    fn chat(more: &str) -> Extent {
        most(openai_chat::DIALECT, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{more}}}"#))
    }

    #[test]
    fn text_is_no_more_tokens_than_bytes() {
        let said = "\u{65e5}\u{672c}\u{8a9e}".repeat(100);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{said}"}}]}}"#);
        let most = most(openai_chat::DIALECT, &body);
        assert_eq!(most.input, body.len() as u64 + STRANGE_FRAME);
        assert!(!most.audio && most.searches == 0);
    }

    #[test]
    fn output_is_bounded_by_caller_or_model_for_each_candidate() {
        for (more, output) in [
            ("", 8_000),
            (r#","max_tokens":100"#, 101),
            (r#","max_completion_tokens":1000000000"#, 8_000),
            (r#","max_tokens":100,"n":128"#, 128 * 101),
            (r#","max_tokens":0"#, 17),
        ] {
            assert_eq!(chat(more).output, output, "{more}");
        }
        let body = r#"{"contents":[],"generationConfig":{"maxOutputTokens":99,"candidateCount":3}}"#;
        assert_eq!(most(gemini::DIALECT, body).output, 300);
    }

    #[test]
    fn what_brings_in_more_than_it_says_fills_the_context() {
        for more in [
            r#","web_search_options":{}"#,
            r#","tools":[{"type":"web_search"}]"#,
            r#","tools":[{"type":"mcp","server_url":"https://x"}]"#,
            r#","previous_response_id":"resp_1""#,
        ] {
            let most = chat(more);
            assert_eq!((most.input, most.searches), (CONTEXT_WINDOW, SEARCHES), "{more}");
        }
        let plain = chat(r#","tools":[{"type":"function","function":{"name":"f"}}]"#);
        assert!(plain.input < STRANGE_FRAME + TOOLS + 200 && plain.searches == 0);
        let theirs = r#"{"model":"m","max_tokens":9,"messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
        assert_eq!(most(anthropic::DIALECT, theirs).input, ROUNDS * CONTEXT_WINDOW);
    }

    #[test]
    fn pictures_count_as_pictures_and_not_as_their_bytes() {
        let data = "iVBORw0K".repeat(10_000);
        let picture = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        let most = self::most(openai_chat::DIALECT, &picture);
        assert!((17_000..17_500 + STRANGE_FRAME).contains(&most.input), "{most:?}");
        // The same in other letters.
        let hidden = picture.replace("image_url", "im\\u0061ge_url");
        assert!(self::most(openai_chat::DIALECT, &hidden).input >= 17_000);
        let document = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x/a.pdf"}}]}]}"#;
        assert_eq!(self::most(anthropic::DIALECT, document).input, CONTEXT_WINDOW);
    }

    #[test]
    fn rates_that_cannot_be_met_are_not_looked_at() {
        let plain = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
        let most = most(anthropic::DIALECT, plain);
        assert!(!most.cache_write && !most.cache_write_1h && !most.audio);
        let marked = plain.replace(
            r#""content":"x""#,
            r#""content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]"#,
        );
        let most = self::most(anthropic::DIALECT, &marked);
        assert!(most.cache_write && !most.cache_write_1h);
        let hour = marked.replace(r#""ephemeral""#, r#""ephemeral","ttl":"1h""#);
        assert!(self::most(anthropic::DIALECT, &hour).cache_write_1h);
        let sound = r#","modalities":["text","audio"],"audio":{"voice":"alloy"}"#;
        assert!(chat(sound).audio);
    }
}
