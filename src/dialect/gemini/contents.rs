//! The conversation as Gemini has it: a system instruction, then turns of user and model in alternation.
//!
//! Turns are written as they come; neighbours of one role become one turn, which the API wants of calls and their
//! results, and which changes nothing elsewhere. Two rules of Gemini's are kept here:
//!
//! - Every signature goes back on the very part that it came on. One that came with plain text or media is carried as a
//!   reasoning block without text, right before what it signs.
//! - Gemini 3 refuses a turn of the model whose first call is unsigned. A call that another provider's model made, or
//!   whose signature the caller lost, gets the placeholder that Google documents for this (Gemini API, "Thought
//!   signatures", frequently asked questions, seen 2026-11-21). Older turns get it as well, though only the current one
//!   is checked: else a turn would change once it is old, and with it the prefix that the prompt cache knows.

use std::collections::HashMap;

use super::NAME;
use super::history::is_made;
use super::media::{beside_all, data, is_google_file, nested};
use super::name;
use super::thinking::Model;
use crate::ir::{
    Block, Content, Losses, Media, Message, Reasoning, Request, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::{Extras, Kind, Raw};
use crate::wire::writer::{self, Object};

/// Passes the check of signatures without being one.
pub(super) const PLACEHOLDER: &str = "skip_thought_signature_validator";

/// Whether a message goes into the system instruction.
fn leads(message: &Message<'_>) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// Writes `systemInstruction` and `contents`.
pub(super) fn write(request: &Request<'_>, model: Model<'_>, losses: &mut Losses, o: &mut Object<'_>) {
    // Without a turn there is nothing to answer: instructions alone become the question.
    let hoist = request.messages.iter().any(|message| !leads(message));
    let own = request.origin.0 == NAME;
    if hoist && request.messages.iter().any(leads) {
        o.object("systemInstruction", |o| {
            let about_it = request.messages.iter().filter(|message| own && leads(message));
            about_it.for_each(|message| o.extras(&message.extras));
            o.array("parts", |a| {
                let mut leading = true;
                for (i, message) in request.messages.iter().enumerate() {
                    leading &= leads(message);
                    if !leads(message) {
                        continue;
                    }
                    if !leading {
                        losses.altered(format!("messages[{i}].role"));
                    }
                    about(message, i, own, losses);
                    for (at, block) in message.blocks.iter().enumerate() {
                        match &block.content {
                            Content::Text { text, .. } => a.object(|o| {
                                o.string("text", text);
                                if own {
                                    o.extras(&block.extras);
                                }
                            }),
                            Content::Other { json, .. } if own => a.raw(json),
                            _ => losses.dropped(format!("messages[{i}].content[{at}]")),
                        }
                        beside(block, &format!("messages[{i}].content[{at}]"), request, losses);
                    }
                }
            });
        });
    }
    let mut turns = Turns {
        out: o.value("contents"),
        role: None,
        calls: 0,
        names: HashMap::new(),
        held: Vec::new(),
        about: Vec::new(),
        request,
        model,
        losses,
    };
    turns.out.push(b'[');
    for (i, message) in request.messages.iter().enumerate() {
        match message.role {
            Role::System | Role::Developer if hoist => {}
            Role::System | Role::Developer => {
                turns.losses.altered(format!("messages[{i}].role"));
                turns.message("user", message, i);
            }
            Role::User | Role::Tool => turns.message("user", message, i),
            Role::Assistant => turns.message("model", message, i),
        }
    }
    turns.end();
}

/// Names what a message says about itself and Gemini has no place for. `own`: it came in this dialect.
fn about(message: &Message<'_>, i: usize, own: bool, losses: &mut Losses) {
    if message.name.is_some() {
        losses.dropped(format!("messages[{i}].name"));
    }
    for (name, _) in message.extras.iter().filter(|_| !own) {
        losses.dropped(format!("messages[{i}].{name}"));
    }
}

/// Names what stands beside a block's content.
fn beside(block: &Block<'_>, path: &str, request: &Request<'_>, losses: &mut Losses) {
    if block.cache.is_some() {
        losses.dropped(format!("{path}.cache_control"));
    }
    if request.origin.0 != NAME {
        // Callers that keep a stream's calls as they came send their `index` too, which says where they stand anyway.
        let numbered = matches!(block.content, Content::ToolCall(_));
        for (name, _) in block.extras.iter().filter(|(name, _)| !(numbered && *name == "index")) {
            losses.dropped(format!("{path}.{name}"));
        }
    }
}

struct Turns<'w, 'r> {
    out: &'w mut Vec<u8>,
    /// Of the turn being written.
    role: Option<&'static str>,
    /// Calls in it so far.
    calls: usize,
    /// Names of the tools called, by the id of the call.
    names: HashMap<&'r str, &'r str>,
    /// Media of tool results that could not go into the result itself, with their paths: they follow the last result.
    held: Vec<(&'r Media<'r>, String)>,
    /// What a caller of this dialect says of the turn being written, beside role and parts.
    about: Vec<(&'r str, &'r Raw<'r>)>,
    request: &'r Request<'r>,
    model: Model<'r>,
    losses: &'w mut Losses,
}

impl<'r> Turns<'_, 'r> {
    /// Hands out the buffer for the next part of a turn of `role`.
    fn part(&mut self, role: &'static str) -> &mut Vec<u8> {
        if self.role == Some(role) {
            self.out.push(b',');
        } else {
            if self.role.is_some() {
                self.close();
                self.out.push(b',');
            }
            self.out.extend_from_slice(b"{\"role\":\"");
            self.out.extend_from_slice(role.as_bytes());
            self.out.extend_from_slice(b"\",\"parts\":[");
            self.role = Some(role);
            self.calls = 0;
        }
        self.out
    }

    fn close(&mut self) {
        self.out.push(b']');
        for (name, json) in std::mem::take(&mut self.about) {
            self.out.push(b',');
            string(self.out, name);
            self.out.extend_from_slice(json.get().as_bytes());
        }
        self.out.push(b'}');
    }

    /// The request came in this dialect.
    fn own(&self) -> bool {
        self.request.origin.0 == NAME
    }

    fn end(&mut self) {
        self.release();
        if self.role.is_none() {
            // Only empty messages: the provider shall say that this is too little.
            writer::object(self.part("user"), |o| o.string("text", ""));
        }
        self.close();
        self.out.push(b']');
    }

    /// Writes the media held back.
    fn release(&mut self) {
        for (media, path) in std::mem::take(&mut self.held) {
            self.media("user", media, None, &Extras::default(), &path);
        }
    }

    fn message(&mut self, role: &'static str, message: &'r Message<'r>, i: usize) {
        if message.role != Role::Tool {
            self.release();
        }
        let own = self.own();
        about(message, i, own, self.losses);
        let begin = self.out.len();
        let mut calls = 0;
        let mut signature: Option<&str> = None;
        for (at, block) in message.blocks.iter().enumerate() {
            let path = match &block.content {
                Content::ToolCall(_) => format!("messages[{i}].tool_calls[{calls}]"),
                Content::Reasoning(_) => format!("messages[{i}].reasoning"),
                Content::Refusal(_) => format!("messages[{i}].refusal"),
                _ => format!("messages[{i}].content[{at}]"),
            };
            beside(block, &path, self.request, self.losses);
            let own = Extras::default();
            let extras = if self.request.origin.0 == NAME { &block.extras } else { &own };
            match &block.content {
                Content::Text { text, citations } => {
                    self.text(role, text, signature.take(), extras);
                    if !citations.is_empty() {
                        self.losses.dropped(format!("{path}.annotations"));
                    }
                }
                Content::Refusal(text) => {
                    self.text(role, text, signature.take(), extras);
                    self.losses.altered(path);
                }
                Content::Media(media) => {
                    self.media(role, media, signature.take(), extras, &path);
                }
                Content::Reasoning(reasoning) => {
                    // A caller of this dialect may have thoughts that nothing proves; Gemini takes those as well.
                    let unproven = reasoning.issuer.is_none() && self.own() && reasoning.signature.is_none();
                    let issued = reasoning.issuer.as_deref() == Some(NAME) || unproven;
                    match reasoning {
                        Reasoning { text: None, signature: Some(mark), .. } if issued => {
                            self.bare(role, signature.replace(mark));
                        }
                        Reasoning { text: Some(text), signature: mark, .. } if issued => {
                            self.bare(role, signature.take());
                            writer::object(self.part(role), |o| {
                                o.string("text", text);
                                o.bool("thought", true);
                                sign(mark.as_deref(), o);
                                o.extras(extras);
                            });
                        }
                        _ => self.losses.dropped(path),
                    }
                }
                Content::ToolCall(call) => {
                    calls += 1;
                    self.bare(role, signature.take());
                    self.call(role, call, extras, &path);
                }
                Content::ToolResult(result) => {
                    self.result(result, extras, i, &path);
                }
                Content::Other { json, .. } => {
                    self.bare(role, signature.take());
                    if self.request.origin.0 == NAME {
                        self.part(role).extend_from_slice(json.get().as_bytes());
                    } else {
                        self.losses.dropped(path);
                    }
                }
            }
        }
        self.bare(role, signature.take());
        let written = self.out.len() > begin;
        for (name, json) in message.extras.iter().filter(|_| own) {
            // Neighbours that became one turn say some things but once.
            if written && !self.about.iter().any(|(known, _)| *known == name) {
                self.about.push((name, json));
            } else {
                self.losses.dropped(format!("messages[{i}].{name}"));
            }
        }
    }

    fn text(&mut self, role: &'static str, text: &str, signature: Option<&str>, extras: &Extras<'_>) {
        // Nothing is said; but a caller of this dialect who says nothing has a whole turn of it.
        if text.is_empty() && signature.is_none() && !self.own() {
            return;
        }
        writer::object(self.part(role), |o| {
            o.string("text", text);
            sign(signature, o);
            o.extras(extras);
        });
    }

    /// A signature whose text has gone, or never was: Gemini's own streams end with such a part.
    fn bare(&mut self, role: &'static str, signature: Option<&str>) {
        if signature.is_some() {
            self.text(role, "", signature, &Extras::default());
        }
    }

    fn media(
        &mut self,
        role: &'static str,
        media: &Media<'_>,
        signature: Option<&str>,
        extras: &Extras<'_>,
        path: &str,
    ) {
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            // `mediaResolution` on a part is not in the stable API, and one for all parts would change the others.
            self.losses.dropped(format!("{path}.image_url.detail"));
        }
        if media.name.is_some() && !self.own() {
            self.losses.dropped(format!("{path}.file.filename"));
        }
        let own = self.own();
        match &media.source {
            Source::Id(id) if self.request.origin.0 != NAME && !is_google_file(id) => {
                self.bare(role, signature);
                self.losses.dropped(format!("{path}.file.file_id"));
            }
            Source::Text(text) => {
                self.text(role, text, signature, extras);
                self.losses.emulated(path.to_owned());
            }
            source => writer::object(self.part(role), |o| {
                data(media, source, own, extras, o);
                sign(signature, o);
                beside_all(extras).for_each(|(name, json)| o.raw(name, json));
            }),
        }
    }

    fn call(&mut self, role: &'static str, call: &'r ToolCall<'r>, extras: &Extras<'_>, path: &str) {
        let made = self.own() && is_made(&call.id);
        let buffer = self.part(role);
        let arguments = match call.arguments.trim() {
            // Some models write nothing, or null, for no arguments.
            "" | "null" => Some(Raw::literal("{}")),
            text => Raw::parse(text).ok().filter(|json| json.kind() == Kind::Object),
        };
        let custom = call.kind == ToolKind::Custom;
        buffer.push(b'{');
        string(buffer, "functionCall");
        writer::object(buffer, |o| {
            // Ids were accepted of every maker and by every model in the recordings (Gemini 2.0 to 3.6, Vertex AI too);
            // without them, two calls of one function could be answered crosswise.
            if !call.id.is_empty() && !made {
                o.string("id", &call.id);
            }
            o.string("name", &name::safe(&call.name));
            match &arguments {
                Some(json) if !custom => o.raw("args", json),
                _ => o.object("args", |o| o.string("input", &call.arguments)),
            }
            nested(extras, "functionCall").for_each(|(name, json)| o.raw(name, json));
        });
        self.calls += 1;
        let placeholder = call.signature.is_none() && self.calls == 1 && self.model.is_third();
        let signature = if placeholder { Some(PLACEHOLDER) } else { call.signature.as_deref() };
        if let Some(signature) = signature {
            self.out.push(b',');
            string(self.out, "thoughtSignature");
            writer::string(self.out, signature);
        }
        for (name, json) in beside_all(extras) {
            self.out.push(b',');
            string(self.out, name);
            self.out.extend_from_slice(json.get().as_bytes());
        }
        self.out.push(b'}');
        if placeholder {
            self.losses.emulated(format!("{path}.signature"));
        }
        if custom {
            self.losses.emulated(format!("{path}.custom"));
        } else if arguments.is_none() {
            self.losses.altered(format!("{path}.function.arguments"));
        }
        if !call.id.is_empty() {
            self.names.insert(&call.id, &call.name);
        }
    }

    fn result(&mut self, result: &'r ToolResult<'r>, extras: &Extras<'_>, i: usize, path: &str) {
        let name = result.name.as_deref().or_else(|| self.names.get(result.id.as_str()).copied());
        if name.is_none() {
            // The call is not in the conversation; a result must still say whose it is.
            self.losses.altered(format!("messages[{i}].tool_call_id"));
        }
        let name = name.or(Some(result.id.as_str()).filter(|id| !id.is_empty())).unwrap_or("tool").to_owned();
        // A caller of this dialect puts them there himself.
        let own = self.own();
        let within = self.model.is_third() || own;
        let mut text = String::new();
        let mut media = Vec::new();
        let none = Extras::default();
        for (k, block) in result.blocks.iter().enumerate() {
            for (name, _) in block.extras.iter().filter(|_| !own) {
                self.losses.dropped(format!("{path}.content[{k}].{name}"));
            }
            if block.cache.is_some() {
                self.losses.dropped(format!("{path}.cache_control"));
            }
            match &block.content {
                Content::Text { text: more, .. } | Content::Refusal(more) => text.push_str(more),
                Content::Media(Media { source: Source::Text(more), .. }) => text.push_str(more),
                Content::Media(found) => media.push((found, if own { &block.extras } else { &none })),
                _ => self.losses.dropped(path.to_owned()),
            }
            if let Content::Media(Media { name: Some(_), .. }) = &block.content
                && !own
            {
                self.losses.dropped(format!("{path}.file.filename"));
            }
        }
        let failed = result.is_error == Some(true);
        let object = |json: &Raw<'_>| json.kind() == Kind::Object;
        let told = result.structured.clone().or_else(|| Raw::parse(text.trim()).ok().filter(object));
        let foreign =
            |(found, _): &(&Media<'_>, &Extras<'_>)| matches!(&found.source, Source::Id(id) if !is_google_file(id));
        let (lost, media): (Vec<_>, Vec<_>) = media.into_iter().partition(foreign);
        if !lost.is_empty() {
            self.losses.dropped(path.to_owned());
        }
        let made = own && is_made(&result.id);
        writer::object(self.part("user"), |o| {
            o.object("functionResponse", |o| {
                if !result.id.is_empty() && !made {
                    o.string("id", &result.id);
                }
                o.string("name", &name::safe(&name));
                match &told {
                    Some(json) if object(json) && !failed => o.raw("response", json),
                    Some(json) => o.object("response", |o| o.raw(if failed { "error" } else { "result" }, json)),
                    None => o.object("response", |o| o.string(if failed { "error" } else { "result" }, &text)),
                }
                if within && !media.is_empty() {
                    o.array("parts", |a| {
                        for (found, extras) in &media {
                            a.object(|o| {
                                data(found, &found.source, own, extras, o);
                                beside_all(extras).for_each(|(name, json)| o.raw(name, json));
                            });
                        }
                    });
                }
                nested(extras, "functionResponse").for_each(|(name, json)| o.raw(name, json));
            });
            beside_all(extras).for_each(|(name, json)| o.raw(name, json));
        });
        if !within {
            for (found, _) in media {
                self.losses.altered(path.to_owned());
                self.held.push((found, path.to_owned()));
            }
        }
    }
}

fn string(out: &mut Vec<u8>, name: &str) {
    writer::string(out, name);
    out.push(b':');
}

fn sign(signature: Option<&str>, o: &mut Object<'_>) {
    if let Some(signature) = signature {
        o.string("thoughtSignature", signature);
    }
}
