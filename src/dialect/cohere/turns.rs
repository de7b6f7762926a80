//! The conversation as Cohere has it: OpenAI's roles, with documents in results and thoughts in two places.
//!
//! A model that reasons takes its thoughts back as parts of the content; one that does not takes what it planned before
//! a call as `tool_plan`, and has no place for other thoughts. Thoughts that another provider signed or encrypted stay
//! with their issuer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::NAME;
use crate::dialect::{To, Unsayable};
use crate::ir::{
    Block, Content, Losses, Media, MediaKind, Message, Reasoning, Request, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::{self, Array, Object};

/// Finds what Cohere has no place for and must not be left out.
///
/// # Errors
/// There is such a part in what the user said.
pub(super) fn check(request: &Request<'_>) -> Result<(), Unsayable> {
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| message.role == Role::User) {
        for (j, block) in message.blocks.iter().enumerate() {
            if let Content::Media(media) = &block.content {
                Form::of(media).map_err(|what| Unsayable {
                    path: format!("messages[{i}].content[{j}]"),
                    message: format!("Cohere takes {what}"),
                })?;
            }
        }
    }
    Ok(())
}

/// Writes all messages. `instruction` is added to the leading system message, or becomes one.
pub(super) fn write(
    a: &mut Array<'_>,
    request: &Request<'_>,
    to: &To<'_>,
    own: bool,
    instruction: Option<&str>,
    losses: &mut Losses,
) {
    let named = || ["reasoning", "command-a-plus"].iter().any(|word| to.model.contains(word));
    let thinks = to.abilities.reasoning.unwrap_or_else(named);
    let leads = request.messages.first().is_some_and(|m| matches!(m.role, Role::System | Role::Developer));
    if let (Some(text), false) = (instruction, leads) {
        a.object(|o| {
            o.string("role", "system");
            o.string("content", text);
        });
    }
    let mut turns = Turns { own, thinks, losses, unanswered: Vec::new(), at: 0 };
    for (i, message) in request.messages.iter().enumerate() {
        turns.at = i;
        turns.message(a, message, instruction.filter(|_| leads && i == 0));
    }
}

struct Turns<'l> {
    /// The request came in this very dialect.
    own: bool,
    /// The target takes thoughts back.
    thinks: bool,
    losses: &'l mut Losses,
    /// Name and made id of calls that had none.
    unanswered: Vec<(String, String)>,
    /// Index of the message being written.
    at: usize,
}

