//! The conversation as Ollama has it: a message is one text, with images beside it.
//!
//! Texts of one message are joined by line feeds. Images go by their bytes alone: the server fetches nothing. Results
//! name their tool; newer servers also read the ids of calls, and older ones pass over them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::NAME;
use crate::dialect::Unsayable;
use crate::ir::{
    Block, Content, Losses, Media, MediaKind, Message, Reasoning, Request, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::{Array, Object};

/// Finds what Ollama has no place for and must not be left out.
///
/// # Errors
/// There is such a part in what the user said.
pub(super) fn check(request: &Request<'_>) -> Result<(), Unsayable> {
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| message.role == Role::User) {
        for (j, block) in message.blocks.iter().enumerate() {
            if let Content::Media(media) = &block.content {
                Form::of(media).map_err(|what| Unsayable {
                    path: format!("messages[{i}].content[{j}]"),
                    message: format!("Ollama takes {what}"),
                })?;
            }
        }
    }
    Ok(())
}

/// Writes all messages.
pub(super) fn write(a: &mut Array<'_>, request: &Request<'_>, losses: &mut Losses) {
    let mut turns = Turns { losses, calls: Vec::new(), at: 0 };
    for (i, message) in request.messages.iter().enumerate() {
        turns.at = i;
        turns.message(a, message);
    }
}

struct Turns<'r, 'l> {
    losses: &'l mut Losses,
    /// Id and name of the calls so far that were not answered.
    calls: Vec<(&'r str, &'r str)>,
    /// Index of the message being written.
    at: usize,
}

/// What a message is made of.
#[derive(Default)]
struct Said<'r> {
    text: String,
    thoughts: String,
    images: Vec<&'r str>,
    calls: Vec<(&'r Block<'r>, &'r ToolCall<'r>)>,
}

impl Said<'_> {
    fn say(&mut self, text: &str) {
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }
}

