//! The conversation, written for a provider: messages of blocks become a flat list of items.
//!
//! Thoughts go back to their issuer byte for byte and to nobody else. Items that the provider could only look up, since
//! they come without their content, are left out: it was told to store nothing and would refuse the whole request.

use crate::dialect::openai_chat::reasoning as formats;
use crate::dialect::openai_chat::turns::write_source;
use crate::dialect::{ReasoningStyle, To, Unsayable};
use crate::ir::{
    Block, Content, Losses, Media, MediaKind, Message, Reasoning, Request, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::{Extras, Text};
use crate::wire::writer::{Array, Object};

use super::items::is_ours;
use super::wire::{ITEM, NAME, ORIGIN};

/// Longest id of a call.
const LONGEST_ID: usize = 64;

/// Looks for what has no place in this dialect and must not be left out of what was said.
///
/// # Errors
/// Names it.
pub fn check(request: &Request<'_>) -> Result<(), Unsayable> {
    if request.origin == ORIGIN {
        return Ok(());
    }
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| message.role == Role::User) {
        for (j, block) in message.blocks.iter().enumerate() {
            let what = match &block.content {
                Content::Media(Media { kind: MediaKind::Video, .. }) => "video",
                Content::Media(Media { kind: MediaKind::Audio, source, .. })
                    if !matches!(source, Source::Base64(_)) =>
                {
                    "audio other than its bytes"
                }
                _ => continue,
            };
            let path = format!("messages[{i}].content[{j}]");
            return Err(Unsayable { path, message: format!("the Responses API takes no {what}") });
        }
    }
    Ok(())
}

/// The text of a leading system message, which has a member of its own, and the index of the first message after it.
pub fn instructions<'r>(request: &'r Request<'_>) -> (Option<Text<'r>>, usize) {
    let first = request
        .messages
        .first()
        .filter(|first| first.role == Role::System && first.name.is_none() && first.extras.is_empty());
    match first.map(|first| first.blocks.as_slice()) {
        Some([Block { content: Content::Text { text, .. }, cache: None, extras, .. }]) if extras.is_empty() => {
            (Some(text.reborrow()), 1)
        }
        _ => (None, 0),
    }
}

/// Writes the messages from `first` on.
pub fn encode(a: &mut Array<'_>, request: &Request<'_>, first: usize, to: &To<'_>, losses: &mut Losses) {
    let own = request.origin == ORIGIN;
    let mut turns = Turns { own, to, losses, unanswered: Vec::new(), customs: Vec::new(), at: 0 };
    for (i, message) in request.messages.iter().enumerate().skip(first) {
        turns.at = i;
        turns.message(a, message);
    }
}

struct Turns<'t, 'l> {
    /// The request came in this very dialect: its extras are written back.
    own: bool,
    to: &'t To<'t>,
    losses: &'l mut Losses,
    /// Name and made id of calls that had none.
    unanswered: Vec<(String, String)>,
    /// Ids of calls of custom tools: their results are of another kind.
    customs: Vec<String>,
    /// Index of the message being written.
    at: usize,
}

type Numbered<'b> = (usize, &'b Block<'b>);

impl Turns<'_, '_> {
    fn message(&mut self, a: &mut Array<'_>, message: &Message<'_>) {
        if message.name.is_some() {
            self.lost("name");
        }
        if !self.own {
            self.extras_lost(&message.extras, "");
        }
        let mut said: Vec<Numbered<'_>> = Vec::new();
        let mut blocks = message.blocks.iter().enumerate().peekable();
        while let Some((j, block)) = blocks.next() {
            if block.cache.is_some() {
                self.lost(&format!("content[{j}].cache_control"));
            }
            match &block.content {
                Content::Reasoning(thought) if message.role == Role::Assistant => {
                    self.say(a, message, &mut said);
                    let mut group = vec![(j, thought)];
                    while let Some((k, more)) = blocks.next_if(|(_, next)| goes_on(thought, &next.content)) {
                        if let Content::Reasoning(more) = &more.content {
                            group.push((k, more));
                        }
                    }
                    self.reasoning(a, &group);
                }
                Content::ToolCall(call) => {
                    self.say(a, message, &mut said);
                    self.call(a, j, block, call);
                }
                Content::ToolResult(result) => {
                    self.say(a, message, &mut said);
                    self.result(a, j, block, result);
                }
                Content::Other { kind, json } if self.own && is_ours(kind, json) => {
                    self.say(a, message, &mut said);
                    a.raw(json);
                }
                Content::Media(media) if message.role == Role::Assistant => {
                    self.say(a, message, &mut said);
                    self.picture(a, j, block, media);
                }
                Content::Text { .. } | Content::Refusal(_) | Content::Media(_) | Content::Other { .. }
                    if message.role != Role::Tool =>
                {
                    if message.role == Role::Assistant && block.extras.iter().any(|(name, _)| is_of_item(name)) {
                        self.say(a, message, &mut said);
                    }
                    said.push((j, block));
                }
                _ => self.lost(&format!("content[{j}]")),
            }
        }
        let empty = message.blocks.is_empty() && matches!(message.role, Role::User | Role::System | Role::Developer);
        if empty || !said.is_empty() {
            self.say_all(a, message, &said);
        }
    }