impl Turns<'_> {
    fn message(&mut self, a: &mut Array<'_>, message: &Message<'_>, instruction: Option<&str>) {
        if message.name.is_some() {
            self.lost("name");
        }
        let own = self.own;
        for (name, _) in message.extras.iter().filter(|_| !own) {
            self.lost(name);
        }
        let mut said = Vec::new();
        for (j, block) in message.blocks.iter().enumerate() {
            match &block.content {
                Content::ToolResult(result) => self.result(a, j, result, block),
                _ => said.push((j, block)),
            }
        }
        match message.role {
            Role::Tool => said.iter().for_each(|(j, _)| self.lost(&format!("content[{j}]"))),
            Role::Assistant => self.assistant(a, &said),
            // Results of tools alone, as some callers put them.
            Role::User if said.is_empty() && !message.blocks.is_empty() => {}
            Role::User | Role::System | Role::Developer => a.object(|o| {
                let user = message.role == Role::User;
                o.string("role", if user { "user" } else { "system" });
                self.content(o, &said, user, instruction);
            }),
        }
    }

    /// Writes `content`: a bare string where that says it all, else parts.
    fn content(&mut self, o: &mut Object<'_>, blocks: &[(usize, &Block<'_>)], user: bool, instruction: Option<&str>) {
        if let [(j, block)] = blocks
            && let Content::Text { text, citations } = &block.content
        {
            self.beside(*j, block);
            self.uncited(*j, citations);
            return match instruction {
                None => o.string("content", text),
                Some(more) => o.string("content", &format!("{text}\n\n{more}")),
            };
        }
        if blocks.is_empty() {
            return o.string("content", instruction.unwrap_or_default());
        }
        o.array("content", |a| {
            for (j, block) in blocks {
                self.beside(*j, block);
                match &block.content {
                    Content::Text { text, citations } => {
                        self.uncited(*j, citations);
                        write_text(a, text);
                    }
                    Content::Media(media) if user => self.media(a, *j, media),
                    Content::Other { json, .. } if self.own => a.raw(json),
                    _ => self.lost(&format!("content[{j}]")),
                }
            }
            if let Some(text) = instruction {
                write_text(a, text);
            }
        });
    }

    fn media(&mut self, a: &mut Array<'_>, j: usize, media: &Media<'_>) {
        match Form::of(media) {
            Ok(Form::Image) => a.object(|o| {
                o.string("type", "image_url");
                o.object("image_url", |o| {
                    write_address(o, media);
                    if let Some(detail) = &media.detail {
                        o.string("detail", detail);
                    }
                });
            }),
            Ok(Form::Text(text)) => {
                self.losses.emulated(format!("messages[{}].content[{j}]", self.at));
                write_text(a, &text);
            }
            // Was found before.
            Err(_) => self.lost(&format!("content[{j}]")),
        }
        if media.name.is_some() {
            self.lost(&format!("content[{j}].file.filename"));
        }
    }

    fn assistant(&mut self, a: &mut Array<'_>, blocks: &[(usize, &Block<'_>)]) {
        let calls = blocks.iter().filter(|(_, block)| matches!(block.content, Content::ToolCall(_))).count();
        let mut plan = String::new();
        let mut parts = Vec::new();
        let mut citations = Vec::new();
        writer::array(&mut parts, |a| {
            for (j, block) in blocks {
                match &block.content {
                    Content::Text { text, citations: cited } => {
                        self.beside(*j, block);
                        if self.own {
                            citations.extend(cited);
                        } else {
                            self.uncited(*j, cited);
                        }
                        if !text.is_empty() {
                            write_text(a, text);
                        }
                    }
                    Content::Refusal(text) => {
                        self.about("refusal", block);
                        self.losses.altered(format!("messages[{}].refusal", self.at));
                        write_text(a, text);
                    }
                    Content::Reasoning(thought) => {
                        self.about("reasoning", block);
                        self.thought(a, thought, calls > 0, &mut plan);
                    }
                    Content::ToolCall(_) => {}
                    Content::Other { json, .. } if self.own => a.raw(json),
                    // Cohere takes no media in this role; what another provider painted cannot be shown again.
                    _ => self.lost(&format!("content[{j}]")),
                }
            }
        });
        let empty = parts == b"[]";
        if empty && calls == 0 {
            // Refused by Cohere, and says nothing.
            return self.losses.dropped(format!("messages[{}]", self.at));
        }
        a.object(|o| {
            o.string("role", "assistant");
            if !plan.is_empty() {
                o.string("tool_plan", &plan);
            }
            if !empty {
                o.value("content").extend_from_slice(&parts);
            }
            if calls > 0 {
                o.array("tool_calls", |a| {
                    let calls = blocks.iter().filter_map(|(_, block)| match &block.content {
                        Content::ToolCall(call) => Some((*block, call)),
                        _ => None,
                    });
                    for (n, (block, call)) in calls.enumerate() {
                        a.object(|o| self.call(o, n, block, call));
                    }
                });
            }
            if !citations.is_empty() {
                o.array("citations", |a| citations.iter().for_each(|json| a.raw(json)));
            }
        });
    }

    fn thought(&mut self, a: &mut Array<'_>, thought: &Reasoning<'_>, called: bool, plan: &mut String) {
        let issued = thought.issuer.as_deref().is_none_or(|issuer| issuer == NAME);
        let text = thought.text.as_deref().filter(|text| issued && !text.is_empty());
        if text.is_some() && (self.thinks || called) {
            self.unproven(thought);
        }
        match text {
            Some(text) if self.thinks => a.object(|o| {
                o.string("type", "thinking");
                o.string("thinking", text);
            }),
            Some(text) if called => plan.push_str(text),
            _ => self.lost("reasoning"),
        }
    }

    /// Names what stands beside a thought that is told: neither proofs nor names of thoughts have a place.
    fn unproven(&mut self, thought: &Reasoning<'_>) {
        for member in thought.beside() {
            self.lost(&format!("reasoning.{member}"));
        }
    }

    fn call(&mut self, o: &mut Object<'_>, n: usize, block: &Block<'_>, call: &ToolCall<'_>) {
        let path = format!("tool_calls[{n}]");
        if call.id.is_empty() {
            let id = format!("call_{}_{n}", self.at);
            o.string("id", &id);
            self.unanswered.push((call.name.to_string(), id));
        } else {
            o.string("id", &call.id);
        }
        o.string("type", "function");
        let text = call.arguments.trim();
        let is_object = || Raw::parse(text).is_ok_and(|json| json.kind() == Kind::Object);
        o.object("function", |o| {
            o.string("name", &call.name);
            if call.kind == ToolKind::Custom {
                self.losses.emulated(format!("messages[{}].{path}.custom", self.at));
                o.string("arguments", &wrapped("input", &call.arguments));
            } else if text.is_empty() {
                o.string("arguments", "{}");
            } else if is_object() {
                o.string("arguments", text);
            } else {
                self.losses.altered(format!("messages[{}].{path}.function.arguments", self.at));
                o.string("arguments", &wrapped("arguments", &call.arguments));
            }
        });
        if call.signature.is_some() {
            self.lost(&format!("{path}.signature"));
        }
        self.cache(block, &path);
        // Clients that gather streams send back the number of a call, which its place tells as well.
        let own = self.own;
        for (name, _) in block.extras.iter().filter(|(name, _)| !own && *name != "index") {
            self.lost(&format!("{path}.{name}"));
        }
    }

    fn result(&mut self, a: &mut Array<'_>, j: usize, result: &ToolResult<'_>, block: &Block<'_>) {
        self.cache(block, &format!("content[{j}]"));
        if result.is_error == Some(true) {
            self.lost(&format!("content[{j}].is_error"));
        }
        let mut texts = Vec::new();
        let own = self.own;
        for (name, _) in block.extras.iter().filter(|_| !own) {
            self.lost(&format!("content[{j}].{name}"));
        }
        for (k, inner) in result.blocks.iter().enumerate() {
            let path = format!("content[{j}].content[{k}]");
            match &inner.content {
                Content::Text { text, citations } => {
                    if !citations.is_empty() {
                        self.lost(&format!("{path}.citations"));
                    }
                    self.about(&path, inner);
                    texts.push(text.as_str());
                }
                _ => self.lost(&path),
            }
        }
        a.object(|o| {
            o.string("role", "tool");
            if result.id.is_empty() {
                o.string("tool_call_id", &self.answered(result.name.as_deref(), j));
            } else {
                o.string("tool_call_id", &result.id);
            }
            match (&texts[..], &result.structured) {
                ([], Some(json)) if json.kind() == Kind::Object => o.array("content", |a| {
                    a.object(|o| {
                        o.string("type", "document");
                        o.object("document", |o| o.raw("data", json));
                    });
                }),
                ([], Some(json)) => o.string("content", json.get()),
                ([], None) => o.string("content", ""),
                ([text], _) => o.string("content", text),
                (texts, _) => o.array("content", |a| texts.iter().for_each(|text| write_text(a, text))),
            }
        });
    }

    /// The id that was made for a call without one.
    fn answered(&mut self, name: Option<&str>, j: usize) -> String {
        let at = self.unanswered.iter().position(|(call, _)| name.is_none_or(|name| name == call)).unwrap_or(0);
        match self.unanswered.get(at) {
            Some(_) => self.unanswered.remove(at).1,
            None => format!("call_{}_{j}", self.at),
        }
    }

    fn beside(&mut self, j: usize, block: &Block<'_>) {
        self.about(&format!("content[{j}]"), block);
    }

    /// Names what stands beside a block and has no place.
    fn about(&mut self, path: &str, block: &Block<'_>) {
        self.cache(block, path);
        let own = self.own;
        for (name, _) in block.extras.iter().filter(|_| !own) {
            self.lost(&format!("{path}.{name}"));
        }
    }

    /// Cohere caches on its own account and takes no marks.
    fn cache(&mut self, block: &Block<'_>, path: &str) {
        if block.cache.is_some() {
            self.lost(&format!("{path}.cache_control"));
        }
    }

    fn uncited(&mut self, j: usize, citations: &[Raw<'_>]) {
        if !citations.is_empty() {
            self.lost(&format!("content[{j}].citations"));
        }
    }

    fn lost(&mut self, path: &str) {
        self.losses.dropped(format!("messages[{}].{path}", self.at));
    }
}

