//! Words that look like a secret in a place where none belongs: messages about the mistake do not repeat them.

use std::borrow::Cow;

/// What stands in a message instead.
pub const VEILED: &str = "[not shown: it looks like a secret]";

/// How the keys of this gateway, its administrators' tokens and most providers' keys begin.
const BEGINNINGS: [&str; 3] = ["pk-", "pa-", "sk-"];
/// Nobody's name is that long and has so many digits.
const LONG: usize = 16;
const DIGITS: usize = 4;

/// The name of a field or of anything else that is looked up and not found.
pub fn name(text: &str) -> &str {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let random = text.len() >= LONG && digits >= DIGITS;
    if random || BEGINNINGS.iter().any(|begin| text.contains(begin) && text.len() >= LONG) { VEILED } else { text }
}

/// A request's path, in which callers may have put their key. Names of models stay.
pub fn path(text: &str) -> Cow<'_, str> {
    let key = |part: &str| part.len() >= LONG && BEGINNINGS.iter().any(|begin| part.starts_with(begin));
    if !text.split(['/', ':', '=']).any(key) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(['/', ':', '=']) {
        let part = piece.trim_end_matches(['/', ':', '=']);
        let (shown, end) = if key(part) { (VEILED, piece.get(part.len()..).unwrap_or_default()) } else { (piece, "") };
        out.push_str(shown);
        out.push_str(end);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_keys_go() {
        for text in ["lisen", "apiKey", "client_secret_2", "api_kye", "insecure_skip_verify", "gpt-4o", "sk-x"] {
            assert_eq!(name(text), text);
        }
        for text in ["api_key:sk-proj-abcdefghijkl", "xO7lrmB5f7dxRXNROLPAeInQYZH48QFU", "pk-abcdefghijklmn"] {
            assert_eq!(name(text), VEILED, "{text}");
        }
    }

    #[test]
    fn keys_in_paths_go_and_all_else_stays() {
        for text in [
            "/",
            "",
            "/v1/chat/completions",
            "/v1beta/models/claude-sonnet-4-5-20250929:generateContent",
            "/v1/responses/resp_0123456789abcdef",
        ] {
            assert_eq!(path(text), text);
        }
        assert_eq!(path("/v1/pk-0123456789abcdef/chat"), format!("/v1/{VEILED}/chat"));
        assert_eq!(path("/x/sk-proj-0123456789:y"), format!("/x/{VEILED}:y"));
        assert_eq!(path("/token=pa-0123456789abcdef"), format!("/token={VEILED}"));
    }
}
