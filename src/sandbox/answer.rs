//! What to say: from what was asked, in no dialect's words, to an answer that is always the same for the same question.
//!
//! An echo, because it shows at a glance what arrived: which turn, under which system prompt, with which images, and
//! every character of the last message. Tokens are counted by [`pieces`], so that usage can be computed by hand.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::schema;
use super::script::Script;

/// Input tokens that one image counts for.
pub const IMAGE_TOKENS: u64 = 85;
/// Longest echo, in characters.
const ECHO: usize = 4_000;

/// A question, as far as an answer depends on it.
#[derive(Debug, Default)]
pub struct Ask {
    pub model: String,
    pub stream: bool,
    /// System and developer text.
    pub system: Vec<String>,
    /// Only the number of input tokens is asked for.
    pub only_count: bool,
    /// User turns, tool results not counted.
    pub turns: u64,
    /// Text of the last user turn.
    pub said: String,
    /// Media types (or `by URL`) of the images of the whole conversation.
    pub images: Vec<String>,
    pub last: Last,
    /// Name and text of each tool result that follows the last assistant turn.
    pub results: Vec<(String, String)>,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// Several calls at once are welcome.
    pub parallel: bool,
    pub format: Format,
    pub reason: bool,
    /// The thoughts are to be shown (they are always counted).
    pub show_reasoning: bool,
    pub stop: Vec<String>,
    /// Most output tokens, reasoning included.
    pub limit: Option<u64>,
    /// Assistant turns in the history.
    pub replies: u64,
    /// Tokens of everything before the last message, and of the last message.
    pub before: u64,
    pub latest: u64,
    pub cache: Cache,
    /// Whether a stream's usage was asked for, where a dialect must be asked.
    pub include_usage: bool,
    /// How many answers are wanted.
    pub copies: u64,
}

impl Ask {
    /// Counts a message of so many tokens as the last one so far.
    pub fn count(&mut self, tokens: u64) {
        self.before += self.latest;
        self.latest = tokens;
    }

    /// A user turn of text begins: results before it are history.
    pub fn user(&mut self, text: String) {
        self.turns += 1;
        self.said = text;
        self.last = Last::User;
        self.results.clear();
    }

    pub fn assistant(&mut self) {
        self.replies += 1;
        self.last = Last::Assistant;
        self.results.clear();
    }

    pub fn result(&mut self, name: String, text: String) {
        self.last = Last::Tool;
        self.results.push((name, text));
    }
}

/// When the prompt's beginning is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// The provider caches unasked.
    #[default]
    Automatic,
    /// Only what is marked, and nothing is.
    Unmarked,
    Marked {
        hour: bool,
    },
}

/// Who spoke last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Last {
    #[default]
    User,
    Assistant,
    Tool,
}

#[derive(Debug)]
pub struct Tool {
    pub name: String,
    /// JSON schema of the arguments; null where there is none.
    pub schema: Value,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The sandbox likes tools: it calls one whenever it may.
    #[default]
    Auto,
    None,
    Named(String),
}

#[derive(Debug, Default)]
pub enum Format {
    #[default]
    Text,
    /// Any JSON object.
    Object,
    Schema(Value),
}

/// An answer in no dialect's words.
#[derive(Debug)]
pub struct Answer {
    /// Empty where none was asked for.
    pub reasoning: String,
    pub text: String,
    /// Name and arguments; `text` is then empty.
    pub calls: Vec<(String, Value)>,
    pub finish: Finish,
    pub usage: Usage,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    /// This stop sequence was reached.
    Sequence(String),
    Length,
    Calls,
}

/// Sums and parts of them, as `crate::ir::Usage` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    /// Of `input`: everything before the last message, once an assistant has answered before.
    pub cached: u64,
    /// Of `input`: written to the cache: the same, on the first turn of a prompt with cache marks.
    pub written: u64,
    /// Of `input`: images.
    pub images: u64,
    pub output: u64,
    /// Of `output`.
    pub reasoning: u64,
}

