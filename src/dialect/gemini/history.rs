//! A caller's conversation: contents to messages.
//!
//! What a caller sends back is what its SDK kept of our answers. After a stream that is one content for each chunk
//! (google-genai's chats, Python and JavaScript, seen 2026-11-21), so neighbouring contents of the model are one
//! message, and a text that one leaves off goes on in the next. Calls often have no id; they are given one by
//! their place, which is the same in every later request, and results find their call by id, or by name and order.

use super::NAME;
use super::asked::{Answered, Turn};
use super::response;
use super::signature::{self, Proof, Signature};
use super::wire::Part;
use crate::ir::{Block, Content, Message, Reasoning, Role, ToolResult, Whence};
use crate::wire::json::{Extras, Invalid, Kind, Raw, Text, clip};

/// The kinds of part that are more than a remark about another; a part has one of them (protobuf: `oneof data`). Those
/// of the shape are left out.
const KINDS: [(&str, &str); 5] = [
    ("functionResponse", "function_response"),
    ("executableCode", "executable_code"),
    ("codeExecutionResult", "code_execution_result"),
    ("toolCall", "tool_call"),
    ("toolResponse", "tool_response"),
];

/// Begins the ids that are made here; with six digits they have the nine letters and digits that Mistral demands.
const MADE: &str = "gem";

/// Whether a call's id was made here: Gemini is not told of those.
pub(super) fn is_made(id: &str) -> bool {
    id.strip_prefix(MADE).is_some_and(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the contents. `open`: a part of the conversation lies elsewhere (cached content), so that a result may answer a
/// call that is not here.
///
/// # Errors
/// What Google refuses too, in its words where it has some; the path is seen from the body.
pub(super) fn decode<'a>(contents: Vec<Turn<'a>>, open: bool) -> Result<Vec<Message<'a>>, Invalid> {
    if contents.is_empty() {
        return Err(invalid("contents", "contents is not specified"));
    }
    let mut history = History { messages: Vec::with_capacity(contents.len()), calls: Vec::new(), turn: 0, open };
    for (i, turn) in contents.into_iter().enumerate() {
        history.turn(i, turn).map_err(|e| at(&format!("contents[{i}]"), e))?;
    }
    Ok(history.messages)
}

/// Reads the system instruction.
///
/// # Errors
/// A part says nothing.
pub(super) fn instruction<'a>(turn: Turn<'a>) -> Result<Option<Message<'a>>, Invalid> {
    let mut message = Message { role: Role::System, ..Message::default() };
    adopt(&mut message.extras, "", turn.extras);
    for (j, part) in turn.parts.unwrap_or_default().0.into_iter().enumerate() {
        check(&part).map_err(|e| at(&format!("parts[{j}]"), e))?;
        plain(part, &mut |mut block| {
            block.whence = block.whence.of_part(j);
            message.blocks.push(block);
        });
    }
    Ok((!message.blocks.is_empty()).then_some(message))
}

pub(super) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Invalid {
    Invalid { path: path.into(), message: message.into() }
}

/// The path of a mistake, seen from further out.
pub(super) fn at(path: &str, mut invalid: Invalid) -> Invalid {
    invalid.path = match invalid.path.as_str() {
        "" | "." => path.to_owned(),
        inner if inner.starts_with('[') => format!("{path}{inner}"),
        inner => format!("{path}.{inner}"),
    };
    invalid
}

/// Adds unknown members of an inner object to the extras of an outer one, as `prefix.name`; `null` is nothing.
pub(super) fn adopt<'a>(into: &mut Extras<'a>, prefix: &str, inner: Extras<'a>) {
    for (name, json) in inner.0 {
        if !json.is_null() {
            let name = if prefix.is_empty() { name } else { Text::from(format!("{prefix}.{name}")) };
            into.0.push((name, json));
        }
    }
}

struct History<'a> {
    messages: Vec<Message<'a>>,
    calls: Vec<Called<'a>>,
    /// Number of the turn being read; one of the model may be many contents.
    turn: usize,
    open: bool,
}

/// A call that was made in the conversation.
struct Called<'a> {
    id: Text<'a>,
    name: Text<'a>,
    /// The id was made here.
    made: bool,
    turn: usize,
    answered: bool,
}

