//! A part of a request by the name that its caller gave it.
//!
//! Encoders name what they lose by where it stands in the IR, in one vocabulary for all: message and block by index
//! (`messages[2].content[0]`, `messages[1].tool_calls[0]`), everything else by the name that Chat Completions has for it.
//! A caller must be told in his own words and with his own indices, and only if something was lost: that is looked up
//! here, after the fact, from a table of the caller's dialect ([`Words`]), from where each block came
//! ([`Whence`](crate::ir::Whence)), and from the body itself, so that what is named is there.

use std::collections::HashMap;

use crate::ir::{Block, Content, Message, Request, Role};
use crate::wire::json::Kind;
use crate::wire::scan;

/// What one name is in a dialect: the places where it may stand, the likeliest first.
pub type Names = &'static [(&'static str, &'static [&'static str])];

/// The words that a dialect's callers have for the parts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The list of the conversation, or the prompt.
    pub turns: &'static str,
    /// The list of parts within an item of it.
    pub parts: &'static str,
    /// Where instructions stand that are no item of the conversation, and their parts.
    pub system: &'static str,
    pub system_parts: &'static str,
    /// The list of parts within the result of a tool.
    pub results: &'static str,
    /// Calls, thoughts and refusals are members of a message, beside its content.
    pub apart: bool,
    /// Members of the body.
    pub members: Names,
    /// Members of a block or message.
    pub within: Names,
    /// Members of a tool.
    pub tools: Names,
    /// The lists of functions within a tool, where it has such.
    pub declarations: &'static [&'static str],
    /// Where tools beyond the last one stand.
    pub more_tools: &'static str,
    /// An object of the body that may have the request in it.
    pub inner: &'static str,
    /// Names may be written in snake case too, and one item without its list.
    pub proto: bool,
}

impl Words {
    /// Nothing has another name.
    pub const PLAIN: Words = Words {
        turns: "messages",
        parts: "content",
        system: "messages",
        system_parts: "",
        results: "content",
        apart: false,
        members: &[],
        within: &[],
        tools: &[],
        declarations: &[],
        more_tools: "",
        inner: "",
        proto: false,
    };
}

/// Tells the parts of one request in its caller's words.
pub struct Teller<'r> {
    words: &'static Words,
    request: &'r Request<'r>,
    body: &'r str,
    /// Members or items of values that were looked into, by where they begin: a body is walked once, whatever is lost.
    seen: HashMap<usize, Vec<(&'r str, &'r str)>>,
}

/// More than one list of a request has, by far; what is not found within is named by what it stands in.
const MOST_CHILDREN: usize = 1 << 18;