    /// Writes what was gathered as one message.
    fn say(&mut self, a: &mut Array<'_>, message: &Message<'_>, said: &mut Vec<Numbered<'_>>) {
        if !said.is_empty() {
            let said = std::mem::take(said);
            self.say_all(a, message, &said);
        }
    }

    fn say_all(&mut self, a: &mut Array<'_>, message: &Message<'_>, said: &[Numbered<'_>]) {
        let role = match message.role {
            Role::Developer if !self.to.quirks.no_developer_role => "developer",
            Role::System | Role::Developer => "system",
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
        };
        let own = self.own;
        a.object(|o| {
            o.string("type", "message");
            o.string("role", role);
            self.content(o, "content", said, message.role == Role::Assistant, "");
            if own {
                o.extras(&message.extras);
                let first = said.first().map(|(_, block)| &block.extras);
                for (name, json) in first.into_iter().flat_map(Extras::iter) {
                    if let Some(name) = name.strip_prefix(ITEM) {
                        o.raw(name, json);
                    }
                }
            }
        });
    }

    /// Writes a member that is a bare text where that says it all, else a list of parts.
    fn content(&mut self, o: &mut Object<'_>, name: &str, blocks: &[Numbered<'_>], model: bool, path: &str) {
        match blocks {
            [] => o.string(name, ""),
            [(j, Block { content: Content::Text { text, citations }, extras, .. })]
                if !self.own || citations.is_empty() && extras.iter().all(|(name, _)| is_of_item(name)) =>
            {
                self.beside(*j, !citations.is_empty(), extras, path);
                o.string(name, text);
            }
            blocks => o.array(name, |a| {
                for (j, block) in blocks {
                    self.part(a, *j, block, model, path);
                }
            }),
        }
    }

    /// Names what stands beside a text and is not written.
    fn beside(&mut self, j: usize, cited: bool, extras: &Extras<'_>, path: &str) {
        if cited {
            self.lost(&format!("{path}content[{j}].citations"));
        }
        if !self.own {
            self.extras_lost(extras, &format!("{path}content[{j}]."));
        }
    }

