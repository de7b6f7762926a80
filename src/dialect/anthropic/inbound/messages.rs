//! Messages of a request: turns of blocks to the messages of the IR.
//!
//! Anthropic puts the results of tools into the user's turn; in the IR they are messages of their own, so a turn is cut
//! where results end and words begin. A result must answer a call that was made before it, and is refused by name
//! otherwise: Anthropic refuses it too, and another provider would be asked about a call that it cannot find.

use std::collections::HashSet;

use super::blocks;
use super::{at, invalid, required};
use crate::ir::{Block, Content, Message, Role, Whence};
use crate::shape;
use crate::wire::json::{self, Invalid, Raw, Text, TextOr};

shape! {
    pub(super) struct Turn { role "role": Text<'a>, content "content": TextOr<'a, Vec<Raw<'a>>> }
}

/// Reads the turns, appending to `all`.
///
/// # Errors
/// A message is not one that Anthropic takes; the path is seen from the body.
pub(super) fn decode<'a>(turns: Vec<Turn<'a>>, all: &mut Vec<Message<'a>>) -> Result<(), Invalid> {
    let mut called = HashSet::new();
    for (i, turn) in turns.into_iter().enumerate() {
        one(i, turn, &mut called, all).map_err(|e| at(&format!("messages[{i}]"), e))?;
    }
    Ok(())
}

/// Reads the system prompt.
///
/// # Errors
/// It has something else than text.
pub(super) fn system<'a>(system: TextOr<'a, Vec<Raw<'a>>>) -> Result<Vec<Block<'a>>, Invalid> {
    match system {
        TextOr::Text(text) if text.is_empty() => Ok(Vec::new()),
        TextOr::Text(text) => Ok(vec![Block::text(text)]),
        TextOr::Full(raws) => raws
            .into_iter()
            .enumerate()
            .map(|(i, raw)| {
                let mut block =
                    blocks::decode(raw, blocks::Place::System).map_err(|e| at(&format!("system[{i}]"), e))?;
                block.whence = block.whence.of_part(i);
                match block.content {
                    Content::Text { .. } => Ok(block),
                    _ => Err(invalid(format!("system[{i}].type"), "expected `text`")),
                }
            })
            .collect(),
    }
}

fn one<'a>(
    i: usize,
    turn: Turn<'a>,
    called: &mut HashSet<Text<'a>>,
    all: &mut Vec<Message<'a>>,
) -> Result<(), Invalid> {
    let whence = Whence::default().of_item(i);
    let role = turn.role.ok_or_else(|| required("role"))?;
    let (role, place) = match role.as_str() {
        "user" => (Role::User, blocks::Place::User),
        "assistant" => (Role::Assistant, blocks::Place::Assistant),
        // Instructions in the middle of a conversation, which newer models take.
        "system" => (Role::System, blocks::Place::System),
        other => {
            let other = json::clip(other, 40);
            return Err(invalid("role", format!("unknown role `{other}`, expected one of user, assistant, system")));
        }
    };
    let raws = match turn.content.ok_or_else(|| required("content"))? {
        TextOr::Text(text) if text.is_empty() => Vec::new(),
        TextOr::Text(text) => {
            let blocks = vec![Block { whence, ..Block::text(text) }];
            all.push(Message { role, blocks, extras: turn.extras, ..Message::default() });
            return Ok(());
        }
        TextOr::Full(raws) => raws,
    };
    // An answer may be empty, and clients send back what they got.
    if raws.is_empty() && role != Role::Assistant {
        return Err(invalid("content", "expected some content"));
    }
    let mut read = blocks::Read::default();
    for (j, raw) in raws.into_iter().enumerate() {
        let path = || format!("content[{j}]");
        let block = read.block(raw, place).map_err(|e| at(&path(), e))?;
        let Some(mut block) = block else { continue };
        block.whence = whence.of_part(j);
        match &block.content {
            Content::ToolCall(call) => {
                called.insert(call.id.clone());
            }
            Content::ToolResult(result) if !called.contains(&result.id) => {
                let id = json::clip(&result.id, 80);
                let message = format!("no `tool_use` block before this message has the id `{id}`");
                return Err(invalid(format!("{}.tool_use_id", path()), message));
            }
            _ => {}
        }
        read.keep(block);
    }
    let blocks = read.end();
    if role != Role::User {
        all.push(Message { role, blocks, extras: turn.extras, ..Message::default() });
        return Ok(());
    }
    let mut extras = Some(turn.extras);
    let mut last: Option<Message<'a>> = None;
    for block in blocks {
        let role = if matches!(block.content, Content::ToolResult(_)) { Role::Tool } else { Role::User };
        match &mut last {
            Some(message) if message.role == role => message.blocks.push(block),
            _ => {
                let extras = extras.take().unwrap_or_default();
                all.extend(last.replace(Message { role, blocks: vec![block], extras, ..Message::default() }));
            }
        }
    }
    all.extend(last);
    Ok(())
}