/// Answers a question.
pub fn compose(ask: &Ask, script: Script) -> Answer {
    let mut reasoning = String::new();
    if ask.reason {
        let words = tokens(&ask.said);
        reasoning = format!("Turn {} brought {words} tokens. An echo will do; no storm in sight.", ask.turns.max(1));
    }
    let calls = calls(ask);
    if !calls.is_empty() {
        let output = calls.iter().map(|(name, arguments)| tokens(name) + tokens(&arguments.to_string())).sum();
        return finished(ask, reasoning, String::new(), calls, output, Finish::Calls);
    }
    let mut text = match script {
        Script::Long(words) => (1..=words).map(|n| format!("wave{n} ")).collect::<String>().trim_end().to_owned(),
        _ => text(ask),
    };
    let mut finish = Finish::Stop;
    let stop = ask.stop.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop))).min();
    if let Some((at, stop)) = stop {
        finish = Finish::Sequence(stop.clone());
        text.truncate(at);
    }
    if let Some(limit) = ask.limit {
        let thought = tokens(&reasoning);
        if cut(&mut reasoning, limit) | cut(&mut text, limit.saturating_sub(thought)) {
            finish = Finish::Length;
        }
    }
    let output = tokens(&text);
    finished(ask, reasoning, text, calls, output, finish)
}

fn finished(
    ask: &Ask,
    reasoning: String,
    text: String,
    calls: Vec<(String, Value)>,
    output: u64,
    finish: Finish,
) -> Answer {
    let thought = tokens(&reasoning);
    let seen = ask.replies > 0;
    let usage = Usage {
        input: ask.before + ask.latest,
        cached: if seen && ask.cache != Cache::Unmarked { ask.before } else { 0 },
        written: if !seen && matches!(ask.cache, Cache::Marked { .. }) { ask.before } else { 0 },
        images: IMAGE_TOKENS * ask.images.len() as u64,
        output: output + thought,
        reasoning: thought,
    };
    Answer { reasoning, text, calls, finish, usage }
}

fn text(ask: &Ask) -> String {
    match &ask.format {
        Format::Schema(schema) => return schema::instance(schema, 0).to_string(),
        Format::Object => return json!({"answer": "Ahoy from the sandbox!", "you_said": echo(&ask.said)}).to_string(),
        Format::Text => {}
    }
    if ask.last == Last::Tool {
        let told: Vec<_> = ask.results.iter().map(|(name, text)| format!("{name} said: {}", echo(text))).collect();
        return format!("Back from the tools. {}", told.join(" "));
    }
    let mut text = "Ahoy from the sandbox!".to_owned();
    if ask.turns > 1 {
        text.push_str(&format!(" Turn {}.", ask.turns));
    }
    if !ask.system.is_empty() {
        text.push_str(&format!(" My orders: {}", echo(&ask.system.join(" "))));
    }
    if !ask.images.is_empty() {
        let plural = if ask.images.len() == 1 { "image" } else { "images" };
        text.push_str(&format!(" I see {} {plural} ({}).", ask.images.len(), ask.images.join(", ")));
    }
    text.push_str(&format!(" You said: {}", echo(&ask.said)));
    text
}

fn calls(ask: &Ask) -> Vec<(String, Value)> {
    if ask.last != Last::User || ask.choice == Choice::None {
        return Vec::new();
    }
    let first = match &ask.choice {
        Choice::Named(name) => ask.tools.iter().position(|tool| tool.name == *name),
        _ => (!ask.tools.is_empty()).then_some(0),
    };
    let Some(first) = first else { return Vec::new() };
    let second = match ask.choice {
        _ if !ask.parallel || !ask.said.to_lowercase().contains("parallel") => None,
        Choice::Named(_) => Some(first),
        _ => Some(1.min(ask.tools.len() - 1)),
    };
    let chosen = [Some(first), second].into_iter().flatten().filter_map(|at| ask.tools.get(at));
    let arguments = |(ordinal, tool): (usize, &Tool)| {
        let value = schema::instance(&tool.schema, ordinal);
        (tool.name.clone(), if value.is_object() { value } else { Value::Object(Map::new()) })
    };
    chosen.enumerate().map(arguments).collect()
}

