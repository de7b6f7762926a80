//! Log probabilities, from Cohere's shape into OpenAI's, which the IR speaks.
//!
//! Cohere lists pieces of text, each with the ids and probabilities of its tokens. A piece of several tokens cannot be
//! cut at their seams, so it becomes one entry with the probability of them all.

use crate::shape;
use crate::wire::json::{Number, Raw, Text};
use crate::wire::writer::{self, Array};

use super::wire::each;

shape! {
    struct Piece { text "text": Text<'a>, ids "token_ids": Raw<'a>, logprobs "logprobs": Vec<Number<'a>> }
}

/// Reads one piece or a list of them. `None` where they say nothing.
pub(super) fn read(raw: Raw<'_>) -> Option<Raw<'static>> {
    let mut any = false;
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        o.array("content", |a| {
            for raw in each(raw) {
                any |= write(&raw, a);
            }
        });
    });
    any.then(|| String::from_utf8(out).ok().map(Raw::trusted)).flatten()
}

fn write(raw: &Raw<'_>, a: &mut Array<'_>) -> bool {
    let Ok(Piece { text: Some(text), logprobs: Some(logprobs), .. }) = raw.read::<Piece<'_>>() else { return false };
    let Some(first) = logprobs.first() else { return false };
    a.object(|o| {
        o.string("token", &text);
        match logprobs.len() {
            1 => o.digits("logprob", first),
            _ => {
                let sum: f64 = logprobs.iter().map(Number::as_f64).sum();
                // What OpenAI writes for a token that is as good as impossible.
                let json = if sum.is_finite() { sum.to_string() } else { "-9999.0".to_owned() };
                o.value("logprob").extend_from_slice(json.as_bytes());
            }
        }
        o.array("bytes", |a| text.bytes().for_each(|byte| a.number(u64::from(byte))));
        o.array("top_logprobs", |_| {});
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_entries() {
        let read = |json| read(Raw::parse(json).unwrap()).map(|raw| raw.get().to_owned());
        let one = r#"{"text":"Hé","token_ids":[1],"logprobs":[-0.10]}"#;
        let entry = r#"{"token":"Hé","logprob":-0.10,"bytes":[72,195,169],"top_logprobs":[]}"#;
        assert_eq!(read(one), Some(format!(r#"{{"content":[{entry}]}}"#)));
        let list = format!(r#"[{one},{{"text":"ab","token_ids":[2,3],"logprobs":[-0.5,-0.25]}},{{"text":"x"}}]"#);
        let list: Raw<'_> = serde_json::from_str(&list).unwrap();
        let wanted = r#"{"token":"ab","logprob":-0.75,"bytes":[97,98],"top_logprobs":[]}"#;
        assert_eq!(super::read(list).unwrap().get(), format!(r#"{{"content":[{entry},{wanted}]}}"#));
        assert_eq!(read("[]"), None);
        assert_eq!(read("null"), None);
    }
}
