//! Requests, read: a caller's body into the IR. As strict as OpenAI on what we interpret, lenient on the rest.

use std::collections::{HashMap, HashSet};

use crate::dialect::CONTROLS;
use crate::dialect::openai_chat::wire::{adopt, at, invalid};
use crate::ir::{Block, Content, Effort, Format, Message, ReasoningWish, Request, Role, Sampling, Tool, ToolChoice};
use crate::wire::json::{self, Extras, Invalid, Kind, Number, Raw, Text, TextOr};
use crate::wire::writer;

use super::items::{self, Item};
use super::wire::{Choice, ORIGIN, ReasoningOptions, RequestBody, TextFormat, TextOptions, ToolDef};

/// Asked for in `include`: it is always given.
pub const ENCRYPTED: &str = "reasoning.encrypted_content";
/// Asked for in `include`: log probabilities.
pub const LOGPROBS: &str = "message.output_text.logprobs";

/// Reads a caller's request.
///
/// # Errors
/// A member that we interpret is missing or of the wrong type, or asks for what cannot be had.
pub fn decode<'a>(body: &'a [u8]) -> Result<Request<'a>, Invalid> {
    let body: RequestBody<'a> = json::read(body)?;
    if body.background == Some(true) {
        return Err(invalid("background", "background responses are not supported: leave it out, or ask for a stream"));
    }
    let mut extras = Extras::default();
    adopt(&mut extras, "", body.extras);
    extras.0.retain(|(name, _)| !CONTROLS.contains(&name.as_str()));

    // A prompt kept at the provider brings model and input along.
    let prompt = body.prompt.filter(|raw| !raw.is_null());
    let demanded = |member: &str| if prompt.is_some() { Ok(()) } else { Err(invalid(member, REQUIRED)) };
    let model = match body.model {
        Some(model) => model,
        None => demanded("model").map(|()| Text::default())?,
    };
    let input = match body.input {
        Some(input) => input,
        None => demanded("input").map(|()| TextOr::Full(Vec::new()))?,
    };
    let messages = conversation(body.instructions, input)?;
    if messages.is_empty() && prompt.is_none() {
        return Err(invalid("input", "expected at least one item"));
    }
    if let Some(prompt) = prompt {
        extras.push("prompt", prompt);
    }

    let mut tools = Vec::new();
    for (i, raw) in body.tools.unwrap_or_default().into_iter().enumerate() {
        tools.push(tool(raw).map_err(|e| at(&format!("tools[{i}]"), e))?);
    }
    let logprobs = include(body.include.unwrap_or_default(), &mut extras);
    let mut top_logprobs = count(body.top_logprobs, "top_logprobs", 0)?;
    if let (false, Some(most)) = (logprobs, top_logprobs.take_if(|_| !logprobs))
        && most > 0
    {
        // Nothing is shown without `include`, so nothing is asked for.
        extras.push("top_logprobs", Raw::trusted(most.to_string()));
    }
    if let Some(options) = body.stream_options {
        if options.obfuscation == Some(true) {
            extras.push("stream_options.include_obfuscation", Raw::literal("true"));
        }
        adopt(&mut extras, "stream_options", options.extras);
    }
    // The newer of two names for one thing; who sends both means two.
    let (user, both) = match (body.user, body.safety) {
        (None, safety) => (safety, None),
        (user, safety) => (user, safety),
    };
    if let Some(safety) = both {
        let mut quoted = Vec::new();
        writer::string(&mut quoted, &safety);
        extras.push("safety_identifier", Raw::trusted(String::from_utf8(quoted).unwrap_or_default()));
    }
    Ok(Request {
        origin: ORIGIN,
        model,
        messages,
        tools,
        tool_choice: body
            .tool_choice
            .filter(|raw| !raw.is_null())
            .map(|raw| tool_choice(raw, &mut extras))
            .transpose()?,
        parallel_tool_calls: body.parallel,
        format: body.text.map_or(Ok(Format::Free), |text| format(text, &mut extras))?,
        reasoning: body.reasoning.map(|options| wish(options, &mut extras)).transpose()?.flatten(),
        sampling: Sampling {
            temperature: body.temperature,
            top_p: body.top_p,
            logprobs: logprobs.then_some(true),
            top_logprobs,
            ..Sampling::default()
        },
        max_tokens: count(body.max_output, "max_output_tokens", 1)?,
        stop: Vec::new(),
        stream: body.stream == Some(true),
        include_usage: true,
        user,
        metadata: body.metadata.filter(|raw| !raw.is_null()).map(|raw| object(raw, "metadata")).transpose()?,
        service_tier: body.service_tier,
        cache_key: body.cache_key,
        extras,
    })
}

