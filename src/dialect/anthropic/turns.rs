//! The conversation as Anthropic has it: a system prompt, then turns of user and assistant in alternation.
//!
//! First it is gathered, since what a turn may hold depends on its neighbours; then it is written. Neighbours of one role
//! become one turn, in which results stand before all else, as Anthropic demands of the turn after a call. Instructions
//! that stand later in the conversation move to the system prompt: the newest models would take them in place, but not
//! every provider of this dialect has those; a caller of this dialect that puts them there knows. Thoughts go back to their issuer byte for byte and to nobody else.

use std::borrow::Cow;
use std::collections::HashMap;

use super::NAME;
use super::items::{Input, Item, Piece, content};
use super::media::Form;
use super::model::Model;
use crate::dialect::Unsayable;
use crate::ir::{Block, Content, Losses, Message, Reasoning, Request, Role, ToolCall, ToolKind, ToolResult};
use crate::wire::json::{Kind, Raw};
use crate::wire::writer::Object;

/// What the user says where Anthropic wants a turn of his and there is none.
const SAID: &str = ".";
/// The same, at the end.
const GO_ON: &str = "Continue.";

/// A conversation ready to be written.
pub(super) struct Turns<'r> {
    system: Vec<Item<'r>>,
    turns: Vec<Turn<'r>>,
}

struct Turn<'r> {
    assistant: bool,
    /// Instructions in place.
    system: bool,
    results: Vec<Item<'r>>,
    items: Vec<Item<'r>>,
    /// What a caller of this dialect says of it, beside role and content.
    about: Vec<(&'r str, &'r Raw<'r>)>,
}

impl Turn<'_> {
    /// A turn of ours, or one to begin with.
    fn made(assistant: bool, items: Vec<Item<'_>>) -> Turn<'_> {
        Turn { assistant, system: false, results: Vec::new(), items, about: Vec::new() }
    }
}

