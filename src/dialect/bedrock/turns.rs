//! The conversation as Converse has it: a system prompt, then turns of user and assistant in alternation.
//!
//! The rules are those of Claude's own API (see [`anthropic`](crate::dialect::anthropic)), kept by all models behind this
//! one: the user begins, neighbours of one role are one turn, results stand first in the turn after their calls, and text
//! that says nothing is refused. What differs: a block is an object with one member, a mark of what to cache is a block
//! of its own, and a turn with a document must have text too. Thoughts go back to Claude byte for byte, and to nobody else.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::blocks::{Cache, Input, Item, Piece, sound, write};
use super::media::Form;
use super::model::Model;
use super::wire::Bag;
use super::{ISSUER, NAME};
use crate::dialect::Unsayable;
use crate::ir::{Block, Content, Losses, Message, Reasoning, Request, Role, ToolCall, ToolKind, ToolResult};
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::Array;

/// What the user says where a turn of his, or text in it, is wanted and there is none.
const SAID: &str = ".";
/// The same, at the end.
const GO_ON: &str = "Continue.";
/// Member of a text block of a caller's: the guardrail is to look at this block (`true`, or `{"qualifiers": [...]}`).
const GUARD: &str = "guardContent";

/// A conversation ready to be written.
pub(super) struct Turns<'r> {
    system: Vec<Item<'r>>,
    turns: Vec<Turn<'r>>,
    /// Names of the tools that were called, each once.
    called: Vec<Cow<'r, str>>,
    has_results: bool,
}

struct Turn<'r> {
    assistant: bool,
    results: Vec<Item<'r>>,
    items: Vec<Item<'r>>,
}

impl<'r> Turns<'r> {
    /// Gathers the conversation. `instruction` is added to the system prompt.
    ///
    /// # Errors
    /// It has something that Bedrock has no place for and that must not be left out.
    pub(super) fn of(
        request: &'r Request<'r>,
        model: Model,
        instruction: Option<String>,
        losses: &mut Losses,
    ) -> Result<Turns<'r>, Unsayable> {
        let turns = Turns { system: Vec::new(), turns: Vec::new(), called: Vec::new(), has_results: false };
        let mut gather =
            Gather { model, turns, names: HashMap::new(), unanswered: Vec::new(), documents: Vec::new(), losses };
        // Without a turn there is nothing to answer: instructions alone become the question.
        let hoist = request.messages.iter().any(|message| !leads(message));
        let mut leading = true;
        for (i, message) in request.messages.iter().enumerate() {
            leading &= leads(message);
            match message.role {
                Role::System | Role::Developer if hoist => {
                    if !leading {
                        gather.losses.altered(format!("messages[{i}].role"));
                    }
                    gather.system(i, message);
                }
                Role::System | Role::Developer => {
                    gather.losses.altered(format!("messages[{i}].role"));
                    gather.message(i, message, false)?;
                }
                Role::User | Role::Tool => gather.message(i, message, false)?,
                Role::Assistant => gather.message(i, message, true)?,
            }
        }
        if let Some(text) = instruction {
            gather.turns.system.push(Item::made(Cow::Owned(text)));
        }
        gather.ends();
        Ok(gather.turns)
    }

    /// Whether the conversation stands where a model that thinks on a budget cannot begin to: within a turn of its own
    /// that began without thoughts.
    pub(super) fn breaks_thinking(&self) -> bool {
        let Some((last, before)) = self.turns.split_last() else { return false };
        if last.assistant {
            return true;
        }
        let calls = |turn: &&Turn<'_>| turn.items.iter().any(|item| matches!(item.piece, Piece::Call { .. }));
        let thought = |turn: &Turn<'_>| {
            matches!(turn.items.first().map(|item| &item.piece), Some(Piece::Thinking { .. } | Piece::Redacted(_)))
        };
        !last.results.is_empty() && before.last().filter(calls).is_some_and(|turn| !thought(turn))
    }

    /// Whether it has calls or results, which Bedrock takes from those only who name tools.
    pub(super) fn has_calls(&self) -> bool {
        !self.called.is_empty() || self.has_results
    }

    /// Names of the tools that were called.
    pub(super) fn called(&self) -> &[Cow<'r, str>] {
        &self.called
    }

    /// Writes the messages.
    pub(super) fn write_messages(&self, a: &mut Array<'_>) {
        for turn in &self.turns {
            a.object(|o| {
                o.string("role", if turn.assistant { "assistant" } else { "user" });
                o.array("content", |a| write(turn.results.iter().chain(&turn.items), a));
            });
        }
    }

    /// Writes the system prompt; `false`: there is none.
    pub(super) fn has_system(&self) -> bool {
        !self.system.is_empty()
    }

    pub(super) fn write_system(&self, a: &mut Array<'_>) {
        write(self.system.iter(), a);
    }
}