impl<'a> History<'a> {
    /// Adds content `i`.
    fn turn(&mut self, i: usize, turn: Turn<'a>) -> Result<(), Invalid> {
        let Turn { role, parts, extras } = turn;
        let model = match role.as_deref() {
            // `tool` stands in Google's own examples for results.
            None | Some("" | "user" | "function" | "tool") => false,
            Some("model") => true,
            Some(other) => {
                let message = format!("`{}` is no role. Please use a valid role: user, model.", clip(other, 40));
                return Err(invalid("role", message));
            }
        };
        let parts = parts.unwrap_or_default().0;
        if parts.is_empty() {
            return Err(invalid("parts", "contents.parts must not be empty."));
        }
        let goes_on = model && self.messages.last().is_some_and(|last| last.role == Role::Assistant);
        let mut message = match self.messages.pop_if(|_| goes_on) {
            Some(mut last) => {
                last.blocks.retain(|block| *block != Block::text(""));
                last
            }
            None => {
                self.turn = self.turn.saturating_add(1);
                Message { role: if model { Role::Assistant } else { Role::User }, ..Message::default() }
            }
        };
        adopt(&mut message.extras, "", extras);
        let mut results = Vec::new();
        let silent = parts.iter().all(|part| part.text.as_deref() == Some(""));
        for (j, part) in parts.into_iter().enumerate() {
            let joins = goes_on && j == 0;
            self.part(part, model, joins, &mut message.blocks, &mut results)
                .map_err(|e| at(&format!("parts[{j}]"), e))?;
            let whence = Whence::default().of_item(i).of_part(j);
            for blocks in [&mut message.blocks, &mut results] {
                let new = blocks.iter_mut().rev().take_while(|block| block.whence.item().is_none());
                new.for_each(|block| block.whence = whence);
            }
        }
        if silent && message.blocks.is_empty() {
            // It shall be seen that there is a turn.
            message.blocks.push(Block { whence: Whence::default().of_item(i), ..Block::text("") });
        }
        // Results stand right behind the calls that they answer, whatever else the caller had to say.
        if !results.is_empty() {
            let extras =
                if message.blocks.is_empty() { std::mem::take(&mut message.extras) } else { Extras::default() };
            self.messages.push(Message { role: Role::Tool, blocks: results, name: None, extras });
        }
        if !message.blocks.is_empty() {
            self.messages.push(message);
        }
        Ok(())
    }

