//! What callers of the older completions call the parts of a request: all of the conversation is the prompt.

use crate::dialect::words::Words;

pub(super) const WORDS: Words = Words {
    turns: "prompt",
    parts: "",
    members: &[("messages", &["prompt"]), ("top_logprobs", &["logprobs"])],
    ..Words::PLAIN
};
