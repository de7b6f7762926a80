//! Names of functions that Gemini refuses, in a form that it takes and that tells the way back.
//!
//! Gemini wants a name to begin with a letter or `_` and to have letters, digits, `_`, `.`, `:` and `-` only (API
//! reference, `FunctionDeclaration`, seen 2026-11-21); OpenAI takes `3d_render` and `-x`. Such a name is sent behind a
//! prefix, other bytes as `.` and two hexadecimal digits, and is put back when the model calls it. An answer is decoded
//! without its request at hand, so the name itself must show that it was changed; one that begins with the prefix of
//! its own is changed too.

use std::borrow::Cow;

use crate::wire::json::Text;

const PREFIX: &str = "_portolan.";
/// Longest name that Gemini takes.
pub(super) const LONGEST: usize = 128;

/// The name as it is sent: borrowed where Gemini takes it as it is.
pub(super) fn safe(name: &str) -> Cow<'_, str> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && !name.starts_with(PREFIX) && name.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b':')) {
        return Cow::Borrowed(name);
    }
    let mut out = String::from(PREFIX);
    for byte in name.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
            continue;
        }
        out.push('.');
        for nibble in [byte >> 4, byte & 15] {
            out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
        }
    }
    Cow::Owned(out)
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The caller's name again. One that [`safe`] did not make stays as it is.
pub(super) fn original(name: Text<'_>) -> Text<'_> {
    match name.strip_prefix(PREFIX).and_then(unescape) {
        Some(original) => original.into(),
        None => name,
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut pieces = text.split('.');
    out.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        out.push(u8::from_str_radix(hex, 16).ok()?);
        out.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_gemini_takes_stay() {
        for name in ["get_weather", "_a.b:c-d", "x", "_portolan"] {
            assert!(matches!(safe(name), Cow::Borrowed(_)), "{name}");
        }
        assert_eq!(safe("3d_render"), "_portolan.3d_render");
        assert_eq!(safe("a b"), "_portolan.a.20b");
        assert_eq!(original("_portolan.nothing.zz".into()), "_portolan.nothing.zz");
    }

    proptest! {
        #[test]
        fn there_and_back(name in prop_oneof![".{0,20}", "_portolan.{0,8}", "[0-9.:-][a-z.:]{0,9}"]) {
            let sent = safe(&name);
            prop_assert!(sent.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_'));
            prop_assert!(sent.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b':')));
            let back = original(Text::from(sent.clone().into_owned()));
            prop_assert_eq!(back.as_str(), &name);
        }
    }
}
