//! What a call has in common with others: its key, its user, its session, or how its prompt begins.
//!
//! The key is part of each: callers of two keys share nothing, not even by chance.

use super::Call;
use crate::config::snapshot::Key;
use crate::policy::route::affinity::{By, Hash};
use crate::wire::json::Text;
use crate::wire::scan;

/// Members in which callers' dialects name the user: OpenAI's `user` and its successor, and Anthropic's.
const USERS: [&str; 2] = ["user", "safety_identifier"];
/// Members that come before the conversation in each dialect.
const BEFORE: [&str; 6] =
    ["tools", "system", "instructions", "systemInstruction", "system_instruction", "cachedContent"];
/// Members that are the conversation.
const TURNS: [&str; 4] = ["messages", "input", "contents", "prompt"];
/// As much of a member as counts: providers' caches begin at some thousand bytes, and go by the beginning.
const MOST: usize = 16 * 1024;

/// A hash of the first of these that the call has, and which that was; of the key, where it has none of them.
pub fn of(call: &Call, key: &Key, by: &[By]) -> (u64, By) {
    let hash = Hash::default().with(key.id.as_bytes());
    by.iter()
        .find_map(|by| {
            let hash = match by {
                By::Key => hash,
                By::User => hash.with(b"user").with(user(call)?.as_bytes()),
                By::Session => hash.with(b"session").with(session(call)?.as_bytes()),
                By::Prefix => prefix(call, hash)?,
            };
            Some((hash.finish(), *by))
        })
        .unwrap_or((hash.finish(), By::Key))
}

fn user(call: &Call) -> Option<Text<'_>> {
    let named = USERS.iter().find_map(|name| text(call, name));
    named.or_else(|| {
        let mut found = None;
        // The body has been scanned: this cannot fail for its grammar.
        let _ = scan::walk(call.written("metadata")?, usize::MAX, &mut |name, value| {
            if name == "user_id" {
                found = serde_json::from_str::<Text<'_>>(value).ok();
            }
        });
        found
    })
}

fn session(call: &Call) -> Option<Text<'_>> {
    match &call.controls.session {
        Some(session) => Some(session.as_str().into()),
        None => text(call, "prompt_cache_key"),
    }
}

fn text<'c>(call: &'c Call, name: &str) -> Option<Text<'c>> {
    serde_json::from_str::<Text<'_>>(call.written(name)?).ok().filter(|text| !text.as_str().is_empty())
}

/// Tools, system prompt, and the conversation up to the first message that is not the operator's: all that later turns
/// of it repeat.
fn prefix(call: &Call, hash: Hash) -> Option<Hash> {
    let mut hash = hash.with(b"prefix");
    for name in BEFORE {
        if let Some(value) = call.written(name) {
            hash = hash.with(name.as_bytes()).with(clip(value));
        }
    }
    let turns = TURNS.iter().find_map(|name| call.written(name))?;
    if !turns.starts_with('[') {
        return Some(hash.with(clip(turns)));
    }
    let mut over = false;
    let _ = scan::walk(turns, usize::MAX, &mut |_, turn| {
        if !over {
            hash = hash.with(clip(turn));
            over = !(turn.contains("\"system\"") || turn.contains("\"developer\""));
        }
    });
    Some(hash)
}

fn clip(text: &str) -> &[u8] {
    text.as_bytes().get(..MOST).unwrap_or(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::snapshot::Limits;
    use crate::exchange::Said;

    fn call(body: &str, session: Option<&'static str>) -> Call {
        let limits = Limits::small();
        let reads = crate::dialect::openai_chat::DIALECT.inbound.unwrap().reads();
        let said = Said { reads, model: "", stream: false, array: false, count: false };
        let header = |name: &str| session.filter(|_| name == "x-portolan-session");
        Call::read(body.to_owned().into(), &said, &limits, &header).unwrap()
    }

    fn keys() -> [std::sync::Arc<Key>; 2] {
        let row = |id: &str, digit: &str| format!("  - {{ id: {id}, secret_sha256: \"{}\" }}\n", digit.repeat(64));
        let text = format!("keys:\n{}{}", row("a", "a"), row("b", "b"));
        let snapshot = config::from_text(&text, &|_| None).unwrap();
        let mut keys: Vec<_> = snapshot.keys.into_values().collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys.try_into().unwrap()
    }

    #[test]
    fn a_conversation_keeps_its_beginning() {
        let [key, other] = keys();
        let first = r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"1"}]}"#;
        let later = r#"{"messages": [{"role":"system","content":"S"},{"role":"user","content":"1"},{"role":"assistant","content":"2"},{"role":"user","content":"3"}],"model":"m"}"#;
        let another = r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"2"}]}"#;
        let of = |body: &str| of(&call(body, None), &key, &[By::Prefix]);
        assert_eq!(of(first), of(later));
        assert_ne!(of(first), of(another));
        assert_ne!(of(first), super::of(&call(first, None), &other, &[By::Prefix]), "another key's");
    }

    #[test]
    fn the_first_that_is_there_counts() {
        let [key, _] = keys();
        let by = [By::Session, By::User, By::Key];
        let of = |body: &str, session| of(&call(body, session), &key, &by);
        assert_eq!(of(r#"{"model":"m"}"#, None).1, By::Key);
        let named = of(r#"{"model":"m","user":"u1"}"#, None);
        assert_eq!(named.1, By::User);
        assert_eq!(named, of(r#"{"model":"m","metadata":{"user_id":"u1"}}"#, None));
        assert_ne!(named, of(r#"{"model":"m","user":"u2"}"#, None));
        let session = of(r#"{"model":"m","user":"u1"}"#, Some("s"));
        assert_eq!(session.1, By::Session);
        assert_eq!(session, of(r#"{"model":"m","user":"u2"}"#, Some("s")));
        assert_eq!(session, of(r#"{"model":"m","prompt_cache_key":"s"}"#, None));
    }
}
