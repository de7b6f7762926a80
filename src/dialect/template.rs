//! Paths that a provider has in place of its dialect's own, as data.
//!
//! A template is what comes after the base URL, as it goes on the wire, perhaps with a query. Marks stand in it, in the
//! notation of RFC 6570: `{model}` is the target's model as one segment, `{+model}` keeps the model's slashes, and
//! `{api_version}` is the provider's version.

use super::{Outbound, Quirks, To};

/// Longest template.
const LONGEST: usize = 512;

/// Appends path and query of an attempt: the provider's own ones, else the dialect's.
pub fn path(outbound: &dyn Outbound, to: &To<'_>, out: &mut String) {
    match to.quirks.template(to.stream) {
        Some(template) => fill(template, to, out),
        None => outbound.path(to, out),
    }
}

impl Quirks {
    /// The path in place of the dialect's own, where there is one.
    pub fn template(&self, stream: bool) -> Option<&str> {
        self.stream_path.as_deref().filter(|_| stream).or(self.path.as_deref())
    }
}

/// Checks a template; `version`: whether there is one to put in.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn check(template: &str, version: bool) -> Result<(), String> {
    if !template.starts_with('/') {
        return Err("write a path that begins with a slash, such as /models/{model}:generate".to_owned());
    }
    if template.len() > LONGEST {
        return Err(format!("a path has at most {LONGEST} bytes"));
    }
    let mut plain = String::new();
    for piece in Pieces(template) {
        match piece {
            Piece::Text(text) => plain.push_str(text),
            Piece::Mark("model" | "+model") => plain.push('m'),
            Piece::Mark("api_version") if version => plain.push('v'),
            Piece::Mark("api_version") => {
                return Err("`{api_version}` stands here and none is given: add `api_version`".to_owned());
            }
            Piece::Mark(_) => return Err("write {model}, {+model} or {api_version} between braces".to_owned()),
        }
    }
    let graphic = plain.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}#\"<>\\^`|".contains(&byte));
    if !graphic || plain.parse::<http::uri::PathAndQuery>().is_err() {
        return Err("not a path: write it as it goes into a URL, percent-encoded".to_owned());
    }
    Ok(())
}

/// Whether a template says which model is meant.
pub fn names_model(template: &str) -> bool {
    Pieces(template).any(|piece| matches!(piece, Piece::Mark("model" | "+model")))
}

/// Whether a dialect says in its own path, and so not in the body, which model is meant.
pub fn is_in_path(outbound: &dyn Outbound) -> bool {
    const NAME: &str = "a-model-name";
    let to = To { model: NAME, stream: false, quirks: &Quirks::default(), abilities: &super::Abilities::default() };
    let mut path = String::new();
    outbound.path(&to, &mut path);
    path.contains(NAME)
}

/// Appends one segment of a path (RFC 3986 section 3.3). The colon is encoded too, since it parts a model from a method,
/// and so are the dots of `.` and `..`, which a server would take as steps.
pub(super) fn segment(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let step = matches!(text, "." | "..");
    for byte in text.bytes() {
        match byte {
            b'.' if step => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
                }
            }
        }
    }
}

fn fill(template: &str, to: &To<'_>, out: &mut String) {
    for piece in Pieces(template) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Mark("model") => segment(to.model, out),
            Piece::Mark("+model") => {
                for (number, part) in to.model.split('/').enumerate() {
                    if number > 0 {
                        out.push('/');
                    }
                    segment(part, out);
                }
            }
            Piece::Mark("api_version") => out.push_str(to.quirks.api_version.as_deref().unwrap_or_default()),
            // The configuration has been checked for that.
            Piece::Mark(_) => {}
        }
    }
}