    fn part(&mut self, a: &mut Array<'_>, j: usize, block: &Block<'_>, model: bool, path: &str) {
        let own = self.own;
        let extras = |o: &mut Object<'_>| {
            for (name, json) in block.extras.iter().filter(|(name, _)| own && !is_of_item(name)) {
                o.raw(name, json);
            }
        };
        match &block.content {
            Content::Text { text, citations } => {
                self.beside(j, !own && !citations.is_empty(), &block.extras, path);
                a.object(|o| {
                    o.string("type", if model { "output_text" } else { "input_text" });
                    o.string("text", text);
                    if model {
                        o.array("annotations", |a| {
                            citations.iter().filter(|_| own).for_each(|json| a.raw(json));
                        });
                    }
                    extras(o);
                });
            }
            Content::Refusal(text) if model => {
                self.beside(j, false, &block.extras, path);
                a.object(|o| {
                    o.string("type", "refusal");
                    o.string("refusal", text);
                    extras(o);
                });
            }
            Content::Media(media) if !model => {
                let written = self.media(a, media, extras);
                if written {
                    // Only files have one.
                    if media.name.is_some() && media.kind != MediaKind::File {
                        self.lost(&format!("{path}content[{j}].file.filename"));
                    }
                    self.beside(j, false, &block.extras, path);
                } else {
                    self.lost(&format!("{path}content[{j}]"));
                }
            }
            Content::Other { json, .. } if own => a.raw(json),
            _ => self.lost(&format!("{path}content[{j}]")),
        }
    }

    /// Writes a picture, a document or a sound; whether there is a form for it.
    fn media(&mut self, a: &mut Array<'_>, media: &Media<'_>, extras: impl FnOnce(&mut Object<'_>)) -> bool {
        let (kind, member) = match (media.kind, &media.source) {
            (MediaKind::Image, Source::Url(_) | Source::Base64(_)) => ("input_image", "image_url"),
            (MediaKind::Image, Source::Id(_)) => ("input_image", "file_id"),
            (MediaKind::File, Source::Url(_)) => ("input_file", "file_url"),
            (MediaKind::File, Source::Base64(_)) => ("input_file", "file_data"),
            (MediaKind::File, Source::Id(_)) => ("input_file", "file_id"),
            (MediaKind::Audio, Source::Base64(_)) => ("input_audio", "data"),
            (_, Source::Text(text)) => {
                self.losses.emulated(format!("messages[{}].content", self.at));
                if media.name.is_some() {
                    self.lost("content.file.filename");
                }
                a.object(|o| {
                    o.string("type", "input_text");
                    o.string("text", text);
                });
                return true;
            }
            _ => return false,
        };
        a.object(|o| {
            o.string("type", kind);
            if media.kind == MediaKind::Audio {
                o.object("input_audio", |o| {
                    write_source(o, member, media);
                    o.string("format", sound(media));
                });
            } else {
                // A type is part of the address that bytes go in; most documents are PDF.
                let pdf = |data: &Text<'_>| media.mime.is_none() && data.starts_with("JVBERi");
                match &media.source {
                    Source::Base64(data) if media.kind == MediaKind::File && pdf(data) => {
                        let mime = Some("application/pdf".into());
                        write_source(o, member, &Media { mime, source: media.source.clone(), ..media.clone() });
                    }
                    _ => write_source(o, member, media),
                }
            }
            match (&media.detail, media.kind) {
                (Some(detail), MediaKind::Image | MediaKind::File) => o.string("detail", detail),
                (None, MediaKind::Image) => o.string("detail", "auto"),
                _ => {}
            }
            match (&media.name, media.kind, &media.source) {
                (Some(name), MediaKind::File, _) => o.string("filename", name),
                // A name is wanted beside bytes.
                (None, MediaKind::File, Source::Base64(_)) if !self.own => o.string("filename", "document.pdf"),
                _ => {}
            }
            extras(o);
        });
        true
    }

    /// A picture of the model's: another's goes nowhere, since the item is known by its id.
    fn picture(&mut self, a: &mut Array<'_>, j: usize, block: &Block<'_>, media: &Media<'_>) {
        let Source::Base64(data) = &media.source else { return self.lost(&format!("content[{j}]")) };
        if !self.own {
            return self.lost(&format!("content[{j}]"));
        }
        a.object(|o| {
            o.string("type", "image_generation_call");
            o.string("result", data);
            if let Some(format) = media.mime.as_deref().and_then(|mime| mime.strip_prefix("image/")) {
                o.string("output_format", format);
            }
            o.extras(&block.extras);
        });
    }

    /// Writes the thoughts of one item.
    fn reasoning(&mut self, a: &mut Array<'_>, group: &[(usize, &Reasoning<'_>)]) {
        let id = group.iter().find_map(|(_, thought)| thought.id.as_deref());
        // OpenRouter takes back what it was given by any of the providers behind it.
        let any = self.to.quirks.reasoning == ReasoningStyle::Object;
        let here = |thought: &Reasoning<'_>| {
            any || thought.issuer.as_deref().is_some_and(|issuer| issuer == NAME)
                || thought.issuer.is_none() && (self.own || id.is_some())
        };
        let last = group.iter().rev().map(|(_, thought)| *thought);
        let proof = last
            .clone()
            .find(|thought| here(thought) && (thought.encrypted.is_some() || any && thought.signature.is_some()));
        // Providers that show their thoughts want them back as they were; a summary is nothing without the thoughts.
        let plain = id.is_some() && group.iter().all(|(_, thought)| here(thought) && !thought.summary);
        let told = plain && group.iter().any(|(_, thought)| thought.text.is_some());
        if proof.is_none() && !told && !(self.own && group.iter().all(|(_, thought)| here(thought))) {
            return self.lost(&format!("content[{}]", group.first().map_or(0, |(j, _)| *j)));
        }
        for (j, thought) in group {
            if thought.signature.is_some() && !any {
                self.lost(&format!("content[{j}].signature"));
            }
        }
        let texts = |summary: bool| {
            group.iter().filter(move |(_, thought)| thought.summary == summary).filter_map(|(_, t)| t.text.as_deref())
        };
        a.object(|o| {
            o.string("type", "reasoning");
            if let Some(id) = id {
                o.string("id", id);
            }
            o.array("summary", |a| texts(true).for_each(|text| write_text(a, "summary_text", text)));
            if texts(false).next().is_some() {
                o.array("content", |a| texts(false).for_each(|text| write_text(a, "reasoning_text", text)));
            }
            let Some(proof) = proof else { return };
            if let Some(encrypted) = &proof.encrypted {
                o.string("encrypted_content", encrypted);
            }
            if let (true, Some(signature)) = (any, &proof.signature) {
                o.string("signature", signature);
            }
            if let (true, Some(issuer)) = (any, &proof.issuer) {
                o.string("format", formats::format(issuer));
            }
        });
    }

    fn call(&mut self, a: &mut Array<'_>, j: usize, block: &Block<'_>, call: &ToolCall<'_>) {
        let id = if call.id.is_empty() {
            let id = format!("call_{}_{j}", self.at);
            self.unanswered.push((call.name.to_string(), id.clone()));
            id
        } else {
            sound_id(&call.id)
        };
        if call.signature.is_some() {
            self.lost(&format!("content[{j}].signature"));
        }
        let custom = call.kind == ToolKind::Custom;
        a.object(|o| {
            o.string("type", if custom { "custom_tool_call" } else { "function_call" });
            o.string("call_id", &id);
            o.string("name", &call.name);
            match call.kind {
                ToolKind::Custom => o.string("input", &call.arguments),
                ToolKind::Function if call.arguments.is_empty() => o.string("arguments", "{}"),
                ToolKind::Function => o.string("arguments", &call.arguments),
            }
            if self.own {
                o.extras(&block.extras);
            }
        });
        if custom {
            self.customs.push(id);
        }
        if !self.own {
            self.extras_lost(&block.extras, &format!("content[{j}]."));
        }
    }

    fn result(&mut self, a: &mut Array<'_>, j: usize, block: &Block<'_>, result: &ToolResult<'_>) {
        if result.is_error == Some(true) {
            self.lost(&format!("content[{j}].is_error"));
        }
        let id = if !result.id.is_empty() {
            sound_id(&result.id)
        } else if self.unanswered.is_empty() {
            format!("call_{}_{j}", self.at)
        } else {
            let name = result.name.as_deref();
            let at = self.unanswered.iter().position(|(n, _)| name.is_none_or(|name| name == n)).unwrap_or(0);
            self.unanswered.remove(at).1
        };
        let custom = self.customs.contains(&id);
        let blocks: Vec<Numbered<'_>> = result.blocks.iter().enumerate().collect();
        a.object(|o| {
            o.string("type", if custom { "custom_tool_call_output" } else { "function_call_output" });
            o.string("call_id", &id);
            match &result.structured {
                Some(json) if blocks.is_empty() => o.string("output", json.get()),
                _ => self.content(o, "output", &blocks, false, &format!("content[{j}].")),
            }
            if self.own {
                o.extras(&block.extras);
            }
        });
        if !self.own {
            self.extras_lost(&block.extras, &format!("content[{j}]."));
        }
    }

    fn extras_lost(&mut self, extras: &Extras<'_>, path: &str) {
        for (name, _) in extras.iter() {
            self.lost(&format!("{path}{name}"));
        }
    }

    fn lost(&mut self, path: &str) {
        self.losses.dropped(format!("messages[{}].{path}", self.at));
    }
}

/// Whether the next block is of the same reasoning item.
fn goes_on(thought: &Reasoning<'_>, next: &Content<'_>) -> bool {
    matches!(next, Content::Reasoning(next) if thought.id.is_some() && next.id == thought.id)
}

/// Whether an extra was a member of the item that the block was in.
fn is_of_item(name: &str) -> bool {
    name.starts_with(ITEM)
}

fn write_text(a: &mut Array<'_>, kind: &str, text: &str) {
    a.object(|o| {
        o.string("type", kind);
        o.string("text", text);
    });
}

/// OpenAI's name of an audio format.
fn sound<'m>(media: &'m Media<'_>) -> &'m str {
    match media.mime.as_deref().and_then(|mime| mime.strip_prefix("audio/")).unwrap_or("wav") {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    }
}

/// An id that is not too long: the beginning of a longer one, and a sum over all of it.
fn sound_id(id: &str) -> String {
    if id.len() <= LONGEST_ID {
        return id.to_owned();
    }
    let head: String = id.chars().filter(char::is_ascii).take(LONGEST_ID - 10).collect();
    format!("{head}_{:08x}", crc32fast::hash(id.as_bytes()))
}