    fn part(
        &mut self,
        mut part: Part<'a>,
        model: bool,
        joins: bool,
        blocks: &mut Vec<Block<'a>>,
        results: &mut Vec<Block<'a>>,
    ) -> Result<(), Invalid> {
        check(&part)?;
        part.extras.0.retain(|(_, json)| !json.is_null());
        for name in ["functionResponse", "function_response"] {
            if let Some(raw) = part.extras.take(name) {
                results.push(self.result(raw, part.extras).map_err(|e| at(name, e))?);
                return Ok(());
            }
        }
        if let Some(call) = &part.call {
            if !model {
                return Err(invalid("functionCall", "a call belongs into a content of the role `model`"));
            }
            let name = call.name.clone().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| invalid("functionCall.name", REQUIRED))?;
            if call.args.as_ref().is_some_and(|args| args.kind() != Kind::Object) {
                return Err(invalid("functionCall.args", "expected an object"));
            }
            if call.partial.is_some() {
                return Err(invalid("functionCall.partialArgs", "arguments in pieces belong into a stream"));
            }
            let given = call.id.clone().filter(|id| !id.is_empty());
            self.signed(&mut part, blocks);
            let id = given.clone().unwrap_or_else(|| self.made_id());
            let turn = self.turn;
            self.calls.push(Called {
                id: id.clone(),
                name: name.clone(),
                made: given.is_none(),
                turn,
                answered: false,
            });
            plain(part, &mut |mut block| {
                if let Content::ToolCall(call) = &mut block.content {
                    (call.id, call.name) = (id.clone(), name.clone());
                }
                blocks.push(block);
            });
            return Ok(());
        }
        if part.thought == Some(true) && part.text.is_some() {
            thought(part, blocks);
            return Ok(());
        }
        let signed = part.signature.is_some();
        self.signed(&mut part, blocks);
        plain(part, &mut |block| {
            if !(joins && !signed && continues(blocks, &block)) {
                blocks.push(block);
            }
        });
        Ok(())
    }

    /// Puts the proofs that a part carries for others before it, as thoughts without text. Google's own stays.
    fn signed(&self, part: &mut Part<'a>, blocks: &mut Vec<Block<'a>>) {
        match part.signature.take().map(signature::open) {
            Some(Signature::Own(own)) => part.signature = Some(own),
            Some(Signature::Carried(proofs)) => {
                blocks.extend(proofs.into_iter().map(|proof| Block::new(Content::Reasoning(proof.thought))));
            }
            None => {}
        }
    }

    fn made_id(&self) -> Text<'a> {
        Text::from(format!("{MADE}{:06}", self.calls.len()))
    }

    fn result(&mut self, raw: Raw<'a>, beside: Extras<'a>) -> Result<Block<'a>, Invalid> {
        let Answered { id, name, response, parts, extras } = raw.open()?;
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| invalid("name", REQUIRED))?;
        if response.as_ref().is_some_and(|response| response.kind() != Kind::Object) {
            return Err(invalid("response", "expected an object"));
        }
        let id = self.answer(id.filter(|id| !id.is_empty()), &name)?;
        let mut block_extras = Extras::default();
        adopt(&mut block_extras, "", beside);
        adopt(&mut block_extras, "functionResponse", extras);
        let mut blocks = Vec::new();
        for (k, part) in parts.unwrap_or_default().0.into_iter().enumerate() {
            check(&part).map_err(|e| at(&format!("parts[{k}]"), e))?;
            plain(part, &mut |mut block| {
                block.whence = block.whence.of_part(k);
                blocks.push(block);
            });
        }
        let structured = Some(response.unwrap_or(Raw::literal("{}")));
        if let Some(json) = structured.as_ref().filter(|json| !blocks.is_empty() && json.get() != "{}") {
            // Where there are parts, others read those alone: what stands beside them is said among them.
            blocks.insert(0, Block::text(json.get().to_owned()));
        }
        let content = Content::ToolResult(ToolResult { id, name: Some(name), blocks, structured, is_error: None });
        Ok(Block::with(content, None, block_extras))
    }

    /// Finds the call that a result answers, and tells its id.
    fn answer(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Result<Text<'a>, Invalid> {
        let same_id = |call: &&mut Called<'a>| id.as_ref().is_some_and(|id| call.id == *id);
        if let Some(call) = self.calls.iter_mut().rev().filter(same_id).min_by_key(|call| call.answered) {
            if std::mem::replace(&mut call.answered, true) {
                let message = format!("the call `{}` has its answer already", clip(&call.id, 80));
                return Err(invalid("id", message));
            }
            return Ok(call.id.clone());
        }
        // Of the latest turn that has such a call, the first one; before those, one that nobody could name.
        let nameless = |call: &&mut Called<'a>| !call.answered && call.name == *name && (id.is_none() || call.made);
        let found =
            self.calls.iter_mut().filter(nameless).min_by_key(|call| (std::cmp::Reverse(call.turn), !call.made));
        if let Some(call) = found {
            call.answered = true;
            return Ok(call.id.clone());
        }
        if self.open {
            return Ok(id.unwrap_or_else(|| self.made_id()));
        }
        let message = match id {
            Some(id) => format!("no call of `{}` with the id `{}` comes before it", clip(name, 80), clip(&id, 80)),
            None => format!("no call of `{}` without an answer comes before it", clip(name, 80)),
        };
        Err(invalid("", message))
    }
}

const REQUIRED: &str = "a value is required";

/// Whether a part says exactly one thing.
fn check(part: &Part<'_>) -> Result<(), Invalid> {
    let known = [part.text.is_some(), part.inline.is_some(), part.file.is_some(), part.call.is_some()];
    let others =
        part.extras.iter().filter(|(name, json)| !json.is_null() && KINDS.iter().any(|(a, b)| name == a || name == b));
    let kinds = known.iter().filter(|is| **is).count().saturating_add(others.count());
    if kinds > 1 {
        return Err(invalid("data", "oneof field 'data' is already set: a part has one kind of data"));
    }
    if kinds == 0 && part.signature.is_none() && part.extras.iter().all(|(_, json)| json.is_null()) {
        return Err(invalid("data", "required oneof field 'data' must have one initialized field"));
    }
    if part.inline.as_ref().is_some_and(|blob| blob.data.is_none()) {
        return Err(invalid("inlineData.data", REQUIRED));
    }
    if part.file.as_ref().is_some_and(|file| file.uri.is_none()) {
        return Err(invalid("fileData.fileUri", REQUIRED));
    }
    Ok(())
}