impl<'r> Turns<'r, '_> {
    fn message(&mut self, a: &mut Array<'_>, message: &'r Message<'r>) {
        if message.name.is_some() {
            self.lost("name");
        }
        for (name, _) in message.extras.iter() {
            self.lost(name);
        }
        let mut said = Said::default();
        let mut results = 0;
        for (j, block) in message.blocks.iter().enumerate() {
            match &block.content {
                Content::ToolResult(result) => {
                    results += 1;
                    self.result(a, j, result, block);
                }
                _ => self.block(message.role, j, block, &mut said),
            }
        }
        let nothing = said.text.is_empty() && said.images.is_empty() && said.calls.is_empty();
        if nothing && (results > 0 || message.role == Role::Tool) {
            return;
        }
        a.object(|o| {
            let role = match message.role {
                Role::System | Role::Developer => "system",
                Role::Assistant => "assistant",
                Role::User | Role::Tool => "user",
            };
            o.string("role", role);
            o.string("content", &said.text);
            if !said.thoughts.is_empty() {
                o.string("thinking", &said.thoughts);
            }
            if !said.images.is_empty() {
                o.array("images", |a| said.images.iter().for_each(|data| a.string(data)));
            }
            if !said.calls.is_empty() {
                o.array("tool_calls", |a| {
                    for (n, (block, call)) in said.calls.iter().enumerate() {
                        a.object(|o| self.call(o, n, block, call));
                    }
                });
            }
        });
    }

    fn block(&mut self, role: Role, j: usize, block: &'r Block<'r>, said: &mut Said<'r>) {
        let path = format!("content[{j}]");
        match &block.content {
            // A message of results has no place for anything else.
            _ if role == Role::Tool => return self.lost(&path),
            Content::Text { text, citations } => {
                if !citations.is_empty() {
                    self.lost(&format!("{path}.citations"));
                }
                said.say(text);
            }
            Content::Refusal(text) => {
                self.losses.altered(format!("messages[{}].refusal", self.at));
                said.say(text);
            }
            Content::Media(media) => self.media(role, &path, media, said),
            Content::Reasoning(thought) if role == Role::Assistant => self.thought(thought, said),
            Content::ToolCall(call) if role == Role::Assistant => {
                self.calls.push((&call.id, &call.name));
                said.calls.push((block, call));
                // What stands beside it is named with it.
                return;
            }
            _ => self.lost(&path),
        }
        self.beside(&path, block);
    }

    fn media(&mut self, role: Role, path: &str, media: &'r Media<'r>, said: &mut Said<'r>) {
        match Form::of(media) {
            Ok(Form::Image(data)) if role == Role::User => said.images.push(data),
            Ok(Form::Text(text)) if role == Role::User => {
                self.losses.emulated(format!("messages[{}].{path}", self.at));
                said.say(&text);
            }
            // What another provider painted is nothing that this one was shown.
            _ => return self.lost(path),
        }
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.lost(&format!("{path}.image_url.detail"));
        }
        if media.name.is_some() {
            self.lost(&format!("{path}.file.filename"));
        }
    }

    /// Thoughts that another provider signed or encrypted stay with their issuer.
    fn thought(&mut self, thought: &Reasoning<'_>, said: &mut Said<'_>) {
        let issued = thought.issuer.as_deref().is_none_or(|issuer| issuer == NAME);
        match thought.text.as_deref().filter(|text| issued && !text.is_empty()) {
            Some(text) => {
                said.thoughts.push_str(text);
                for member in thought.beside() {
                    self.lost(&format!("reasoning.{member}"));
                }
            }
            None => self.lost("reasoning"),
        }
    }

    fn call(&mut self, o: &mut Object<'_>, n: usize, block: &Block<'_>, call: &ToolCall<'_>) {
        let path = format!("tool_calls[{n}]");
        if !call.id.is_empty() {
            o.string("id", &call.id);
        }
        o.string("type", "function");
        let text = call.arguments.trim();
        let is_object = || Raw::parse(text).is_ok_and(|json| json.kind() == Kind::Object);
        o.object("function", |o| {
            o.string("name", &call.name);
            if call.kind == ToolKind::Custom {
                self.losses.emulated(format!("messages[{}].{path}.custom", self.at));
                o.object("arguments", |o| o.string("input", &call.arguments));
            } else if text.is_empty() {
                o.object("arguments", |_| {});
            } else if is_object() {
                o.value("arguments").extend_from_slice(text.as_bytes());
            } else {
                self.losses.altered(format!("messages[{}].{path}.function.arguments", self.at));
                o.object("arguments", |o| o.string("arguments", &call.arguments));
            }
        });
        if call.signature.is_some() {
            self.lost(&format!("{path}.signature"));
        }
        if block.cache.is_some() {
            self.lost(&format!("{path}.cache_control"));
        }
        // Clients that gather streams send back the number of a call, which its place tells as well.
        for (name, _) in block.extras.iter().filter(|(name, _)| *name != "index") {
            self.lost(&format!("{path}.{name}"));
        }
    }

    fn result(&mut self, a: &mut Array<'_>, j: usize, result: &'r ToolResult<'r>, block: &Block<'_>) {
        let path = format!("content[{j}]");
        self.beside(&path, block);
        if result.is_error == Some(true) {
            self.lost(&format!("{path}.is_error"));
        }
        let mut said = Said::default();
        for (k, inner) in result.blocks.iter().enumerate() {
            self.beside(&format!("{path}.content[{k}]"), inner);
            match &inner.content {
                Content::Text { text, citations } => {
                    if !citations.is_empty() {
                        self.lost(&format!("{path}.content[{k}].citations"));
                    }
                    said.say(text);
                }
                Content::Media(media) => {
                    match Form::of(media) {
                        Ok(Form::Image(data)) => said.images.push(data),
                        Ok(Form::Text(text)) => said.say(&text),
                        Err(_) => self.lost(&format!("{path}.content[{k}]")),
                    }
                    if media.name.is_some() {
                        self.lost(&format!("{path}.content[{k}].file.filename"));
                    }
                }
                _ => self.lost(&format!("{path}.content[{k}]")),
            }
        }
        if let (true, Some(json)) = (result.blocks.is_empty(), &result.structured) {
            said.say(json.get());
        }
        let name = self.name(result);
        a.object(|o| {
            o.string("role", "tool");
            o.string("content", &said.text);
            if let Some(name) = name {
                o.string("tool_name", name);
            }
            if !result.id.is_empty() {
                o.string("tool_call_id", &result.id);
            }
            if !said.images.is_empty() {
                o.array("images", |a| said.images.iter().for_each(|data| a.string(data)));
            }
        });
    }

    /// The tool that a result is of: that of the call answered, which goes before what the caller says.
    fn name(&mut self, result: &'r ToolResult<'r>) -> Option<&'r str> {
        let said = result.name.as_deref();
        let at = if result.id.is_empty() {
            self.calls.iter().position(|(id, name)| id.is_empty() && said.is_none_or(|said| said == *name))
        } else {
            self.calls.iter().position(|(id, _)| *id == result.id.as_str())
        };
        at.map(|at| self.calls.remove(at).1).or(said)
    }

    /// Names what stands beside a block and has no place.
    fn beside(&mut self, path: &str, block: &Block<'_>) {
        if block.cache.is_some() {
            self.lost(&format!("{path}.cache_control"));
        }
        for (name, _) in block.extras.iter() {
            self.lost(&format!("{path}.{name}"));
        }
    }

    fn lost(&mut self, path: &str) {
        self.losses.dropped(format!("messages[{}].{path}", self.at));
    }
}

/// What a medium is to Ollama.
enum Form<'m> {
    Image(&'m str),
    Text(String),
}

impl<'m> Form<'m> {
    /// Finds the form; the error says what Ollama takes.
    fn of(media: &'m Media<'m>) -> Result<Form<'m>, &'static str> {
        match (media.kind, &media.source) {
            (MediaKind::Image, Source::Base64(data)) => Ok(Form::Image(data)),
            (MediaKind::Image, _) => Err("images as base64 only, and fetches none"),
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

fn is_text(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or(mime).trim();
    mime.starts_with("text/") || matches!(mime, "application/json" | "application/xml" | "application/yaml")
}