enum Piece<'t> {
    Text(&'t str),
    /// What stands between braces.
    Mark(&'t str),
}

/// The pieces of a template. A brace without its other one is text.
struct Pieces<'t>(&'t str);

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        if self.0.is_empty() {
            return None;
        }
        if let Some((mark, rest)) = self.0.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            self.0 = rest;
            return Some(Piece::Mark(mark));
        }
        // A brace that opens nothing goes with the text, lest it be looked at for ever.
        let end = self.0.char_indices().skip(1).find(|(_, c)| *c == '{').map_or(self.0.len(), |(at, _)| at);
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(Piece::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Abilities, DIALECTS, anthropic, gemini};
    use proptest::prelude::*;

    fn filled(template: &str, model: &str) -> String {
        let quirks = Quirks { api_version: Some("2024-10-21".into()), ..Quirks::default() };
        let mut out = String::new();
        fill(template, &To { model, stream: false, quirks: &quirks, abilities: &Abilities::default() }, &mut out);
        out
    }

    #[test]
    fn a_model_is_one_segment_unless_slashes_are_asked_for() {
        let cases = [
            (
                "/models/{model}:rawPredict",
                "claude-sonnet-4-5@20250929",
                "/models/claude-sonnet-4-5@20250929:rawPredict",
            ),
            ("/d/{model}/c?api-version={api_version}", "gpt/4 é", "/d/gpt%2F4%20%C3%A9/c?api-version=2024-10-21"),
            ("/{+model}:x?a=b", "projects/p/models/m:1", "/projects/p/models/m%3A1:x?a=b"),
            ("/{+model}", "../a/./b?c#d", "/%2E%2E/a/%2E/b%3Fc%23d"),
            ("/{model}", "..", "/%2E%2E"),
            ("/{model}/{model}", "m", "/m/m"),
        ];
        for (template, model, wanted) in cases {
            check(template, true).unwrap();
            assert_eq!(filled(template, model), wanted);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for template in [
            "",
            "models/{model}",
            "/{modle}",
            "/{}",
            "/{model",
            "/model}",
            "/{{model}}",
            "/a b",
            "/é",
            "/a#b",
            "/a\n",
            &format!("/{}", "a".repeat(600)),
        ] {
            assert!(check(template, true).is_err(), "{template}");
        }
        assert!(check("/{model}?v={api_version}", false).unwrap_err().contains("api_version"));
        assert!(check("/v1/x?a=b&c=%20", false).is_ok());
    }

    #[test]
    fn streams_may_have_a_path_of_their_own() {
        let outbound = anthropic::DIALECT.outbound.unwrap();
        let path = |path: Option<&str>, stream_path: Option<&str>, stream| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let quirks = Quirks { path: own(path), stream_path: own(stream_path), ..Quirks::default() };
            let mut out = String::new();
            super::path(
                outbound,
                &To { model: "m", stream, quirks: &quirks, abilities: &Abilities::default() },
                &mut out,
            );
            out
        };
        assert_eq!((path(None, None, false).as_str(), path(None, None, true).as_str()), ("/messages", "/messages"));
        assert_eq!((path(Some("/p"), None, false).as_str(), path(Some("/p"), None, true).as_str()), ("/p", "/p"));
        assert_eq!(path(None, Some("/s/{model}"), false), "/messages");
        assert_eq!(path(Some("/p"), Some("/s/{model}"), true), "/s/m");
    }

    #[test]
    fn dialects_tell_where_they_name_the_model() {
        assert!(is_in_path(gemini::DIALECT.outbound.unwrap()));
        assert!(!is_in_path(anthropic::DIALECT.outbound.unwrap()));
        assert!(DIALECTS.iter().filter_map(|dialect| dialect.outbound).any(is_in_path));
    }

    proptest! {
        #[test]
        fn any_model_makes_a_path(model in "\\PC{0,40}", keep in any::<bool>()) {
            let path = filled(if keep { "/a/{+model}:b?c=d" } else { "/a/{model}:b?c=d" }, &model);
            let parsed: http::uri::PathAndQuery = path.parse().unwrap();
            prop_assert_eq!(parsed.query(), Some("c=d"));
            let slashes = if keep { model.matches('/').count() } else { 0 };
            prop_assert_eq!(path.matches('/').count(), 2 + slashes);
        }

        #[test]
        fn any_template_is_survived(template in "[/a{}+model?#é]{0,30}") {
            if check(&template, true).is_ok() {
                let path = filled(&template, "m");
                prop_assert!(path.parse::<http::uri::PathAndQuery>().is_ok(), "{}", path);
            }
        }
    }
}
