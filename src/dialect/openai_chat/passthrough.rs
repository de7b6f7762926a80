//! A request of this dialect on its way to a provider of this dialect: a few spans are edited, every other byte stays.

use std::ops::Range;

use crate::dialect::{CONTROLS, ReasoningStyle, To, additions};
use crate::wire::patch::Patch;
use crate::wire::scan::{Member, Members, walk};
use crate::wire::writer;

/// Deepest nesting that is looked into; the body's own limit is settled before.
const DEPTH: usize = 1_000;

/// Whether the target wants nothing said in another form than the caller's.
pub fn fits(body: &[u8], members: &Members, to: &To<'_>) -> bool {
    let asked = |name: &str| members.get(body, name).map(|member| value(body, member)).filter(|json| *json != "null");
    let reasons = || asked("reasoning_effort").is_some();
    let schema = || asked("response_format").is_some_and(|format| format.contains("json_schema"));
    (to.quirks.reasoning == ReasoningStyle::Effort || !reasons()) && (!to.quirks.no_json_schema || !schema())
}

/// Edits that make a caller's body fit the target: the target's model, renamed and removed members, usage asked for.
pub fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    let quirks = to.quirks;
    let refuses = |name: &str| quirks.refuses.iter().any(|refused| refused == name);
    if let Some(member) = members.get(body, "model") {
        let mut model = Vec::with_capacity(to.model.len() + 2);
        writer::string(&mut model, to.model);
        if value(body, member).as_bytes() != model {
            patch.replace_value(member, model);
        }
    }
    for name in CONTROLS.into_iter().chain(quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &quirks.rename {
        if members.get(body, ours).is_none() || ours == theirs {
            continue;
        }
        if refuses(theirs) {
            patch.remove(members, body, ours);
        } else if !refuses(ours) {
            // The name may be taken: by the older word for the same thing, and the newer one wins.
            patch.remove(members, body, theirs);
            patch.rename(members, body, ours, theirs);
        }
    }
    if quirks.no_developer_role
        && let Some(messages) = members.get(body, "messages")
    {
        developers(body, messages, patch);
    }
    if quirks.no_stream_options {
        patch.remove(members, body, "stream_options");
    } else if to.stream && !refuses("stream_options") {
        match members.get(body, "stream_options") {
            Some(options) => ask_usage(body, options, patch),
            None => patch.insert(members, body, "stream_options", br#"{"include_usage":true}"#),
        }
    }
    additions::splice(body, members, quirks, patch);
}

/// Sets `include_usage` in the caller's own `stream_options`.
fn ask_usage(body: &[u8], options: &Member, patch: &mut Patch) {
    let json = value(body, options);
    let (mut found, mut empty) = (None, true);
    let walked = walk(json, DEPTH, &mut |name, value| {
        empty = false;
        if name == "include_usage" {
            found = Some(value);
        }
    });
    match found {
        _ if walked.is_err() || !json.starts_with('{') => {
            patch.replace_value(options, *br#"{"include_usage":true}"#);
        }
        Some("true") => {}
        Some(value) => patch.replace(span(options, json, value), *b"true"),
        None => {
            let after = options.value.start + 1;
            let member: &[u8] = if empty { br#""include_usage":true"# } else { br#""include_usage":true,"# };
            patch.replace(after..after, member);
        }
    }
}

/// Writes `system` for the role that the provider does not know.
fn developers(body: &[u8], messages: &Member, patch: &mut Patch) {
    const ROLE: &str = r#""developer""#;
    let json = value(body, messages);
    if memchr::memmem::find(json.as_bytes(), ROLE.as_bytes()).is_none() {
        return;
    }
    // What is not a list of objects is for the provider to refuse.
    let _ = walk(json, DEPTH, &mut |_, message| {
        let _ = walk(message, DEPTH, &mut |name, role| {
            if name == "role" && role == ROLE {
                patch.replace(span(messages, json, role), *br#""system""#);
            }
        });
    });
}

fn value<'b>(body: &'b [u8], member: &Member) -> &'b str {
    body.get(member.value.clone()).and_then(|json| std::str::from_utf8(json).ok()).unwrap_or_default()
}

/// The span in the body of a piece of a member's value.
fn span(member: &Member, json: &str, piece: &str) -> Range<usize> {
    let at = member.value.start + (piece.as_ptr() as usize).wrapping_sub(json.as_ptr() as usize);
    at..at + piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Abilities, Quirks};
    use crate::wire::scan::scan;

    fn spliced(body: &str, stream: bool, quirks: &Quirks) -> String {
        let members = scan(body.as_bytes(), 64).unwrap();
        let mut patch = Patch::default();
        let to = To { model: "target/1", stream, quirks, abilities: &Abilities::default() };
        splice(body.as_bytes(), &members, &to, &mut patch);
        let out = String::from_utf8(patch.apply(body.as_bytes())).unwrap();
        scan(out.as_bytes(), 64).unwrap();
        out
    }

    #[test]
    fn all_but_the_model_stays_byte_for_byte() {
        let plain = Quirks::default();
        let body =
            r#"{ "x":1.10,"model" : "alias","big":12345678901234567890123, "x":2,"messages":[ {"role":"developer"} ]}"#;
        assert_eq!(spliced(body, false, &plain), body.replace("alias", "target/1"));
        let same = r#"{"model":"target/1","a":[]}"#;
        assert_eq!(spliced(same, false, &plain), same);
    }

    #[test]
    fn our_controls_are_taken_out() {
        let body = r#"{"fallback":["a"],"model":"m","cache":{"mode":"off"},"timeout":5,"n":1,"tags":{},"routing":"balanced","region":["eu"],"priority":"high"}"#;
        assert_eq!(spliced(body, false, &Quirks::default()), r#"{"model":"target/1","n":1}"#);
    }

    #[test]
    fn usage_is_asked_for_in_a_stream() {
        let plain = Quirks::default();
        let cases = [
            (
                r#"{"model":"m","stream":true}"#,
                r#"{"model":"target/1","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (r#"{"model":"m","stream_options":{}}"#, r#"{"model":"target/1","stream_options":{"include_usage":true}}"#),
            (
                r#"{"model":"m","stream_options":null}"#,
                r#"{"model":"target/1","stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","stream_options":{"a":[1]}}"#,
                r#"{"model":"target/1","stream_options":{"include_usage":true,"a":[1]}}"#,
            ),
            (
                r#"{"model":"m","stream_options":{"a":1, "include_usage": false }}"#,
                r#"{"model":"target/1","stream_options":{"a":1, "include_usage": true }}"#,
            ),
            (
                r#"{"model":"m","stream_options":{"include_usage":true}}"#,
                r#"{"model":"target/1","stream_options":{"include_usage":true}}"#,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(spliced(body, true, &plain), expected);
        }
        let without = Quirks { no_stream_options: true, ..Quirks::default() };
        let body = r#"{"model":"m","stream_options":{"include_usage":true},"stream":true}"#;
        assert_eq!(spliced(body, true, &without), r#"{"model":"target/1","stream":true}"#);
    }

    #[test]
    fn quirks_rename_and_remove() {
        let quirks = Quirks {
            rename: [("max_completion_tokens", "max_tokens"), ("seed", "random_seed")]
                .map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
                .into(),
            refuses: vec!["user".to_owned(), "random_seed".to_owned()],
            no_developer_role: true,
            ..Quirks::default()
        };
        let body = r#"{"max_tokens":1,"model":"m","user":"u","seed":3,"max_completion_tokens":2,"messages":[{"role":"user","content":"\"developer\""},{"content":"a","role" : "developer"}]}"#;
        let expected = r#"{"model":"target/1","max_tokens":2,"messages":[{"role":"user","content":"\"developer\""},{"content":"a","role" : "system"}]}"#;
        assert_eq!(spliced(body, false, &quirks), expected);
    }
}