impl<'r> Teller<'r> {
    /// `request` is what was read of `body`.
    pub fn new(words: &'static Words, request: &'r Request<'r>, body: &'r [u8]) -> Teller<'r> {
        Teller {
            words,
            request,
            body: std::str::from_utf8(body).unwrap_or_default().trim_start(),
            seen: HashMap::new(),
        }
    }

    /// The caller's path of a part: the longest that is in the body. What the body has nothing of (it was asked for in a
    /// header, or implied) keeps the first of its names.
    pub fn tell(&mut self, path: &str) -> String {
        let mut candidates = match (split(path, "messages"), split(path, "tools")) {
            (Some((i, rest)), _) => self.message(i, rest),
            (_, Some((i, rest))) => self.tool(i, rest),
            _ => Vec::new(),
        };
        if candidates.is_empty() {
            candidates = renamed(self.words.members, path);
        }
        let mut best: Option<(usize, String)> = None;
        for candidate in candidates {
            let inner = format!("{}.{candidate}", self.words.inner);
            for candidate in [Some(candidate), (!self.words.inner.is_empty()).then_some(inner)].into_iter().flatten() {
                let (found, missing, there) = self.look(&candidate);
                if missing == 0 {
                    return there;
                }
                // To be in the inner object says nothing yet.
                let found = if !self.words.inner.is_empty() && there == self.words.inner { 0 } else { found };
                if best.as_ref().is_none_or(|(most, _)| found > *most) {
                    best = Some((found, if found == 0 { candidate } else { there }));
                }
            }
        }
        best.map_or_else(|| path.to_owned(), |(_, there)| there)
    }

    fn message(&mut self, i: usize, rest: &str) -> Vec<String> {
        let Some(message) = self.request.messages.get(i) else { return Vec::new() };
        if let Some((block, rest)) = named(message, rest) {
            return self.block(i, message, block, rest);
        }
        if rest.is_empty() {
            return vec![self.item(i, message)];
        }
        let mut all = Vec::new();
        for rest in renamed(self.words.within, rest) {
            all.push(format!("{}{rest}", self.item(i, message)));
            // What a message says of itself, others say of its parts.
            if let Some(first) = message.blocks.first() {
                all.extend(self.bases(i, message, first).into_iter().map(|base| format!("{base}{rest}")));
            }
        }
        all
    }

    /// Where the item is that a message came from; of several, the first.
    fn item(&self, i: usize, message: &Message<'_>) -> String {
        let own = message.blocks.first().map(|block| block.whence.item());
        let before = || {
            // An item without blocks stands behind the one that has the block before it.
            let mut earlier =
                self.request.messages.iter().take(i).rev().flat_map(|message| message.blocks.iter().rev());
            Some(earlier.find_map(|block| block.whence.item()).map_or(0, |item| item.saturating_add(1)))
        };
        match own.unwrap_or_else(before) {
            Some(item) => format!("{}[{item}]", self.words.turns),
            None if matches!(message.role, Role::System | Role::Developer) => self.words.system.to_owned(),
            None => self.words.turns.to_owned(),
        }
    }

    /// Where a block may stand.
    fn bases(&self, i: usize, message: &Message<'_>, block: &Block<'_>) -> Vec<String> {
        let words = self.words;
        let whence = block.whence;
        let item = match whence.item() {
            Some(item) => format!("{}[{item}]", words.turns),
            None => self.item(i, message),
        };
        let outside = whence.item().is_none();
        let parts = if outside { words.system_parts } else { words.parts };
        let list = if parts.is_empty() { item.clone() } else { format!("{item}.{parts}") };
        let mut all = Vec::new();
        if let Some(part) = whence.part() {
            all.push(format!("{list}[{part}]"));
        }
        if words.apart {
            let nth = |same: fn(&Content<'_>) -> bool| {
                message
                    .blocks
                    .iter()
                    .take_while(|other| !std::ptr::eq(*other, block))
                    .filter(|b| same(&b.content))
                    .count()
            };
            match &block.content {
                Content::ToolCall(_) => {
                    let n = nth(|content| matches!(content, Content::ToolCall(_)));
                    all.extend([format!("{item}.tool_calls[{n}]"), format!("{item}.function_call")]);
                }
                Content::Reasoning(_) if whence.part().is_none() => {
                    let names = ["reasoning_content", "reasoning", "reasoning_details", "extra_content"];
                    all.extend(names.map(|name| format!("{item}.{name}")));
                }
                Content::Refusal(_) => all.push(format!("{item}.refusal")),
                Content::Media(_) => all.push(format!("{item}.audio")),
                _ => {}
            }
        }
        if whence.part().is_none() && matches!(block.content, Content::Text { .. }) {
            all.push(list);
        }
        all.push(item);
        all
    }

    fn block(&self, i: usize, message: &Message<'_>, block: &Block<'_>, rest: &str) -> Vec<String> {
        let mut bases = self.bases(i, message, block);
        let mut rest = rest;
        if let (Content::ToolResult(result), Some((k, inner))) = (&block.content, split(rest, ".content")) {
            rest = inner;
            let part = result.blocks.get(k).and_then(|block| block.whence.part());
            let within = self.words.results;
            bases = bases
                .iter()
                .flat_map(|base| {
                    let part = part.map(|part| format!("{base}.{within}[{part}]"));
                    part.into_iter().chain([format!("{base}.{within}"), base.clone()])
                })
                .collect();
        }
        let rests = renamed(self.words.within, rest);
        let mut all: Vec<String> =
            rests.iter().flat_map(|rest| bases.iter().map(move |base| format!("{base}{rest}"))).collect();
        // A member of the item that the block was in, kept with its first block.
        if let (Some(name), Some(item)) = (rest.strip_prefix(".item."), bases.last()) {
            all.insert(0, format!("{item}.{name}"));
        }
        all
    }

    fn tool(&mut self, i: usize, rest: &str) -> Vec<String> {
        let mut bases = Vec::new();
        if self.words.declarations.is_empty() {
            bases.push(format!("tools[{i}]"));
        } else {
            bases.extend(self.declared(i));
        }
        if !self.words.more_tools.is_empty() {
            let tools = self.at("tools").map_or(0, |json| self.children(json).len());
            if let Some(more) = i.checked_sub(tools) {
                bases.push(format!("{}[{more}]", self.words.more_tools));
            }
        }
        let rests = renamed(self.words.tools, rest);
        rests.iter().flat_map(|rest| bases.iter().map(move |base| format!("{base}{rest}"))).collect()
    }

    /// Where a tool of a dialect is whose tools have lists of functions.
    fn declared(&mut self, wanted: usize) -> Option<String> {
        let (tools, prefix) = match self.at("tools") {
            Some(tools) => (tools, String::new()),
            None => (self.at(&format!("{}.tools", self.words.inner))?, format!("{}.", self.words.inner)),
        };
        let mut left = wanted;
        let all: Vec<(String, &'r str)> = match kind(tools) {
            Kind::Array => {
                let items = self.children(tools).iter().enumerate();
                items.map(|(i, (_, json))| (format!("{prefix}tools[{i}]"), *json)).collect()
            }
            _ => vec![(format!("{prefix}tools"), tools)],
        };
        for (path, tool) in all {
            for (name, json) in self.children(tool).to_vec() {
                if json == "null" {
                    continue;
                }
                let list = self.words.declarations.contains(&name);
                let count = if list && kind(json) == Kind::Array { self.children(json).len() } else { 1 };
                if left < count {
                    let item = if count > 1 || kind(json) == Kind::Array { format!("[{left}]") } else { String::new() };
                    return Some(if list { format!("{path}.{name}{item}") } else { path });
                }
                left = left.checked_sub(count)?;
            }
        }
        None
    }

    fn at(&mut self, path: &str) -> Option<&'r str> {
        let mut json = self.body;
        for step in steps(path) {
            json = self.step(json, step)?.1;
        }
        Some(json)
    }

    /// How many steps of a path are there, how many are not, and the path of those that are.
    fn look(&mut self, path: &str) -> (usize, usize, String) {
        let mut json = self.body;
        let mut there = String::new();
        let mut found = 0;
        let all: Vec<Step<'_>> = steps(path).collect();
        for step in &all {
            let Some((name, value)) = self.step(json, *step) else { break };
            if !name.is_empty() && !name.starts_with('[') && !there.is_empty() {
                there.push('.');
            }
            there.push_str(&name);
            json = value;
            found += 1;
        }
        (found, all.len().saturating_sub(found), there)
    }

    /// A member or item, with its name as it is written.
    fn step(&mut self, json: &'r str, step: Step<'_>) -> Option<(String, &'r str)> {
        match (step, kind(json)) {
            (Step::Name(name), Kind::Object) => {
                let snake = self.words.proto.then(|| snake(name));
                let children = self.children(json);
                let find = |wanted: &str| children.iter().rev().find(|(name, _)| *name == wanted);
                let (name, value) = find(name).or_else(|| find(snake.as_deref()?))?;
                Some(((*name).to_owned(), value))
            }
            (Step::Index(index), Kind::Array) => {
                let (_, value) = self.children(json).get(index)?;
                Some((format!("[{index}]"), value))
            }
            (Step::Index(0), Kind::Object) if self.words.proto => Some((String::new(), json)),
            _ => None,
        }
    }

    fn children(&mut self, json: &'r str) -> &[(&'r str, &'r str)] {
        self.seen.entry(json.as_ptr().addr()).or_insert_with(|| {
            let mut children = Vec::new();
            // The body's depth is settled: this cannot fail for it.
            let _ = scan::walk(json, usize::MAX, &mut |name, value| {
                if children.len() < MOST_CHILDREN {
                    children.push((name, value));
                }
            });
            children
        })
    }
}