/// A part that is no thought, as blocks; unknown members of its inner object go beside it, under their path.
fn plain<'a>(mut part: Part<'a>, each: &mut impl FnMut(Block<'a>)) {
    let mut inner = Extras::default();
    if let Some(blob) = &mut part.inline {
        adopt(&mut inner, "inlineData", std::mem::take(&mut blob.extras));
    }
    if let Some(file) = &mut part.file {
        adopt(&mut inner, "fileData", std::mem::take(&mut file.extras));
    }
    if let Some(call) = &mut part.call {
        adopt(&mut inner, "functionCall", std::mem::take(&mut call.extras));
    }
    part.extras.0.retain(|(_, json)| !json.is_null());
    part.extras.0.extend(inner.0);
    response::blocks(part, each);
}

/// A thought. Who thought it is known only where a proof says so: callers keep the thoughts of every provider alike.
fn thought<'a>(part: Part<'a>, blocks: &mut Vec<Block<'a>>) {
    let Part { text, signature, extras, .. } = part;
    let mut text = text.unwrap_or_default();
    let mut thought = Reasoning::default();
    match signature.map(signature::open) {
        Some(Signature::Own(own)) => {
            thought = Reasoning { signature: Some(own), issuer: Some(NAME.into()), ..Reasoning::default() };
        }
        Some(Signature::Carried(proofs)) => {
            let (mut over, others): (Vec<Proof>, Vec<Proof>) =
                proofs.into_iter().partition(|proof| proof.over.is_some());
            if let Some(Proof { thought: proven, over: Some(length) }) = over.pop() {
                match gather(blocks, &text, length) {
                    Some(whole) => {
                        text = whole.map_or(text, Text::from);
                        thought = proven;
                    }
                    // A signature over another text would be refused by its issuer; what is encrypted stands alone.
                    None if proven.signature.is_none() => thought = proven,
                    None => {}
                }
            }
            blocks.extend(others.into_iter().map(|proof| Block::new(Content::Reasoning(proof.thought))));
        }
        None if text.is_empty() && extras.is_empty() => return,
        None => {}
    }
    let own = thought.issuer.as_deref() == Some(NAME);
    thought.text = (own || !text.is_empty()).then_some(text);
    blocks.push(Block::with(Content::Reasoning(thought), None, extras));
}

/// Adds a text to the one before it, where there is nothing else between or beside them.
fn continues(blocks: &mut [Block<'_>], block: &Block<'_>) -> bool {
    let Content::Text { text: more, .. } = &block.content else { return false };
    match blocks.last_mut() {
        Some(Block { content: Content::Text { text, .. }, extras, .. })
            if extras.is_empty() && block.extras.is_empty() =>
        {
            text.0.to_mut().push_str(more);
            true
        }
        _ => false,
    }
}

/// Takes out the pieces before the `last` one of a text of so many bytes, and puts them together: `None` where they do
/// not make that length, and no text where the last piece is all of it.
fn gather(blocks: &mut Vec<Block<'_>>, last: &str, length: u64) -> Option<Option<String>> {
    let mut missing = usize::try_from(length).ok()?.checked_sub(last.len())?;
    let mut first = blocks.len();
    while missing > 0 {
        first = first.checked_sub(1)?;
        missing = missing.checked_sub(blocks.get(first).and_then(unsigned)?.len())?;
    }
    if first == blocks.len() {
        return Some(None);
    }
    let mut whole: String = blocks.drain(first..).filter_map(|block| unsigned(&block).map(str::to_owned)).collect();
    whole.push_str(last);
    Some(Some(whole))
}

/// The text of a thought that nothing proves yet.
fn unsigned<'b>(block: &'b Block<'_>) -> Option<&'b str> {
    match &block.content {
        Content::Reasoning(Reasoning { text: Some(text), signature: None, encrypted: None, id: None, .. })
            if block.extras.is_empty() =>
        {
            Some(text)
        }
        _ => None,
    }
}