fn echo(text: &str) -> String {
    match text.char_indices().nth(ECHO) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Cuts a text to so many tokens; whether that took anything away.
fn cut(text: &mut String, limit: u64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let length = pieces(text).take(limit).map(str::len).sum();
    let shorter = length < text.len();
    text.truncate(length);
    shorter
}

/// Tokens of a text: a word with the white space around it is one, and one more for each further 16 characters of it.
/// Put together they are the text.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (mut letters, mut spaced) = (0, false);
        let end = rest.char_indices().find(|(_, char)| {
            if char.is_whitespace() {
                spaced = letters > 0;
                return false;
            }
            letters += 1;
            spaced || letters > 16
        });
        let (piece, left) = rest.split_at_checked(end.map_or(rest.len(), |(at, _)| at)).unwrap_or((rest, ""));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

pub fn tokens(text: &str) -> u64 {
    pieces(text).count() as u64
}

/// The signature that this sandbox puts under a thought. It depends on nothing but its subject, so that it can be
/// checked without memory, also by another process; its alphabet and length make it valid base64 as well.
pub fn signature(dialect: &str, subject: &str) -> String {
    let digest = Sha256::new().chain_update("portolan sandbox\0").chain_update(dialect).chain_update("\0");
    let digest = digest.chain_update(subject).finalize();
    digest.iter().fold("sbx1".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(said: &str) -> Ask {
        let mut ask = Ask { parallel: true, ..Ask::default() };
        ask.user(said.to_owned());
        ask.count(tokens(said));
        ask
    }

    fn tool(name: &str) -> Tool {
        Tool {
            name: name.to_owned(),
            schema: json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
        }
    }

    #[test]
    fn the_echo_names_turn_orders_and_images() {
        let mut ask = ask("guten Tag, 世界");
        ask.turns = 2;
        ask.system = vec!["Be terse.".to_owned()];
        ask.images = vec!["image/png".to_owned()];
        let answer = compose(&ask, Script::Plain);
        assert_eq!(
            answer.text,
            "Ahoy from the sandbox! Turn 2. My orders: Be terse. I see 1 image (image/png). You said: guten Tag, 世界"
        );
        assert_eq!(answer.finish, Finish::Stop);
        assert_eq!(answer.usage.output, tokens(&answer.text));
    }

    #[test]
    fn limits_and_stops() {
        let mut ask = ask("one two three");
        ask.limit = Some(3);
        let answer = compose(&ask, Script::Plain);
        assert_eq!((answer.text.as_str(), answer.finish), ("Ahoy from the ", Finish::Length));
        ask.limit = None;
        ask.stop = vec!["three".to_owned(), "two".to_owned()];
        let answer = compose(&ask, Script::Plain);
        assert!(answer.text.ends_with("one "));
        assert_eq!(answer.finish, Finish::Sequence("two".to_owned()));
        ask.reason = true;
        ask.limit = Some(2);
        let answer = compose(&ask, Script::Plain);
        assert_eq!((answer.reasoning.as_str(), answer.text.as_str()), ("Turn 1 ", ""));
        assert_eq!((answer.usage.output, answer.usage.reasoning), (2, 2));
    }

    #[test]
    fn tools_are_called_once_or_twice_or_not() {
        let mut one = ask("look it up");
        one.tools = vec![tool("first"), tool("second")];
        let names = |ask: &Ask| compose(ask, Script::Plain).calls.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(&one), ["first"]);
        one.choice = Choice::Named("second".to_owned());
        assert_eq!(names(&one), ["second"]);
        one.said = "in parallel".to_owned();
        assert_eq!(names(&one), ["second", "second"]);
        one.choice = Choice::Auto;
        assert_eq!(names(&one), ["first", "second"]);
        one.parallel = false;
        assert_eq!(names(&one), ["first"]);
        one.choice = Choice::None;
        assert_eq!(names(&one), [""; 0]);
        one.choice = Choice::Auto;
        one.result("first".to_owned(), "42".to_owned());
        let answer = compose(&one, Script::Plain);
        assert!(answer.calls.is_empty());
        assert_eq!(answer.text, "Back from the tools. first said: 42");
    }

    #[test]
    fn a_signature_depends_on_dialect_and_subject() {
        let one = signature("anthropic", "a");
        assert_eq!(one.len() % 4, 0);
        assert_eq!(one, signature("anthropic", "a"));
        assert_ne!(one, signature("gemini", "a"));
        assert_ne!(one, signature("anthropic", "b"));
    }

    #[test]
    fn long_words_are_several_tokens() {
        assert_eq!(pieces("a  b\n").collect::<Vec<_>>(), ["a  ", "b\n"]);
        assert_eq!(pieces("  a").collect::<Vec<_>>(), ["  a"]);
        assert_eq!(tokens(&"x".repeat(33)), 3);
        assert_eq!(tokens(""), 0);
    }

    proptest! {
        #[test]
        fn pieces_put_together_are_the_text(text in "\\PC{0,80}") {
            prop_assert_eq!(pieces(&text).collect::<String>(), text);
        }
    }
}