impl<'r> Turns<'r> {
    /// Gathers the conversation. `instruction` is added to the system prompt.
    ///
    /// # Errors
    /// It has something that Anthropic has no place for and that must not be left out.
    pub(super) fn of(
        request: &'r Request<'r>,
        model: Model,
        instruction: Option<String>,
        losses: &mut Losses,
    ) -> Result<Turns<'r>, Unsayable> {
        let own = request.origin.0 == NAME;
        let mut gather = Gather {
            own,
            turns: Turns { system: Vec::new(), turns: Vec::new() },
            names: HashMap::new(),
            unanswered: Vec::new(),
            losses,
        };
        // Without a turn there is nothing to answer: instructions alone become the question.
        let hoist = request.messages.iter().any(|message| !leads(message));
        let mut leading = true;
        for (i, message) in request.messages.iter().enumerate() {
            leading &= leads(message);
            match message.role {
                Role::System | Role::Developer if hoist && own && !leading => gather.instruct(i, message)?,
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
        if !own {
            gather.ends(model);
        }
        Ok(gather.turns)
    }

    /// Whether the conversation stands where a model that thinks on a budget cannot begin to: within a turn of its own
    /// that began without thoughts (an answer begun for it, or results of calls made without thinking). Anthropic answers
    /// with a 400, or thinks not at all (guide "Extended thinking", "Toggling thinking modes", seen 2026-11-21).
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

    /// Writes `system` and `messages`.
    pub(super) fn write(&self, o: &mut Object<'_>, system: &str, messages: &str) {
        if !self.system.is_empty() {
            content(o, system, &self.system);
        }
        o.array(messages, |a| {
            for turn in &self.turns {
                a.object(|o| {
                    let role = match (turn.assistant, turn.system) {
                        (true, _) => "assistant",
                        (false, true) => "system",
                        (false, false) => "user",
                    };
                    o.string("role", role);
                    if turn.results.is_empty() {
                        content(o, "content", &turn.items);
                    } else {
                        o.array("content", |a| turn.results.iter().chain(&turn.items).for_each(|item| item.write(a)));
                    }
                    turn.about.iter().for_each(|(name, json)| o.raw(name, json));
                });
            }
        });
    }
}

/// Whether a message goes into the system prompt.
fn leads(message: &Message<'_>) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

struct Gather<'r, 'l> {
    /// The request came in this very dialect: its extras are written back.
    own: bool,
    turns: Turns<'r>,
    /// Ids of the calls so far, as the caller gave them.
    names: HashMap<&'r str, &'r str>,
    /// Name and made id of calls that had none.
    unanswered: Vec<(&'r str, String)>,
    losses: &'l mut Losses,
}

impl<'r> Gather<'r, '_> {
    fn turn(&mut self, assistant: bool) -> Option<&mut Turn<'r>> {
        if self.turns.turns.last().is_none_or(|turn| turn.assistant != assistant || turn.system) {
            self.turns.turns.push(Turn::made(assistant, Vec::new()));
        }
        self.turns.turns.last_mut()
    }

    fn push(&mut self, assistant: bool, item: Item<'r>) {
        if let Some(turn) = self.turn(assistant) {
            match item.piece {
                Piece::Result { .. } => turn.results.push(item),
                _ => turn.items.push(item),
            }
        }
    }

    /// Names what a message says about itself and Anthropic has no place for.
    fn about(&mut self, i: usize, message: &Message<'_>) {
        if message.name.is_some() {
            self.losses.dropped(format!("messages[{i}].name"));
        }
        for (name, _) in message.extras.iter().filter(|_| !self.own) {
            self.losses.dropped(format!("messages[{i}].{name}"));
        }
    }

    /// Puts what a caller of this dialect says of a message beside the turn that it became part of.
    fn keep(&mut self, i: usize, message: &'r Message<'r>, system: bool) {
        let role = message.role == Role::Assistant;
        let mut turn = self.turns.turns.last_mut().filter(|turn| turn.assistant == role && turn.system == system);
        for (name, json) in message.extras.iter() {
            match &mut turn {
                // Neighbours that became one turn say some things but once.
                Some(turn) if !turn.about.iter().any(|(known, _)| *known == name) => turn.about.push((name, json)),
                _ => self.losses.dropped(format!("messages[{i}].{name}")),
            }
        }
    }

    fn system(&mut self, i: usize, message: &'r Message<'r>) {
        self.about(i, message);
        for (at, block) in message.blocks.iter().enumerate() {
            let path = format!("messages[{i}].content[{at}]");
            match &block.content {
                Content::Text { text, citations } => {
                    if let Some(piece) = self.text(text, citations, &path) {
                        let item = self.item(piece, block, &path, (i, at));
                        self.turns.system.push(item);
                    }
                }
                _ => self.losses.dropped(path),
            }
        }
    }

    /// Instructions where a caller of this dialect put them.
    fn instruct(&mut self, i: usize, message: &'r Message<'r>) -> Result<(), Unsayable> {
        self.about(i, message);
        let mut items = Vec::new();
        for (at, block) in message.blocks.iter().enumerate() {
            let path = format!("messages[{i}].content[{at}]");
            if let Some(piece) = self.piece(&block.content, &path)? {
                items.push(self.item(piece, block, &path, (i, at)));
            }
        }
        if !items.is_empty() {
            self.turns.turns.push(Turn { system: true, ..Turn::made(false, items) });
        }
        self.keep(i, message, true);
        Ok(())
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
                    self.thoughts(thought, block, assistant, &path, place);
                    None
                }
                Content::ToolResult(result) => Some(self.result(result, i, &path)?),
                other => self.piece(other, &path)?,
            };
            if let Some(piece) = piece {
                let item = self.item(piece, block, &path, place);
                self.push(assistant, item);
            }
        }
        if self.own {
            self.keep(i, message, false);
        }
        Ok(())
    }

    /// A block of any kind that may stand in a turn and in a tool's result.
    fn piece(&mut self, content: &'r Content<'r>, path: &str) -> Result<Option<Piece<'r>>, Unsayable> {
        Ok(match content {
            Content::Text { text, citations } => self.text(text, citations, path),
            Content::Refusal(text) => {
                self.losses.altered(path.to_owned());
                self.text(text, &[], path)
            }
            Content::Media(media) => {
                let form = Form::of(media, self.own, path)?;
                if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.losses.dropped(format!("{path}.image_url.detail"));
                }
                if media.name.is_some() && !form.names() {
                    self.losses.dropped(format!("{path}.file.filename"));
                }
                Some(Piece::Media(form))
            }
            Content::Other { json, .. } if self.own => Some(Piece::Raw(json)),
            _ => {
                self.losses.dropped(path.to_owned());
                None
            }
        })
    }

    /// Text, unless it says nothing: Anthropic refuses blocks that are empty or white space.
    fn text(&mut self, text: &'r str, citations: &'r [Raw<'r>], path: &str) -> Option<Piece<'r>> {
        if text.trim().is_empty() {
            if !text.is_empty() {
                self.losses.dropped(path.to_owned());
            }
            return None;
        }
        if !citations.is_empty() && !self.own {
            self.losses.dropped(format!("{path}.annotations"));
        }
        Some(Piece::Text { text: Cow::Borrowed(text), citations: if self.own { citations } else { &[] } })
    }

    fn item(&mut self, piece: Piece<'r>, block: &'r Block<'r>, path: &str, place: (usize, usize)) -> Item<'r> {
        if !self.own {
            // Clients that gather streams send back the number of a call, which its place tells as well.
            let numbered = matches!(piece, Piece::Call { .. });
            for (name, _) in block.extras.iter().filter(|(name, _)| !(numbered && *name == "index")) {
                self.losses.dropped(format!("{path}.{name}"));
            }
        }
        let extras = (self.own && !block.extras.is_empty()).then_some(&block.extras);
        Item { piece, cache: block.cache.as_ref().map(|mark| &mark.0), extras, place }
    }

    /// Thoughts that Anthropic signed or encrypted; a signature without text is what it gives where thoughts are hidden.
    fn thoughts(
        &mut self,
        thought: &'r Reasoning<'r>,
        block: &'r Block<'r>,
        assistant: bool,
        path: &str,
        place: (usize, usize),
    ) {
        let issued = assistant && thought.issuer.as_deref().is_some_and(|issuer| issuer == NAME);
        let signed = thought.signature.as_deref().filter(|_| issued);
        let encrypted = thought.encrypted.as_deref().filter(|_| issued);
        if signed.is_none() && encrypted.is_none() {
            return self.losses.dropped(path.to_owned());
        }
        let extras = (self.own && !block.extras.is_empty()).then_some(&block.extras);
        let bare = |piece| Item { piece, cache: None, extras, place };
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
            Input::Text("input")
        } else if arguments.is_empty() {
            Input::Json("{}")
        } else if Raw::parse(arguments).is_ok_and(|json| json.kind() == Kind::Object) {
            Input::Json(arguments)
        } else {
            self.losses.altered(format!("{path}.function.arguments"));
            Input::Text("arguments")
        };
        if call.signature.is_some() {
            self.losses.dropped(format!("{path}.signature"));
        }
        let id = if call.id.is_empty() {
            let id = format!("call_{i}_{number}");
            self.unanswered.push((&call.name, id.clone()));
            Cow::Owned(id)
        } else {
            self.names.insert(&call.id, &call.name);
            sound(&call.id)
        };
        Piece::Call { id, call, input }
    }

    fn result(&mut self, result: &'r ToolResult<'r>, i: usize, path: &str) -> Result<Piece<'r>, Unsayable> {
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
        let mut items = Vec::new();
        for (k, block) in result.blocks.iter().enumerate() {
            // The content of a Chat message of this role is the result's.
            let path = format!("{path}.content[{k}]");
            if let Some(piece) = self.piece(&block.content, &path)? {
                let item = self.item(piece, block, &path, (i, k));
                items.push(item);
            }
        }
        if let (Some(json), true) = (&result.structured, result.blocks.is_empty()) {
            items.push(Item::made(Cow::Borrowed(json.get())));
        }
        Ok(Piece::Result { id, items, is_error: result.is_error })
    }

    /// Brings both ends into the form that Anthropic takes.
    fn ends(&mut self, model: Model) {
        let turns = &mut self.turns.turns;
        if turns.first().is_none_or(|turn| turn.assistant) {
            self.losses.emulated("messages");
            let items = vec![Item::made(Cow::Borrowed(SAID))];
            turns.insert(0, Turn::made(false, items));
        }
        let Some(last) = turns.last_mut().filter(|turn| turn.assistant) else { return };
        let Some(item) = last.items.last_mut() else { return };
        let (i, at) = item.place;
        if !model.takes_prefill() {
            self.losses.altered(format!("messages[{i}]"));
            let items = vec![Item::made(Cow::Borrowed(GO_ON))];
            turns.push(Turn::made(false, items));
            return;
        }
        // An answer begun for the model must not end in white space.
        if let Piece::Text { text, .. } = &mut item.piece {
            let kept = text.trim_end().len();
            if kept < text.len() {
                *text = Cow::Owned(text.trim_end().to_owned());
                self.losses.altered(format!("messages[{i}].content[{at}]"));
            }
        }
    }
}

/// An id in the letters that Anthropic takes (`^[a-zA-Z0-9_-]+$`). The same id always becomes the same, and two that differ
/// stay different: what was replaced is told apart by a hash (FNV-1a) of the whole.
fn sound(id: &str) -> Cow<'_, str> {
    let taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.chars().all(taken) {
        return Cow::Borrowed(id);
    }
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let kept: String = id.chars().map(|c| if taken(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{kept}_{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_apart() {
        assert_eq!(sound("toolu_01-aZ"), "toolu_01-aZ");
        let (one, two) = (sound("call:1"), sound("call.1"));
        assert!(one.starts_with("call_1_") && two.starts_with("call_1_"));
        assert_ne!(one, two);
        assert_eq!(one, sound("call:1"));
        assert!(sound("é\u{0}").chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    }
}
