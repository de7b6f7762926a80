//! How proofs of other issuers travel in `encrypted_content`.
//!
//! Callers of this dialect send back what they were given: reasoning items, with one opaque string each. OpenAI's own
//! string passes as it is. Signatures and encrypted thoughts of others (Anthropic's, Gemini's) are put into one that
//! names the issuer, so that they come back to it byte for byte and never go to anybody else. A signature on a tool
//! call (Gemini) has no item of its own: it gets one that names the call.
//!
//! The form is `portolan:1:A,B,C,D:` and then, without anything between, issuer, signature, encrypted thoughts and id
//! of the call, whose lengths in bytes are A to D; `-` is the length of what there is not. Lengths, rather than marks
//! between, because nothing may be assumed of what issuers write.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::json::Text;

/// How a string of ours begins.
pub const MARK: &str = "portolan:1:";
/// Most bytes that are carried: the largest proofs seen have some tens of thousands.
const MOST: usize = 4 << 20;
/// Most bytes of the lengths.
const HEAD: usize = 64;

/// What one string carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried<'a> {
    pub issuer: Option<Text<'a>>,
    pub signature: Option<Text<'a>>,
    pub encrypted: Option<Text<'a>>,
    /// The call that the signature is on.
    pub call: Option<Text<'a>>,
}

impl Carried<'_> {
    /// The string; `None` where it would be too long.
    pub fn pack(&self) -> Option<String> {
        let parts = [&self.issuer, &self.signature, &self.encrypted, &self.call];
        let size: usize = parts.iter().filter_map(|part| part.as_ref()).map(|part| part.len()).sum();
        if size > MOST {
            return None;
        }
        let mut out = String::with_capacity(size + HEAD);
        out.push_str(MARK);
        let lengths = parts.map(|part| part.as_ref().map_or_else(|| "-".to_owned(), |part| part.len().to_string()));
        out.push_str(&lengths.join(","));
        out.push(':');
        parts.into_iter().flatten().for_each(|part| out.push_str(part));
        Some(out)
    }
}

/// Whether a string is one of ours.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// What a string of ours carries; `None` where somebody changed it.
pub fn unpack<'a>(text: &Text<'a>) -> Option<Carried<'a>> {
    let rest = text.strip_prefix(MARK)?;
    let end = rest.bytes().take(HEAD).position(|byte| byte == b':')?;
    let mut at = MARK.len() + end + 1;
    let mut parts = rest.get(..end)?.split(',').map(|length| match length {
        "-" => Some(None),
        length => {
            let from = at;
            at = from.checked_add(length.parse().ok()?)?;
            piece(text, from..at).map(Some)
        }
    });
    let mut next = || parts.next().flatten();
    let carried = Carried { issuer: next()?, signature: next()?, encrypted: next()?, call: next()? };
    let right = parts.next().is_none();
    (right && at == text.len()).then_some(carried)
}

fn piece<'a>(text: &Text<'a>, range: Range<usize>) -> Option<Text<'a>> {
    Some(match &text.0 {
        Cow::Borrowed(text) => Text(Cow::Borrowed(text.get(range)?)),
        Cow::Owned(text) => Text(Cow::Owned(text.get(range)?.to_owned())),
    })
}

/// Digits of the id that answers' ids are made from.
const DIGITS: usize = 32;

/// Whether an item's id was made by us: no provider knows it.
pub fn is_made(id: &str) -> bool {
    let Some((_, rest)) = id.split_once('_') else { return false };
    let Some((digits, number)) = rest.split_once('_') else { return false };
    digits.len() == DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part() -> impl Strategy<Value = Option<Text<'static>>> {
        proptest::option::of(prop_oneof!["[-:,0-9]{0,6}", "\\PC{0,9}"].prop_map(Text::from))
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_byte_for_byte(
            issuer in part(), signature in part(), encrypted in part(), call in part(), junk in "\\PC{1,3}",
        ) {
            let carried = Carried { issuer, signature, encrypted, call };
            let packed = carried.pack().unwrap();
            prop_assert!(is_ours(&packed));
            prop_assert_eq!(unpack(&Text::from(packed.as_str())), Some(carried.clone()));
            prop_assert_eq!(unpack(&Text::from(packed.clone())), Some(carried));
            prop_assert_eq!(unpack(&Text::from(format!("{packed}{junk}"))), None);
        }

        #[test]
        fn anything_else_is_survived(text in "(portolan:1:)?[-0-9,:é]{0,20}") {
            let _ = unpack(&Text::from(text));
        }
    }

    #[test]
    fn lengths_beyond_the_text_are_refused() {
        for text in
            ["portolan:1:", "portolan:1:1,-,-:a", "portolan:1:18446744073709551615,1,-,-:a", "portolan:1:1,-,-,-:é"]
        {
            assert_eq!(unpack(&Text::from(text)), None, "{text}");
        }
        assert_eq!(Carried { signature: Some("x".repeat(MOST + 1).into()), ..Carried::default() }.pack(), None);
    }

    #[test]
    fn our_ids_are_told_from_a_providers() {
        assert!(is_made("rs_0123456789abcdef0123456789abcdef_0"));
        for other in [
            "rs_0123456789abcdef0123456789abcdef",
            "rs_68c42de022c881948db7ed1cc2529f2e0202c9ad459e0d23",
            "rs_",
            "x",
            "",
        ] {
            assert!(!is_made(other), "{other}");
        }
    }
}
