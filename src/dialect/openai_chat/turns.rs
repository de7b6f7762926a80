//! Messages of a request, written for a provider: one of the IR may become several (results of tools), and what the
//! provider cannot be told is named.

use crate::dialect::{ReasoningStyle, To};
use crate::ir::{
    Block, Content, Losses, Media, MediaKind, Message, Reasoning, Request, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::Extras;
use crate::wire::writer::{self, Array, Object};

use super::reasoning;
use super::wire::{self, ORIGIN, is_nested, nested, write_google_signature};

/// Writes all messages. `instruction` is added to the leading system message, or becomes one.
pub fn encode(a: &mut Array<'_>, request: &Request<'_>, to: &To<'_>, instruction: Option<&str>, losses: &mut Losses) {
    let mut turns =
        Turns { own: request.origin == ORIGIN, to, losses, unanswered: Vec::new(), instruction: None, at: 0 };
    let leads = request.messages.first().is_some_and(|m| matches!(m.role, Role::System | Role::Developer));
    if let (Some(text), false) = (instruction, leads) {
        a.object(|o| {
            o.string("role", "system");
            o.string("content", text);
        });
    }
    for (i, message) in request.messages.iter().enumerate() {
        turns.at = i;
        turns.instruction = instruction.filter(|_| leads && i == 0);
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
    instruction: Option<&'t str>,
    /// Index of the message being written.
    at: usize,
}

impl Turns<'_, '_> {
    fn message(&mut self, a: &mut Array<'_>, message: &Message<'_>) {
        let mut others = Vec::new();
        for (j, block) in message.blocks.iter().enumerate() {
            match &block.content {
                Content::ToolResult(result) => self.result(a, j, result, block, message),
                _ => others.push((j, block)),
            }
        }
        if message.role == Role::Tool {
            for (j, _) in others {
                self.lost(&format!("content[{j}]"));
            }
            return;
        }
        if others.is_empty() && !message.blocks.is_empty() {
            return;
        }
        a.object(|o| {
            let role = match message.role {
                Role::Developer if !self.to.quirks.no_developer_role => "developer",
                Role::System | Role::Developer => "system",
                Role::Assistant => "assistant",
                Role::User | Role::Tool => "user",
            };
            o.string("role", role);
            match message.role {
                Role::Assistant => self.assistant(o, &others),
                _ => self.content(o, &others),
            }
            if let Some(name) = &message.name {
                o.string("name", name);
            }
            self.extras(o, &message.extras, "");
        });
    }

    fn assistant(&mut self, o: &mut Object<'_>, blocks: &[(usize, &Block<'_>)]) {
        let mut said = Vec::new();
        let mut thoughts = Vec::new();
        let mut calls = Vec::new();
        let mut refusal = String::new();
        let mut audio = None;
        for (j, block) in blocks {
            match &block.content {
                Content::Reasoning(thought) => thoughts.push(thought),
                Content::ToolCall(call) => calls.push((*block, call)),
                Content::Refusal(text) => refusal.push_str(text),
                Content::Media(Media { kind: MediaKind::Audio, source: Source::Id(id), .. }) => audio = Some(id),
                // OpenAI takes no media in this role; what another provider painted cannot be shown again.
                Content::Media(_) if !self.own => self.lost(&format!("content[{j}]")),
                _ => said.push((*j, *block)),
            }
        }
        if said.is_empty() && (!calls.is_empty() || !refusal.is_empty() || audio.is_some()) {
            o.null("content");
        } else {
            self.content(o, &said);
        }
        if !refusal.is_empty() {
            o.string("refusal", &refusal);
        }
        if let Some(id) = audio {
            o.object("audio", |o| o.string("id", id));
        }
        self.reasoning(o, thoughts);
        if !calls.is_empty() {
            o.array("tool_calls", |a| {
                for (j, (block, call)) in calls.into_iter().enumerate() {
                    a.object(|o| self.call(o, j, block, call));
                }
            });
        }
    }

    fn reasoning(&mut self, o: &mut Object<'_>, mut thoughts: Vec<&Reasoning<'_>>) {
        if self.own
            && let Some(at) = thoughts.iter().position(|thought| reasoning::is_bare_google(thought))
            && let Some(signature) = &thoughts.remove(at).signature
        {
            write_google_signature(o, signature);
        }
        if thoughts.is_empty() {
            return;
        }
        let proofs = thoughts.iter().any(|thought| thought.signature.is_some() || thought.encrypted.is_some());
        match self.to.quirks.reasoning {
            ReasoningStyle::Object => {
                reasoning::write_text(o, "reasoning", &thoughts);
                if reasoning::are_detailed(&thoughts) {
                    reasoning::write_details(o, &thoughts);
                }
            }
            ReasoningStyle::Thinking | ReasoningStyle::EnableThinking => {
                reasoning::write_text(o, "reasoning_content", &thoughts);
                if proofs {
                    self.lost("reasoning_details");
                }
            }
            ReasoningStyle::Effort | ReasoningStyle::None => self.lost("reasoning"),
        }
    }

    fn call(&mut self, o: &mut Object<'_>, j: usize, block: &Block<'_>, call: &ToolCall<'_>) {
        if call.id.is_empty() {
            let id = format!("call_{}_{j}", self.at);
            o.string("id", &id);
            self.unanswered.push((call.name.to_string(), id));
        } else {
            o.string("id", &call.id);
        }
        let path = format!("tool_calls[{j}].");
        match call.kind {
            ToolKind::Function => {
                o.string("type", "function");
                o.object("function", |o| {
                    o.string("name", &call.name);
                    o.string("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
                    self.nested(o, &block.extras, "function");
                });
            }
            ToolKind::Custom => {
                o.string("type", "custom");
                o.object("custom", |o| {
                    o.string("name", &call.name);
                    o.string("input", &call.arguments);
                    self.nested(o, &block.extras, "custom");
                });
            }
        }
        match &call.signature {
            Some(signature) if self.own => write_google_signature(o, signature),
            Some(_) => self.lost(&format!("{path}signature")),
            None => {}
        }
        self.cache(o, block, &path);
        self.extras(o, &block.extras, &path);
    }

    fn result(
        &mut self,
        a: &mut Array<'_>,
        j: usize,
        result: &ToolResult<'_>,
        block: &Block<'_>,
        message: &Message<'_>,
    ) {
        if result.is_error == Some(true) {
            self.lost(&format!("content[{j}].is_error"));
        }
        if !self.own {
            self.extras_lost(&block.extras, &format!("content[{j}]."));
        }
        let name = result.name.as_deref();
        let at = self.unanswered.iter().position(|(n, _)| name.is_none_or(|name| name == n)).unwrap_or(0);
        a.object(|o| {
            o.string("role", "tool");
            if !result.id.is_empty() {
                o.string("tool_call_id", &result.id);
            } else if self.unanswered.is_empty() {
                o.string("tool_call_id", &format!("call_{}_{j}", self.at));
            } else {
                o.string("tool_call_id", &self.unanswered.remove(at).1);
            }
            if let (true, Some(name)) = (self.own, name) {
                o.string("name", name);
            }
            let mut blocks = Vec::new();
            for (k, inner) in result.blocks.iter().enumerate() {
                match inner.content {
                    Content::Media(_) | Content::Other { .. } if !self.own => {
                        self.lost(&format!("content[{j}].content[{k}]"));
                    }
                    _ => blocks.push((k, inner)),
                }
            }
            match &result.structured {
                Some(json) if blocks.is_empty() => o.string("content", json.get()),
                _ => self.content(o, &blocks),
            }
            self.cache(o, block, "");
            if message.role == Role::Tool {
                self.extras(o, &message.extras, "");
            }
        });
    }

    /// Writes `content`: a bare string where that says it all, else parts.
    fn content(&mut self, o: &mut Object<'_>, blocks: &[(usize, &Block<'_>)]) {
        let suffix = self.instruction.unwrap_or_default();
        let gap = if suffix.is_empty() { "" } else { "\n\n" };
        match blocks {
            [] => o.string("content", suffix),
            [(j, Block { content: Content::Text { text, citations }, cache, extras, .. })]
                if (!self.own || extras.is_empty()) && (!self.marks() || cache.is_none()) =>
            {
                if !citations.is_empty() {
                    self.lost(&format!("content[{j}].citations"));
                }
                if cache.is_some() {
                    self.lost(&format!("content[{j}].cache_control"));
                }
                self.extras_lost(extras, &format!("content[{j}]."));
                match suffix {
                    "" => o.string("content", text),
                    suffix => o.string("content", &format!("{text}{gap}{suffix}")),
                }
            }
            blocks => o.array("content", |a| {
                for (j, block) in blocks {
                    self.part(a, *j, block);
                }
                if !suffix.is_empty() {
                    a.object(|o| {
                        o.string("type", "text");
                        o.string("text", suffix);
                    });
                }
            }),
        }
    }

    fn part(&mut self, a: &mut Array<'_>, j: usize, block: &Block<'_>) {
        let path = format!("content[{j}]");
        match &block.content {
            Content::Text { text, citations } => {
                if !citations.is_empty() {
                    self.lost(&format!("{path}.citations"));
                }
                a.object(|o| {
                    o.string("type", "text");
                    o.string("text", text);
                    self.tail(o, block, &path, "");
                });
            }
            Content::Refusal(text) => a.object(|o| {
                o.string("type", "refusal");
                o.string("refusal", text);
                self.tail(o, block, &path, "");
            }),
            Content::Media(media) => self.media(a, &path, block, media),
            Content::Other { json, .. } if self.own => a.raw(json),
            _ => self.lost(&path),
        }
    }

    fn media(&mut self, a: &mut Array<'_>, path: &str, block: &Block<'_>, media: &Media<'_>) {
        let own = self.own;
        let (name, member) = match (media.kind, &media.source) {
            (MediaKind::Image, Source::Url(_) | Source::Base64(_)) => ("image_url", "url"),
            (MediaKind::Video, Source::Url(_) | Source::Base64(_)) => ("video_url", "url"),
            (MediaKind::Audio, Source::Base64(_)) => ("input_audio", "data"),
            (MediaKind::Audio, Source::Url(_)) if own => ("input_audio", ""),
            (MediaKind::File, Source::Base64(_)) => ("file", "file_data"),
            (MediaKind::File, Source::Url(_)) if own => ("file", "file_data"),
            (MediaKind::File, Source::Id(_)) => ("file", "file_id"),
            (MediaKind::File, Source::Text(text)) => {
                self.losses.emulated(format!("messages[{}].{path}", self.at));
                if media.name.is_some() {
                    self.lost(&format!("{path}.file.filename"));
                }
                return a.object(|o| {
                    o.string("type", "text");
                    o.string("text", text);
                    self.tail(o, block, path, "");
                });
            }
            _ => return self.lost(path),
        };
        a.object(|o| {
            o.string("type", name);
            if member.is_empty() {
                write_source(o, name, media);
            } else {
                o.object(name, |o| {
                    write_source(o, member, media);
                    if let (Some(detail), MediaKind::Image | MediaKind::Video) = (&media.detail, media.kind) {
                        o.string("detail", detail);
                    }
                    if media.kind == MediaKind::Audio
                        && let Some(format) = audio_format(media)
                    {
                        o.string("format", format);
                    }
                    match (&media.name, media.kind, &media.source) {
                        (Some(name), MediaKind::File, _) => o.string("filename", name),
                        (Some(_), ..) => self.lost(&format!("{path}.file.filename")),
                        // OpenAI wants a name beside bytes.
                        (None, MediaKind::File, Source::Base64(_)) if !own => o.string("filename", "document.pdf"),
                        _ => {}
                    }
                    self.nested(o, &block.extras, name);
                });
            }
            self.tail(o, block, path, name);
        });
    }

    /// What follows the meat of a part: cache mark and unknown members.
    fn tail(&mut self, o: &mut Object<'_>, block: &Block<'_>, path: &str, inner: &str) {
        let path = format!("{path}.");
        self.cache(o, block, &path);
        if self.own {
            for (name, json) in block.extras.iter().filter(|(name, _)| !is_nested(name, &[inner])) {
                o.raw(name, json);
            }
        } else {
            self.extras_lost(&block.extras, &path);
        }
    }

    /// Whether cache marks are written: callers of this dialect know what they ask for, and OpenRouter takes them.
    fn marks(&self) -> bool {
        self.own || self.to.quirks.reasoning == ReasoningStyle::Object
    }

    fn cache(&mut self, o: &mut Object<'_>, block: &Block<'_>, path: &str) {
        match &block.cache {
            Some(mark) if self.marks() => o.raw("cache_control", &mark.0),
            Some(_) => self.lost(&format!("{path}cache_control")),
            None => {}
        }
    }

    fn nested(&mut self, o: &mut Object<'_>, extras: &Extras<'_>, inner: &str) {
        if self.own {
            for (name, json) in nested(extras, inner) {
                o.raw(name, json);
            }
        }
    }

    fn extras(&mut self, o: &mut Object<'_>, extras: &Extras<'_>, path: &str) {
        if self.own {
            for (name, json) in extras.iter().filter(|(name, _)| !is_nested(name, &["function", "custom"])) {
                o.raw(name, json);
            }
        } else {
            self.extras_lost(extras, path);
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

/// Writes where the bytes are; bytes themselves as a `data:` address, except for audio, which goes bare.
pub fn write_source(o: &mut Object<'_>, name: &str, media: &Media<'_>) {
    match &media.source {
        Source::Url(text) | Source::Id(text) | Source::Text(text) => o.string(name, text),
        Source::Base64(data) if media.kind == MediaKind::Audio => o.string(name, data),
        // A caller's bare base64 stays what it was.
        Source::Base64(data) if media.kind == MediaKind::File && media.mime.is_none() => o.string(name, data),
        Source::Base64(data) => {
            let mime = media.mime.as_deref().unwrap_or(match media.kind {
                MediaKind::Video => "video/mp4",
                _ => "image/png",
            });
            let out = o.value(name);
            out.extend_from_slice(b"\"data:");
            writer::escape(out, mime);
            out.extend_from_slice(b";base64,");
            writer::escape(out, data);
            out.push(b'"');
        }
    }
}

/// OpenAI's name of an audio format: `wav`, `mp3`.
fn audio_format<'m>(media: &'m Media<'_>) -> Option<&'m str> {
    let format = media.mime.as_deref()?.strip_prefix("audio/")?;
    Some(match format {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    })
}

/// The text that asks for JSON of a schema where the provider has no parameter for it.
pub fn schema_instruction(schema: &crate::wire::json::Raw<'_>) -> String {
    format!("Answer with one JSON object and nothing else. It must satisfy this JSON Schema:\n{}", schema.get())
}

/// Whether `name` was adopted from an inner object of the request's top level.
pub fn is_inner(name: &str) -> bool {
    wire::is_nested(name, &["stream_options", "thinking", "reasoning", "response_format", "tool_choice"])
}