/// Looks for a result whose call is not in the conversation, as OpenAI does; a provider of another dialect would be told
/// of a call that it cannot find. What stands in a prompt that the provider keeps, or went into a compaction, is not seen.
///
/// # Errors
/// There is one. Where earlier turns stand before what was sent, an item's place says nothing to the caller: its call's id
/// does.
pub fn judge(request: &Request<'_>) -> Result<(), Invalid> {
    let mut calls: HashSet<&str> = HashSet::new();
    for block in request.messages.iter().flat_map(|message| &message.blocks) {
        match &block.content {
            Content::ToolCall(call) => {
                calls.insert(&call.id);
            }
            Content::ToolResult(result) if !calls.contains(result.id.as_str()) => {
                if request.extras.get("prompt").is_some() {
                    return Ok(());
                }
                let id = json::clip(&result.id, 80);
                return Err(invalid("input", format!("no tool call before its output has the `call_id` `{id}`")));
            }
            Content::Other { kind, .. } if kind.contains("compaction") => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

const REQUIRED: &str = "a value is required";

fn count(n: Option<Number<'_>>, path: &str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(n) = n else { return Ok(None) };
    match n.as_u64() {
        Some(n) if n >= least => Ok(Some(n)),
        _ => Err(invalid(
            path,
            format!("expected a whole number of at least {least}, got `{}`", json::clip(n.get(), 40)),
        )),
    }
}

fn object<'a>(raw: Raw<'a>, path: &str) -> Result<Raw<'a>, Invalid> {
    if raw.kind() == Kind::Object { Ok(raw) } else { Err(invalid(path, "expected an object")) }
}

fn conversation<'a>(
    instructions: Option<Text<'a>>,
    input: TextOr<'a, Vec<Raw<'a>>>,
) -> Result<Vec<Message<'a>>, Invalid> {
    let mut turns = Turns::default();
    if let Some(text) = instructions {
        turns.push(Role::System, Block::text(text));
    }
    match input {
        TextOr::Text(text) => turns.push(Role::User, Block::text(text)),
        TextOr::Full(items) => {
            for (i, raw) in items.into_iter().enumerate() {
                turns.add(i, items::read(raw).map_err(|e| at(&format!("input[{i}]"), e))?);
            }
        }
    }
    Ok(turns.finish())
}

/// Puts items together to messages.
#[derive(Default)]
struct Turns<'a> {
    messages: Vec<Message<'a>>,
    /// The last message is the model's, and goes on.
    open: bool,
    /// Signatures by the calls they are on.
    proofs: HashMap<Text<'a>, Text<'a>>,
}

impl<'a> Turns<'a> {
    fn push(&mut self, role: Role, block: Block<'a>) {
        self.open = false;
        self.messages.push(Message { role, blocks: vec![block], ..Message::default() });
    }

    /// Adds item `i` of the input.
    fn add(&mut self, i: usize, mut item: Item<'a>) {
        let stands = |block: &mut Block<'a>| block.whence = block.whence.of_item(i);
        match &mut item {
            Item::Message(Message { blocks, .. }) | Item::Model(blocks) => blocks.iter_mut().for_each(stands),
            Item::Result(block) | Item::Client(block) => stands(block),
            Item::Proof { .. } => {}
        }
        match item {
            Item::Message(message) => {
                self.open = false;
                self.messages.push(message);
            }
            Item::Model(blocks) => self.model(blocks),
            Item::Result(block) => self.push(Role::Tool, block),
            Item::Client(block) => self.push(Role::User, block),
            Item::Proof { call, signature } => {
                self.proofs.insert(call, signature);
            }
        }
    }

    /// What the model did in one go is one message: thoughts, then words, then calls, as other dialects have it. After
    /// words without a call, more thoughts or words are another.
    fn model(&mut self, mut blocks: Vec<Block<'a>>) {
        for block in &mut blocks {
            // How likely an earlier answer was is nothing to answer to.
            block.extras.take(items::LOGPROBS);
        }
        let Some(first) = blocks.first() else { return };
        let calls = |block: &Block<'_>| matches!(block.content, Content::ToolCall(_));
        let says = |block: &Block<'_>| matches!(block.content, Content::Text { .. } | Content::Refusal(_));
        let begins = says(first) || matches!(first.content, Content::Reasoning(_));
        match self.messages.last_mut() {
            Some(last) if self.open && !(begins && last.blocks.iter().any(says) && !last.blocks.iter().any(calls)) => {
                last.blocks.append(&mut blocks);
            }
            _ => {
                self.open = true;
                self.messages.push(Message { role: Role::Assistant, blocks, ..Message::default() });
            }
        }
    }

    /// A signature for a call that is not there any more proves nothing, and goes.
    fn finish(mut self) -> Vec<Message<'a>> {
        if !self.proofs.is_empty() {
            for block in self.messages.iter_mut().flat_map(|message| &mut message.blocks) {
                if let Content::ToolCall(call) = &mut block.content {
                    call.signature = self.proofs.remove(&call.id);
                }
            }
        }
        self.messages
    }
}

