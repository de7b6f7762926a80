//! What the user says last, as far as its kind of task depends on it: the beginning of that text, bounded in bytes.
//!
//! Found by walking the conversation as it is written, in whichever dialect; no tree, and of a text only what is kept is
//! unescaped. Results of tools stand among the user's words in some dialects and are none.

use super::Call;
use crate::wire::scan;

/// Members that are the conversation, by dialect.
const TURNS: [&str; 4] = ["messages", "input", "contents", "prompt"];
/// Turns that are looked at from the end: results of tools may stand after the user's words.
const LAST: usize = 8;
/// How deep texts lie in a turn: content, part, text.
const DEEPEST: usize = 4;

/// The beginning of what the user says last, at most so many bytes and a character.
pub(super) fn head(call: &Call, most: usize) -> String {
    let mut head = String::new();
    let Some(turns) = TURNS.iter().find_map(|name| call.written(name)) else { return head };
    if !turns.starts_with('[') {
        gather(turns, most, 0, &mut head);
        return head;
    }
    let mut last: [Option<&str>; LAST] = [None; LAST];
    let _ = scan::walk(turns, usize::MAX, &mut |_, turn| {
        if is_users(turn) {
            last.rotate_right(1);
            if let Some(first) = last.first_mut() {
                *first = Some(turn);
            }
        }
    });
    for turn in last.into_iter().flatten() {
        gather(turn, most, 0, &mut head);
        if !head.is_empty() {
            break;
        }
    }
    head
}

fn is_users(turn: &str) -> bool {
    if turn.starts_with('"') {
        return true;
    }
    let (mut role, mut kind) = (None, None);
    let _ = scan::walk(turn, usize::MAX, &mut |name, value| match name {
        "role" => role = Some(value),
        "type" => kind = Some(value),
        _ => {}
    });
    match role {
        Some(role) => role == "\"user\"",
        None => kind.is_none_or(|kind| matches!(kind, "\"message\"" | "\"input_text\"" | "\"text\"")),
    }
}

/// The texts of a turn, in order.
fn gather(json: &str, most: usize, depth: usize, head: &mut String) {
    if depth > DEEPEST || head.len() >= most {
        return;
    }
    if let Some(inside) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        if !head.is_empty() {
            head.push('\n');
        }
        unescape(inside, most, head);
    } else if json.starts_with('[') {
        let _ = scan::walk(json, usize::MAX, &mut |_, item| gather(item, most, depth + 1, head));
    } else if json.starts_with('{') {
        let (mut kind, mut said) = (None, [None; 3]);
        let _ = scan::walk(json, usize::MAX, &mut |name, value| {
            let [content, parts, text] = &mut said;
            match name {
                "type" => kind = Some(value),
                "content" => *content = Some(value),
                "parts" => *parts = Some(value),
                "text" => *text = Some(value),
                _ => {}
            }
        });
        if kind.is_none_or(|kind| matches!(kind, "\"text\"" | "\"input_text\"" | "\"message\"")) {
            said.into_iter().flatten().for_each(|said| gather(said, most, depth + 1, head));
        }
    }
}

/// Undoes JSON's escapes, up to so many bytes.
fn unescape(inside: &str, most: usize, out: &mut String) {
    let mut chars = inside.chars();
    while out.len() < most {
        let Some(c) = chars.next() else { return };
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r' | 'b' | 'f') => out.push(' '),
            Some('u') => out.push(unicode(&mut chars)),
            Some(other) => out.push(other),
            None => return,
        }
    }
}

/// After `\u`: a character, or two halves of one (RFC 8259 section 7).
fn unicode(chars: &mut std::str::Chars<'_>) -> char {
    let unit =
        |chars: &mut std::str::Chars<'_>| (0..4).try_fold(0u32, |sum, _| Some(sum * 16 + chars.next()?.to_digit(16)?));
    let Some(first) = unit(chars) else { return char::REPLACEMENT_CHARACTER };
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    let mut ahead = chars.clone();
    if ahead.next() != Some('\\') || ahead.next() != Some('u') {
        return char::REPLACEMENT_CHARACTER;
    }
    match unit(&mut ahead) {
        Some(second @ 0xdc00..0xe000) => {
            *chars = ahead;
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::{Dialect, anthropic, gemini, openai_chat, openai_completions, openai_responses};
    use crate::exchange::Said;

    fn of(dialect: Dialect, body: &str, most: usize) -> String {
        let snapshot = crate::config::from_text("", &|_| None).unwrap();
        let reads = dialect.inbound.unwrap().reads();
        let said = Said { reads, model: "m", stream: false, array: false, count: false };
        let call = Call::read(format!(r#"{{"model":"m",{body}}}"#).into(), &said, &snapshot.limits, &|_| None).unwrap();
        head(&call, most)
    }

    #[test]
    fn the_last_thing_the_user_says_is_found_in_each_dialect() {
        for (dialect, body, text) in [
            (
                openai_chat::DIALECT,
                r#""messages":[{"role":"system","content":"S"},{"role":"user","content":"a\n\u00e9\ud83d\ude00"},{"role":"assistant","content":"b"}]"#,
                "a\né😀",
            ),
            (
                openai_chat::DIALECT,
                r#""messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"y"}]}]"#,
                "x\ny",
            ),
            (openai_completions::DIALECT, r#""prompt":"say this""#, "say this"),
            (openai_responses::DIALECT, r#""input":"hello""#, "hello"),
            (
                openai_responses::DIALECT,
                r#""input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},{"type":"function_call_output","call_id":"c","output":"z"}]"#,
                "q",
            ),
            (
                anthropic::DIALECT,
                r#""messages":[{"role":"user","content":"task"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"result"}]}]"#,
                "task",
            ),
            (gemini::DIALECT, r#""contents":[{"parts":[{"text":"one"},{"text":"two"}]}]"#, "one\ntwo"),
            (gemini::DIALECT, r#""contents":[{"role":"user","parts":[{"functionResponse":{"name":"f"}}]}]"#, ""),
            (openai_chat::DIALECT, r#""messages":[]"#, ""),
        ] {
            assert_eq!(of(dialect, body, 100), text, "{body}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let body = format!(r#""messages":[{{"role":"user","content":"{}"}}]"#, "é".repeat(10_000));
        assert_eq!(of(openai_chat::DIALECT, &body, 101).len(), 102, "whole characters");
    }

    proptest! {
        #[test]
        fn texts_are_read_as_json_reads_them(text in "\\PC{0,40}[\"\\\\\n\t/]{0,4}") {
            let json = serde_json::to_string(&text).unwrap();
            let body = format!(r#""messages":[{{"role":"user","content":{json}}}]"#);
            let read = of(openai_chat::DIALECT, &body, 1_000);
            prop_assert_eq!(read.replace(['\u{8}', '\u{c}', '\r'], " "), text.replace(['\u{8}', '\u{c}', '\r'], " "));
        }
    }
}