/// Whether a message goes into the system prompt.
fn leads(message: &Message<'_>) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

struct Gather<'r, 'l> {
    model: Model,
    turns: Turns<'r>,
    /// Names of the calls so far, by their ids as the caller gave them.
    names: HashMap<&'r str, &'r str>,
    /// Name and made id of calls that had none.
    unanswered: Vec<(&'r str, String)>,
    /// Names of documents.
    documents: Vec<String>,
    losses: &'l mut Losses,
}

impl<'r> Gather<'r, '_> {
    fn push(&mut self, assistant: bool, item: Item<'r>) {
        let turns = &mut self.turns.turns;
        if turns.last().is_none_or(|turn| turn.assistant != assistant) {
            turns.push(Turn { assistant, results: Vec::new(), items: Vec::new() });
        }
        if let Some(turn) = turns.last_mut() {
            match item.piece {
                Piece::Result { .. } => turn.results.push(item),
                _ => turn.items.push(item),
            }
        }
    }

    /// Names what a message says about itself and Bedrock has no place for.
    fn about(&mut self, i: usize, message: &Message<'_>) {
        if message.name.is_some() {
            self.losses.dropped(format!("messages[{i}].name"));
        }
        for (name, _) in message.extras.iter() {
            self.losses.dropped(format!("messages[{i}].{name}"));
        }
    }

    fn system(&mut self, i: usize, message: &'r Message<'r>) {
        self.about(i, message);
        for (at, block) in message.blocks.iter().enumerate() {
            let path = format!("messages[{i}].content[{at}]");
            match &block.content {
                Content::Text { text, citations } => {
                    if let Some(piece) = self.text(text, citations, Some(block), &path) {
                        let item = self.item(piece, block, &path, (i, at));
                        self.turns.system.push(item);
                    }
                }
                _ => self.losses.dropped(path),
            }
        }
    }

    fn message(&mut self, i: usize, message: &'r Message<'r>, assistant: bool) -> Result<(), Unsayable> {
        self.about(i, message);
        let mut calls = 0;
        for (at, block) in message.blocks.iter().enumerate() {
            let path = match &block.content {
                Content::ToolCall(_) => format!("messages[{i}].tool_calls[{calls}]"),
                Content::Reasoning(_) => format!("messages[{i}].reasoning"),
                Content::Refusal(_) => format!("messages[{i}].refusal"),
                _ => format!("messages[{i}].content[{at}]"),
            };
            let place = (i, at);
            let piece = match &block.content {
                Content::ToolCall(call) => {
                    calls += 1;
                    Some(self.call(call, &path, (i, calls)))
                }
                Content::Reasoning(thought) => {
                    for (name, _) in block.extras.iter() {
                        self.losses.dropped(format!("{path}.{name}"));
                    }
                    self.thoughts(thought, assistant, &path, place);
                    None
                }
                Content::ToolResult(result) => {
                    let (piece, cache) = self.result(result, i, &path)?;
                    let mut item = self.item(piece, block, &path, place);
                    item.cache = item.cache.or(cache);
                    self.push(assistant, item);
                    None
                }
                // Only users show images and documents.
                Content::Media(_) if assistant => {
                    self.losses.dropped(path.clone());
                    None
                }
                _ => self.piece(block, &path)?,
            };
            if let Some(piece) = piece {
                let item = self.item(piece, block, &path, place);
                self.push(assistant, item);
            }
        }
        Ok(())
    }

    /// A block of any kind that may stand in a turn and in a tool's result.
    fn piece(&mut self, block: &'r Block<'r>, path: &str) -> Result<Option<Piece<'r>>, Unsayable> {
        Ok(match &block.content {
            Content::Text { text, citations } => self.text(text, citations, Some(block), path),
            Content::Refusal(text) => {
                self.losses.altered(path.to_owned());
                self.text(text, &[], None, path)
            }
            Content::Media(media) => {
                let form = Form::of(media, self.model, &mut self.documents, path)?;
                if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.losses.dropped(format!("{path}.image_url.detail"));
                }
                match &media.name {
                    Some(_) if !form.is_document() => self.losses.dropped(format!("{path}.file.filename")),
                    Some(name) if !form.keeps(name) => self.losses.altered(format!("{path}.file.filename")),
                    _ => {}
                }
                Some(Piece::Media(form))
            }
            _ => {
                self.losses.dropped(path.to_owned());
                None
            }
        })
    }

    /// Text, unless it says nothing: blocks that are empty or white space are refused.
    fn text(
        &mut self,
        text: &'r str,
        citations: &'r [Raw<'r>],
        block: Option<&'r Block<'r>>,
        path: &str,
    ) -> Option<Piece<'r>> {
        if text.trim().is_empty() {
            if !text.is_empty() {
                self.losses.dropped(path.to_owned());
            }
            return None;
        }
        if !citations.is_empty() {
            self.losses.dropped(format!("{path}.annotations"));
        }
        let guard = block.and_then(|block| block.extras.get(GUARD));
        Some(match guard.filter(|guard| guard.get() != "false") {
            Some(guard) => {
                let members = guard.read::<Bag<'_>>().map(|bag| bag.extras).unwrap_or_default();
                Piece::Guarded { text, qualifiers: members.get("qualifiers").map(|raw| raw.clone().into_owned()) }
            }
            None => Piece::Text(Cow::Borrowed(text)),
        })
    }

    fn item(&mut self, piece: Piece<'r>, block: &Block<'_>, path: &str, place: (usize, usize)) -> Item<'r> {
        // Clients that gather streams send back the number of a call, which its place tells as well.
        let numbered = matches!(piece, Piece::Call { .. });
        let guarded = matches!(piece, Piece::Text(_) | Piece::Guarded { .. });
        for (name, _) in block.extras.iter() {
            let told = numbered && name == "index" || guarded && name == GUARD;
            if !told {
                self.losses.dropped(format!("{path}.{name}"));
            }
        }
        let cache = block.cache.as_ref().and_then(|mark| Cache::of(&mark.0, self.model, path, self.losses));
        Item { piece, cache, place }
    }

    /// Thoughts that Claude signed or that came encrypted; a signature without text is what it gives where thoughts are
    /// hidden.
    fn thoughts(&mut self, thought: &'r Reasoning<'r>, assistant: bool, path: &str, place: (usize, usize)) {
        let issuer = thought.issuer.as_deref().unwrap_or_default();
        let takes = assistant && self.model.takes_thoughts();
        let signed = thought.signature.as_deref().filter(|_| takes && issuer == ISSUER);
        let encrypted = thought.encrypted.as_deref().filter(|_| takes).and_then(|data| match issuer {
            ISSUER => Some(Cow::Owned(STANDARD.encode(data))),
            NAME => Some(Cow::Borrowed(data)),
            _ => None,
        });
        if signed.is_none() && encrypted.is_none() {
            return self.losses.dropped(path.to_owned());
        }
        if thought.id.is_some() {
            self.losses.dropped(format!("{path}.id"));
        }
        let bare = |piece| Item { piece, cache: None, place };
        if let Some(signature) = signed {
            let text = thought.text.as_deref().unwrap_or_default();
            self.push(assistant, bare(Piece::Thinking { text, signature }));
        }
        if let Some(data) = encrypted {
            self.push(assistant, bare(Piece::Redacted(data)));
        }
    }

    fn call(&mut self, call: &'r ToolCall<'r>, path: &str, (i, number): (usize, usize)) -> Piece<'r> {
        let arguments = call.arguments.trim();
        let input = if call.kind == ToolKind::Custom {
            self.losses.emulated(format!("{path}.custom"));
            Input::Text("input", &call.arguments)
        } else if arguments.is_empty() {
            Input::Json("{}")
        } else if Raw::parse(arguments).is_ok_and(|json| json.kind() == Kind::Object) {
            Input::Json(arguments)
        } else {
            self.losses.altered(format!("{path}.function.arguments"));
            Input::Text("arguments", &call.arguments)
        };
        if call.signature.is_some() {
            self.losses.dropped(format!("{path}.signature"));
        }
        let name = sound(&call.name);
        if *name != *call.name {
            self.losses.altered(format!("{path}.function.name"));
        }
        if !self.turns.called.contains(&name) {
            self.turns.called.push(name.clone());
        }
        let id = if call.id.is_empty() {
            let id = format!("call_{i}_{number}");
            self.unanswered.push((&call.name, id.clone()));
            Cow::Owned(id)
        } else {
            self.names.insert(&call.id, &call.name);
            sound(&call.id)
        };
        Piece::Call { id, name, input }
    }

    /// A result, and the mark that one of its blocks had: within results there is no place for it.
    fn result(
        &mut self,
        result: &'r ToolResult<'r>,
        i: usize,
        path: &str,
    ) -> Result<(Piece<'r>, Option<Cache>), Unsayable> {
        self.turns.has_results = true;
        let name = result.name.as_deref();
        let id = if result.id.is_empty() {
            let at = self.unanswered.iter().position(|(call, _)| name.is_none_or(|name| name == *call)).unwrap_or(0);
            match self.unanswered.get(at) {
                Some(_) => Cow::Owned(self.unanswered.remove(at).1),
                None => Cow::Owned(format!("call_{i}")),
            }
        } else {
            // The call says the name already, if it is there.
            if name.is_some_and(|name| self.names.get(result.id.as_str()) != Some(&name)) {
                self.losses.dropped(format!("messages[{i}].name"));
            }
            sound(&result.id)
        };
        let mut items: Vec<Item<'r>> = Vec::new();
        let mut cache = None;
        for (k, block) in result.blocks.iter().enumerate() {
            // The content of a Chat message of this role is the result's.
            let path = format!("{path}.content[{k}]");
            let Some(piece) = self.piece(block, &path)? else { continue };
            let sound = matches!(&piece, Piece::Media(form) if form.is_sound());
            if sound {
                let message = "Bedrock takes no audio in the result of a tool".to_owned();
                return Err(Unsayable { path, message });
            }
            let mut item = self.item(piece, block, &path, (i, k));
            cache = item.cache.take().or(cache);
            // There is nothing to look at for a guardrail in results.
            if let Piece::Guarded { text, .. } = item.piece {
                self.losses.dropped(format!("{path}.{GUARD}"));
                item.piece = Piece::Text(Cow::Borrowed(text));
            }
            items.push(item);
        }
        if let (Some(json), true) = (&result.structured, result.blocks.is_empty()) {
            let piece = match json.kind() {
                Kind::Object => Piece::Json(json),
                _ => Piece::Text(Cow::Borrowed(json.get())),
            };
            items.push(Item { piece, cache: None, place: (i, 0) });
        }
        let failed = result.is_error == Some(true) && self.model.takes_status();
        if result.is_error == Some(true) && !failed {
            self.losses.dropped(format!("{path}.is_error"));
        }
        Ok((Piece::Result { id, items, failed }, cache))
    }

    /// Brings both ends, and turns with documents, into the form that is taken.
    fn ends(&mut self) {
        let turns = &mut self.turns.turns;
        if turns.first().is_none_or(|turn| turn.assistant) {
            self.losses.emulated("messages");
            let items = vec![Item::made(Cow::Borrowed(SAID))];
            turns.insert(0, Turn { assistant: false, results: Vec::new(), items });
        }
        for turn in turns.iter_mut().filter(|turn| !turn.assistant) {
            let document = |item: &&Item<'_>| matches!(&item.piece, Piece::Media(form) if form.is_document());
            let text = |item: &Item<'_>| matches!(item.piece, Piece::Text(_) | Piece::Guarded { .. });
            if let Some(i) = turn.items.iter().find(document).map(|item| item.place.0)
                && !turn.items.iter().any(text)
            {
                self.losses.emulated(format!("messages[{i}].content"));
                turn.items.push(Item::made(Cow::Borrowed(SAID)));
            }
        }
        turns.iter_mut().for_each(|turn| turn.move_marks(self.losses));
        let Some(last) = turns.last_mut().filter(|turn| turn.assistant) else { return };
        let Some(item) = last.items.last_mut() else { return };
        let (i, at) = item.place;
        if !self.model.takes_prefill() {
            self.losses.altered(format!("messages[{i}]"));
            let items = vec![Item::made(Cow::Borrowed(GO_ON))];
            turns.push(Turn { assistant: false, results: Vec::new(), items });
            return;
        }
        // An answer begun for the model must not end in white space.
        if let Piece::Text(text) = &mut item.piece {
            let kept = text.trim_end().len();
            if kept < text.len() {
                *text = Cow::Owned(text.trim_end().to_owned());
                self.losses.altered(format!("messages[{i}].content[{at}]"));
            }
        }
    }
}

impl Turn<'_> {
    /// A mark may not stand behind a document or a video: it moves to the last block before them.
    fn move_marks(&mut self, losses: &mut Losses) {
        let mut before = None;
        for k in 0..self.items.len() {
            let Some(item) = self.items.get_mut(k) else { return };
            if !matches!(&item.piece, Piece::Media(form) if form.bars_marks()) {
                before = Some(k);
                continue;
            }
            let Some(cache) = item.cache.take() else { continue };
            let (i, at) = item.place;
            let path = format!("messages[{i}].content[{at}].cache_control");
            let place = match before {
                Some(before) => self.items.get_mut(before),
                None => self.results.last_mut(),
            };
            match place {
                Some(place) => {
                    place.cache.get_or_insert(cache);
                    losses.altered(path);
                }
                None => losses.dropped(path),
            }
        }
    }
}
