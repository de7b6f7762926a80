//! Log probabilities in the form of Completions: four lists side by side, where Chat has one list of entries.

use crate::shape;
use crate::wire::json::{Number, Raw, Text};
use crate::wire::writer;

shape! {
    struct List { content "content": Vec<Entry<'a>> }
}

shape! {
    struct Entry {
        token "token": Text<'a>,
        logprob "logprob": Number<'a>,
        bytes "bytes": Raw<'a>,
        top "top_logprobs": Vec<Top<'a>>,
    }
}

shape! {
    struct Top { token "token": Text<'a>, logprob "logprob": Number<'a>, bytes "bytes": Raw<'a> }
}

/// The lists, as JSON on one line. `offset` is where the text goes on, in characters from the beginning of the prompt; it
/// is moved to its end. `tops`: alternatives were asked for. `None` for what has no entries.
pub(super) fn lists(json: &Raw<'_>, tops: bool, offset: &mut u64) -> Option<Vec<u8>> {
    let entries = json.read::<List<'_>>().ok().and_then(|list| list.content).unwrap_or_default();
    if entries.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        o.array("tokens", |a| entries.iter().for_each(|entry| a.string(token(&entry.token))));
        o.array("token_logprobs", |a| entries.iter().for_each(|entry| probability(a.value(), &entry.logprob)));
        if tops {
            o.array("top_logprobs", |a| {
                for entry in &entries {
                    a.object(|o| {
                        let mut seen: Vec<&str> = Vec::new();
                        for top in entry.top.iter().flatten() {
                            // Tokens that are no text by themselves may read alike; a name stands once in an object.
                            if !seen.contains(&token(&top.token)) {
                                seen.push(token(&top.token));
                                probability(o.value(token(&top.token)), &top.logprob);
                            }
                        }
                    });
                }
            });
        } else {
            o.null("top_logprobs");
        }
        o.array("text_offset", |a| {
            for entry in &entries {
                a.number(*offset);
                *offset = offset.saturating_add(characters(token(&entry.token)));
            }
        });
    });
    Some(out)
}

/// Length as OpenAI counts it.
pub(super) fn characters(text: &str) -> u64 {
    text.chars().count() as u64
}

fn token<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", Text::as_str)
}

fn probability(out: &mut Vec<u8>, number: &Option<Number<'_>>) {
    match number {
        Some(number) => out.extend_from_slice(number.get().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &'static str, tops: bool) -> (String, u64) {
        let mut offset = 10;
        let lists = lists(&Raw::literal(json), tops, &mut offset).unwrap_or_else(|| b"null".to_vec());
        (String::from_utf8(lists).unwrap(), offset)
    }

    #[test]
    fn entries_become_lists() {
        let json = r#"{"content":[{"token":"é","logprob":-0.10,"bytes":null,"top_logprobs":[{"token":"é","logprob":-0.10},
            {"token":"\ufffd","logprob":-2},{"token":"\ufffd","logprob":-3}]},{"token":"ab","logprob":-1}]}"#;
        let lists = r#""tokens":["é","ab"],"token_logprobs":[-0.10,-1],"top_logprobs""#;
        let (with, offset) = written(json, true);
        let tops = "[{\"é\":-0.10,\"\u{fffd}\":-2},{}]";
        assert_eq!(with, format!(r#"{{{lists}:{tops},"text_offset":[10,11]}}"#));
        assert_eq!(offset, 13);
        assert_eq!(written(json, false).0, format!(r#"{{{lists}:null,"text_offset":[10,11]}}"#));
        assert_eq!(written(r#"{"content":[]}"#, true), ("null".to_owned(), 10));
        assert_eq!(written("7", true).0, "null");
    }
}