fn tool<'a>(raw: Raw<'a>) -> Result<Tool<'a>, Invalid> {
    let named: super::wire::Kind<'a> = raw.open()?;
    let kind: Text<'a> = named.kind.ok_or_else(|| invalid("type", REQUIRED))?.open().map_err(|e| at("type", e))?;
    if kind != "function" {
        return Ok(Tool::Other { kind, json: raw });
    }
    let shape: ToolDef<'a> = raw.open()?;
    let mut extras = Extras::default();
    adopt(&mut extras, "", shape.extras);
    Ok(Tool::Function {
        name: shape.name.ok_or_else(|| invalid("name", REQUIRED))?,
        description: shape.description,
        parameters: shape.parameters.filter(|raw| !raw.is_null()).map(|raw| object(raw, "parameters")).transpose()?,
        strict: shape.strict,
        cache: None,
        extras,
    })
}

fn tool_choice<'a>(raw: Raw<'a>, extras: &mut Extras<'a>) -> Result<ToolChoice<'a>, Invalid> {
    let path = "tool_choice";
    if raw.kind() == Kind::String {
        let word: Text<'a> = raw.open().map_err(|e| at(path, e))?;
        return match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(invalid(path, "expected `auto`, `none`, `required` or an object")),
        };
    }
    let shape: Choice<'a> = raw.open().map_err(|e| at(path, e))?;
    match shape.kind.as_deref() {
        Some("function") => {
            let name = shape.name.ok_or_else(|| invalid(format!("{path}.name"), REQUIRED))?;
            adopt(extras, path, shape.extras);
            Ok(ToolChoice::Function(name))
        }
        Some("allowed_tools") => {
            let required = shape.mode.as_ref().is_some_and(|mode| mode == "required");
            let name = |tool: Raw<'a>| {
                let shape: Choice<'a> = tool.open().ok()?;
                shape.name.filter(|_| shape.kind.is_some_and(|kind| kind == "function"))
            };
            let names: Option<Vec<_>> = shape.tools.unwrap_or_default().into_iter().map(name).collect();
            let Some(names) = names else { return Ok(ToolChoice::Other(raw)) };
            adopt(extras, path, shape.extras);
            Ok(ToolChoice::Allowed { required, names })
        }
        Some(_) => Ok(ToolChoice::Other(raw)),
        None => Err(invalid(format!("{path}.type"), REQUIRED)),
    }
}

fn format<'a>(text: TextOptions<'a>, extras: &mut Extras<'a>) -> Result<Format<'a>, Invalid> {
    let path = "text.format";
    adopt(extras, "text", text.extras);
    let Some(raw) = text.format.filter(|raw| !raw.is_null()) else { return Ok(Format::Free) };
    let shape: TextFormat<'a> = raw.open().map_err(|e| at(path, e))?;
    let kind = shape.kind.ok_or_else(|| invalid("text.format.type", REQUIRED))?;
    let format = match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => Format::JsonSchema {
            name: Some(shape.name.ok_or_else(|| invalid("text.format.name", REQUIRED))?),
            description: shape.description,
            schema: object(shape.schema.ok_or_else(|| invalid("text.format.schema", REQUIRED))?, "text.format.schema")?,
            strict: shape.strict,
        },
        _ => {
            extras.push(path, raw);
            return Ok(Format::Free);
        }
    };
    adopt(extras, path, shape.extras);
    Ok(format)
}

fn wish<'a>(options: ReasoningOptions<'a>, extras: &mut Extras<'a>) -> Result<Option<ReasoningWish<'a>>, Invalid> {
    let mut wish = ReasoningWish { summary: options.summary.or(options.generate_summary), ..ReasoningWish::default() };
    if let Some(raw) = options.effort.filter(|raw| !raw.is_null()) {
        let word: Text<'a> = raw.open().map_err(|e| at("reasoning.effort", e))?;
        wish.effort = Effort::parse(&word);
        if wish.effort.is_none() {
            // A word of tomorrow rides along.
            extras.push("reasoning.effort", raw);
        }
    }
    adopt(extras, "reasoning", options.extras);
    Ok((wish != ReasoningWish::default()).then_some(wish))
}

/// Takes out of `include` what we give ourselves; returns whether log probabilities are asked for.
fn include<'a>(mut names: Vec<Text<'a>>, extras: &mut Extras<'a>) -> bool {
    let before = names.len();
    names.retain(|name| name != LOGPROBS);
    let logprobs = names.len() < before;
    names.retain(|name| name != ENCRYPTED);
    if !names.is_empty() {
        let mut out = Vec::new();
        writer::array(&mut out, |a| names.iter().for_each(|name| a.string(name)));
        extras.push("include", Raw::trusted(String::from_utf8(out).unwrap_or_default()));
    }
    logprobs
}
