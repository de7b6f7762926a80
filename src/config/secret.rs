//! `${ENV}` and `file:`: how values that do not belong into a file get there.
//!
//! Expansion happens once, on the file's text values, before anything else looks at them; what an environment variable
//! contains is never expanded again, and neither is anything that arrives later.

use crate::wire::yaml::{Node, Value};

use super::problem::{Problems, Route};

/// What a credential in the file turned out to be.
#[derive(Clone, PartialEq, Eq)]
pub enum Resolved {
    Secret(String),
    /// The whole value is one variable, and it is not set: nothing is wrong, something is not there yet.
    Unset(String),
}

/// Expands `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. A variable that is set to nothing counts as unset,
/// as in a shell's `:-`.
///
/// # Errors
/// A sentence about what is wrong: an unset variable, an unclosed brace, a lone dollar sign.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err("`${` is never closed: write `${NAME}`, or `$$` for a dollar sign".to_owned());
            };
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err(
                    "a variable's name is letters, digits and underscores: write `${NAME}` or `${NAME:-default}`"
                        .to_owned(),
                );
            }
            match (env(name).filter(|value| !value.is_empty()), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(format!(
                        "the environment variable {name} is not set: set it, or give a default with `${{{name}:-default}}`"
                    ));
                }
            }
            rest = after;
        } else {
            return Err("a lone `$`: write `${NAME}` for a variable, `$$` for a dollar sign".to_owned());
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Resolves a credential: `${VAR}`, text with variables in it, or `file:/path`, whose content it is (a closing line
/// break cut off).
///
/// # Errors
/// A sentence about what is wrong. Never contains the secret.
pub fn resolve(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<Resolved, String> {
    if let Some(name) = lone_variable(text)
        && env(name).is_none_or(|value| value.is_empty())
    {
        return Ok(Resolved::Unset(name.to_owned()));
    }
    let text = expand(text, env)?;
    let Some(path) = text.strip_prefix("file:") else {
        return if text.trim().is_empty() {
            Err("the secret is empty: write `${NAME}`, `file:/path` or the key itself".to_owned())
        } else {
            Ok(Resolved::Secret(text))
        };
    };
    let bytes = read(path)?;
    let content =
        String::from_utf8(bytes).map_err(|_| format!("{path} is not text: it must hold the key and nothing else"))?;
    let content = content.trim_end_matches(['\r', '\n']);
    if content.trim().is_empty() {
        return Err(format!("{path} is empty: put the key into it"));
    }
    Ok(Resolved::Secret(content.to_owned()))
}

/// Expands every text value of a tree but credentials, which [`resolve`] treats on their own.
pub fn expand_tree(node: &mut Node, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    walk(node, &Route::default(), 0, env, problems);
}

/// `depth` is what tells a provider's `api_key` from a key of that name elsewhere. Recursion is bounded by the parser.
fn walk(node: &mut Node, route: &Route, depth: usize, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    let at = node.at;
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match expand(text, env) {
            Ok(expanded) => *text = expanded,
            Err(message) => problems.at(at, route, message),
        },
        Value::List(items) => {
            for (number, item) in items.iter_mut().enumerate() {
                walk(item, &route.index(number), depth + 1, env, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                if depth == 2 && holds_secrets(&entry.key, &entry.value) {
                    continue;
                }
                walk(&mut entry.value, &route.key(&entry.key), depth + 1, env, problems);
            }
        }
        _ => {}
    }
}

/// Whether a field of a provider is one whose texts are credentials.
fn holds_secrets(field: &str, value: &Node) -> bool {
    let source = || ["aws", "entra", "google_service_account"].iter().any(|kind| value.member(kind).is_some());
    matches!(field, "api_key" | "api_keys" | "headers") || field == "auth" && source()
}

/// `NAME` of a text that is `${NAME}` and nothing else.
fn lone_variable(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".into()),
            "EMPTY" => Some(String::new()),
            "SLY" => Some("${A}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_expand_once() {
        let cases = [
            ("x${A}y", "xoney"),
            ("${A}${A}", "oneone"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${A:-d}", "one"),
            ("${NONE:-}", ""),
            ("$$${A}$$", "$one$"),
            ("${SLY}", "${A}"),
            ("$${A}", "${A}"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &env).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${NONE}", "${EMPTY}", "${A", "$A", "a$", "${}", "${1A}", "${A B}"] {
            assert!(expand(text, &env).is_err(), "{text}");
        }
    }

    #[test]
    fn a_credential_is_a_secret_or_asleep_or_wrong() {
        let mut read = |path: &str| match path {
            "/k" => Ok(b"sk-file\n".to_vec()),
            "/none" => Ok(b"\n".to_vec()),
            _ => Err("cannot be read".to_owned()),
        };
        let mut resolved = |text: &str| match resolve(text, &env, &mut read) {
            Ok(Resolved::Secret(secret)) => format!("secret {secret}"),
            Ok(Resolved::Unset(name)) => format!("unset {name}"),
            Err(_) => "wrong".to_owned(),
        };
        assert_eq!(resolved("${A}"), "secret one");
        assert_eq!(resolved("${NONE}"), "unset NONE");
        assert_eq!(resolved("${EMPTY}"), "unset EMPTY");
        assert_eq!(resolved("file:/k"), "secret sk-file");
        assert_eq!(resolved("sk-$$x"), "secret sk-$x");
        for text in ["", "  ", "${NONE:-}", "file:/none", "file:/gone", "pre${NONE}"] {
            assert_eq!(resolved(text), "wrong", "{text}");
        }
    }
}
