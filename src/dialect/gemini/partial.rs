//! The arguments of a call that comes in pieces (Vertex AI, `streamFunctionCallArguments`).
//!
//! Each piece names a place by JSONPath (RFC 9535) and brings a scalar, or the next part of a string. Places may come
//! in any order, so the arguments are built as a tree and told once they are whole. We never ask for this form; a
//! caller's own request that is passed through may, and recorded streams have it.

use super::wire::Partial;
use crate::wire::writer;

/// Most bytes of strings and names, and most places, that one call may have.
const MOST_BYTES: usize = 1 << 20;
const MOST_PLACES: usize = 4_096;
/// Deepest place.
const MOST_STEPS: usize = 64;

/// The arguments so far.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    root: Node,
    bytes: usize,
    places: usize,
}

/// Why a piece could not be put: its path is none, or there is too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misplaced;

#[derive(Debug, Default)]
enum Node {
    #[default]
    Empty,
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    String(String),
    /// A number, a truth value or null, as JSON.
    Scalar(String),
}

enum Step<'p> {
    Name(&'p str),
    Index(usize),
}

impl Pieces {
    pub(super) fn put(&mut self, piece: &Partial<'_>) -> Result<(), Misplaced> {
        let path = piece.path.as_deref().unwrap_or("$");
        let text = piece.string.as_deref();
        self.bytes = self.bytes.saturating_add(path.len()).saturating_add(text.map_or(0, str::len));
        if self.bytes > MOST_BYTES {
            return Err(Misplaced);
        }
        let mut node = &mut self.root;
        let mut rest = path.strip_prefix('$').ok_or(Misplaced)?;
        for _ in 0..MOST_STEPS {
            if rest.is_empty() {
                break;
            }
            let (step, after) = step(rest).ok_or(Misplaced)?;
            node = node.child(&step, &mut self.places).ok_or(Misplaced)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Misplaced);
        }
        match (text, node, &piece.number, piece.bool) {
            (Some(more), Node::String(text), ..) => text.push_str(more),
            (Some(text), node, ..) => *node = Node::String(text.to_owned()),
            (None, node, Some(number), _) => *node = Node::Scalar(number.get().to_owned()),
            (None, node, None, Some(yes)) => *node = Node::Scalar(yes.to_string()),
            (None, node @ Node::Empty, None, None) => *node = Node::Scalar("null".to_owned()),
            // The mark that a place which has its value is done.
            (None, _, None, None) => {}
        }
        Ok(())
    }

    /// The arguments as JSON; an object even where no piece came.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.root {
            Node::Empty => out.extend_from_slice(b"{}"),
            root => root.write(&mut out),
        }
        out
    }
}

impl Node {
    /// The place below this one that a step leads to, made and counted where it is missing.
    fn child(&mut self, step: &Step<'_>, places: &mut usize) -> Option<&mut Node> {
        match *step {
            Step::Name(name) => {
                if !matches!(self, Node::Object(_)) {
                    *self = Node::Object(Vec::new());
                }
                let Node::Object(members) = self else { return None };
                let at = match members.iter().position(|(known, _)| known == name) {
                    Some(at) => at,
                    None => {
                        *places = places.checked_add(1).filter(|places| *places <= MOST_PLACES)?;
                        members.push((name.to_owned(), Node::Empty));
                        members.len().saturating_sub(1)
                    }
                };
                members.get_mut(at).map(|(_, node)| node)
            }
            Step::Index(index) => {
                if !matches!(self, Node::Array(_)) {
                    *self = Node::Array(Vec::new());
                }
                let Node::Array(items) = self else { return None };
                let missing = index.checked_add(1)?.saturating_sub(items.len());
                *places = places.checked_add(missing).filter(|places| *places <= MOST_PLACES)?;
                items.extend(std::iter::repeat_with(|| Node::Empty).take(missing));
                items.get_mut(index)
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Empty => out.extend_from_slice(b"null"),
            Node::Object(members) => writer::object(out, |o| {
                for (name, node) in members {
                    node.write(o.value(name));
                }
            }),
            Node::Array(items) => writer::array(out, |a| {
                for node in items {
                    node.write(a.value());
                }
            }),
            Node::String(text) => writer::string(out, text),
            Node::Scalar(json) => out.extend_from_slice(json.as_bytes()),
        }
    }
}

/// The first step of a path and what follows it: `.name`, `[0]`, `['name']` or `["name"]`.
fn step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(rest) = path.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        return (!name.is_empty()).then_some((Step::Name(name), after));
    }
    let rest = path.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(rest) = rest.strip_prefix(quote) {
            let (name, after) = rest.split_once(quote)?;
            return Some((Step::Name(name), after.strip_prefix(']')?));
        }
    }
    let (index, after) = rest.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn built(pieces: &[&str]) -> Result<String, Misplaced> {
        let mut call = Pieces::default();
        for piece in pieces {
            call.put(&json::read(piece.as_bytes()).unwrap())?;
        }
        Ok(String::from_utf8(call.json()).unwrap())
    }

    #[test]
    fn pieces_find_their_places() {
        let pieces = [
            r#"{"jsonPath":"$.recipe.name","stringValue":"La\"sa","willContinue":true}"#,
            r#"{"jsonPath":"$.recipe.name","stringValue":"gna","willContinue":true}"#,
            r#"{"jsonPath":"$.recipe.name","stringValue":""}"#,
            r#"{"jsonPath":"$.recipe.steps[1].minutes","numberValue":1.10}"#,
            r#"{"jsonPath":"$['a.b']","boolValue":false}"#,
            r#"{"jsonPath":"$.none","nullValue":"NULL_VALUE"}"#,
        ];
        let whole = r#"{"recipe":{"name":"La\"sagna","steps":[null,{"minutes":1.10}]},"a.b":false,"none":null}"#;
        assert_eq!(built(&pieces).unwrap(), whole);
        assert_eq!(built(&[]).unwrap(), "{}");
    }

    #[test]
    fn bad_paths_and_too_much_are_refused() {
        for path in
            ["location", "$.", "$[", "$[x]", "$['a", "$[4096]", "$[2000][2000][2000]", "$[99999999999999999999]"]
        {
            assert_eq!(built(&[&format!(r#"{{"jsonPath":"{path}","stringValue":"x"}}"#)]), Err(Misplaced), "{path}");
        }
        let deep = format!(r#"{{"jsonPath":"${}","stringValue":"x"}}"#, ".a".repeat(65));
        assert_eq!(built(&[&deep]), Err(Misplaced));
        let mut call = Pieces::default();
        let long = format!(r#"{{"jsonPath":"$.a","stringValue":"{}"}}"#, "x".repeat(1 << 19));
        let long = json::read(long.as_bytes()).unwrap();
        assert_eq!((call.put(&long), call.put(&long)), (Ok(()), Err(Misplaced)));
    }
}