/// What a medium is to Cohere.
enum Form {
    Image,
    Text(String),
}

impl Form {
    /// Finds the form; the error says what Cohere takes.
    fn of(media: &Media<'_>) -> Result<Form, &'static str> {
        match (media.kind, &media.source) {
            (MediaKind::Image, Source::Base64(_)) if media.mime.as_deref().is_some_and(|mime| !is_picture(mime)) => {
                Err("images as JPEG, PNG, GIF or WebP")
            }
            (MediaKind::Image, Source::Url(_) | Source::Base64(_)) => Ok(Form::Image),
            (MediaKind::Image, _) => Err("images by address or as base64"),
            (MediaKind::File, Source::Text(text)) => Ok(Form::Text(text.to_string())),
            (MediaKind::File, Source::Base64(data)) if media.mime.as_deref().is_some_and(is_text) => {
                let text = STANDARD.decode(data.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                text.map(Form::Text).ok_or("text files in base64 only where they are UTF-8")
            }
            (MediaKind::File, _) => Err("files only where they are plain text"),
            (MediaKind::Audio, _) => Err("no audio"),
            (MediaKind::Video, _) => Err("no video"),
        }
    }
}

/// Whether it is a type of image that Cohere takes (guide "Image inputs", seen 2026-11-21).
fn is_picture(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or(mime).trim();
    let known = ["image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"];
    known.iter().any(|known| mime.eq_ignore_ascii_case(known))
}

fn is_text(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or(mime).trim();
    mime.starts_with("text/") || matches!(mime, "application/json" | "application/xml" | "application/yaml")
}

fn write_address(o: &mut Object<'_>, media: &Media<'_>) {
    match &media.source {
        Source::Base64(data) => {
            let out = o.value("url");
            out.extend_from_slice(b"\"data:");
            writer::escape(out, media.mime.as_deref().unwrap_or("image/png"));
            out.extend_from_slice(b";base64,");
            writer::escape(out, data);
            out.push(b'"');
        }
        Source::Url(text) | Source::Id(text) | Source::Text(text) => o.string("url", text),
    }
}

fn write_text(a: &mut Array<'_>, text: &str) {
    a.object(|o| {
        o.string("type", "text");
        o.string("text", text);
    });
}

/// Text that is no JSON object, as the one member of one.
fn wrapped(name: &str, text: &str) -> String {
    let mut out = Vec::new();
    writer::object(&mut out, |o| o.string(name, text));
    String::from_utf8(out).unwrap_or_default()
}