/// The block that a path within a message speaks of, and the rest of the path.
fn named<'m, 'a, 'p>(message: &'m Message<'a>, rest: &'p str) -> Option<(&'m Block<'a>, &'p str)> {
    if let Some((j, rest)) = split(rest, ".content") {
        return Some((message.blocks.get(j)?, rest));
    }
    let first = |same: fn(&Content<'_>) -> bool, skip: usize| {
        message.blocks.iter().filter(move |block| same(&block.content)).nth(skip)
    };
    if let Some((n, rest)) = split(rest, ".tool_calls") {
        return Some((first(|content| matches!(content, Content::ToolCall(_)), n)?, rest));
    }
    if rest == ".reasoning" || rest == ".reasoning_details" {
        return Some((first(|content| matches!(content, Content::Reasoning(_)), 0)?, ""));
    }
    if rest == ".refusal" {
        return Some((first(|content| matches!(content, Content::Refusal(_)), 0)?, ""));
    }
    None
}

/// `name[3].rest` as 3 and `.rest`.
fn split<'p>(path: &'p str, name: &str) -> Option<(usize, &'p str)> {
    let (index, rest) = path.strip_prefix(name)?.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// A path in each of its names, its own the last. Of two names in the table that begin it, the longer one counts.
fn renamed(names: Names, path: &str) -> Vec<String> {
    let begins = |name: &str| {
        let rest = path.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
    };
    let of = names.iter().filter_map(|(name, theirs)| Some((name.len(), *theirs, begins(name)?)));
    let best = of.max_by_key(|(length, ..)| *length);
    let theirs = best.into_iter().flat_map(|(_, theirs, rest)| theirs.iter().map(move |name| format!("{name}{rest}")));
    theirs.chain([path.to_owned()]).collect()
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Name(&'p str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '[']).filter(|step| !step.is_empty()).map(|step| {
        let index = step.strip_suffix(']').and_then(|index| index.parse().ok());
        index.map_or(Step::Name(step), Step::Index)
    })
}

fn kind(json: &str) -> Kind {
    match json.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        _ => Kind::Null,
    }
}

/// `maxOutputTokens` as `max_output_tokens`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len().saturating_add(4));
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
