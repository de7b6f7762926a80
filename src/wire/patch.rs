//! Edits to a body by span: what is not named stays, byte for byte.
//!
//! Removals are kept apart from replacements, since which comma goes with a removed member depends on which of its
//! neighbours go too: that is settled once, in [`Patch::apply`].

use std::ops::Range;

use super::scan::{Member, Members};
use super::writer;

/// Edits of one object body.
#[derive(Debug, Default)]
pub struct Patch {
    /// Spans must not overlap; one that does is left out.
    edits: Vec<(Range<usize>, Vec<u8>)>,
    /// Indices of removed members.
    removed: Vec<usize>,
    /// Members to add at the end: name and value, as JSON.
    added: Vec<u8>,
    /// What `removed` and `added` need to know of the body.
    shape: Option<Shape>,
}

#[derive(Debug)]
struct Shape {
    /// Name with its quotes, to the end of the value.
    members: Vec<Range<usize>>,
    close: usize,
}

impl Patch {
    /// Puts `with` in place of `span`; an empty span inserts.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Vec<u8>>) {
        self.edits.push((span, with.into()));
    }

    /// Puts another value, written as JSON, in place of a member's.
    pub fn replace_value(&mut self, member: &Member, json: impl Into<Vec<u8>>) {
        self.replace(member.value.clone(), json);
    }

    /// Takes out all members of a name.
    pub fn remove(&mut self, members: &Members, body: &[u8], name: &str) {
        for (index, member) in members.iter().enumerate() {
            if member.is_named(body, name) && !self.removed.contains(&index) {
                self.removed.push(index);
                self.shape(members);
            }
        }
    }

    /// Gives all members of a name another one.
    pub fn rename(&mut self, members: &Members, body: &[u8], name: &str, new: &str) {
        for member in members.iter().filter(|member| member.is_named(body, name)) {
            let mut escaped = Vec::with_capacity(new.len());
            writer::escape(&mut escaped, new);
            self.replace(member.name.clone(), escaped);
        }
    }

    /// Adds a member, its value written as JSON, at the end.
    pub fn insert(&mut self, members: &Members, _body: &[u8], name: &str, json: &[u8]) {
        if !self.added.is_empty() {
            self.added.push(b',');
        }
        writer::string(&mut self.added, name);
        self.added.push(b':');
        self.added.extend_from_slice(json);
        self.shape(members);
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.removed.is_empty() && self.added.is_empty()
    }

    /// The edited body, in one allocation.
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let mut edits: Vec<(Range<usize>, &[u8])> =
            self.edits.iter().map(|(span, with)| (span.clone(), with.as_slice())).collect();
        let mut tail = Vec::new();
        if let Some(shape) = &self.shape {
            edits.extend(self.removals(shape).map(|span| (span, &[][..])));
            if !self.added.is_empty() {
                let all_gone = self.removed.len() == shape.members.len();
                if !all_gone {
                    tail.push(b',');
                }
                tail.extend_from_slice(&self.added);
            }
        }
        if let (Some(shape), false) = (&self.shape, tail.is_empty()) {
            let kept = (0..shape.members.len()).rev().find(|index| !self.removed.contains(index));
            // Right after the last member that stays, so that white space before the brace stays there.
            let at = kept.and_then(|index| shape.members.get(index)).map_or(shape.close, |span| span.end);
            edits.push((at..at, &tail));
        }
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        let size = edits.iter().fold(body.len(), |size, (span, with)| size + with.len().saturating_sub(span.len()));
        let mut out = Vec::with_capacity(size);
        let mut at = 0;
        for (span, with) in edits {
            if span.start < at || span.end > body.len() {
                continue;
            }
            out.extend_from_slice(body.get(at..span.start).unwrap_or_default());
            out.extend_from_slice(with);
            at = span.end;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
        out
    }

    /// The spans to cut: each run of removed members with the commas that are then too many.
    fn removals<'s>(&'s self, shape: &'s Shape) -> impl Iterator<Item = Range<usize>> + 's {
        let gone = |index: usize| self.removed.contains(&index);
        let members = &shape.members;
        let first_kept = (0..members.len()).find(|index| !gone(*index));
        (0..members.len()).filter(move |index| gone(*index)).filter_map(move |index| {
            let span = members.get(index)?;
            match first_kept {
                // All go: what stands between the braces goes with them.
                None if index == 0 => Some(span.start..members.last()?.end),
                None => None,
                // Before the first that stays: up to where the next one begins.
                Some(kept) if index < kept => Some(span.start..members.get(index + 1)?.start),
                // After it: from where the one before ended.
                Some(_) => Some(members.get(index.checked_sub(1)?)?.end..span.end),
            }
        })
    }

    fn shape(&mut self, members: &Members) {
        if self.shape.is_none() {
            self.shape = Some(Shape {
                members: members.iter().map(|member| member.name.start.saturating_sub(1)..member.value.end).collect(),
                close: members.close(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scan::scan;
    use proptest::prelude::*;

    fn edit(body: &str, with: impl FnOnce(&mut Patch, &Members, &[u8])) -> String {
        let members = scan(body.as_bytes(), 64).unwrap();
        let mut patch = Patch::default();
        with(&mut patch, &members, body.as_bytes());
        String::from_utf8(patch.apply(body.as_bytes())).unwrap()
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        let body = r#"{ "temperature": 1.10, "model" : "alias", "big":12345678901234567890123,  "x":1,"x":2 , "tags":{"a":"b"} }"#;
        let edited = edit(body, |patch, members, body| {
            patch.replace_value(members.get(body, "model").unwrap(), *b"\"gpt\"");
            patch.remove(members, body, "tags");
        });
        assert_eq!(edited, r#"{ "temperature": 1.10, "model" : "gpt", "big":12345678901234567890123,  "x":1,"x":2 }"#);
    }

    #[test]
    fn the_only_member_goes_and_another_comes() {
        assert_eq!(edit(r#"{"a":1}"#, |p, m, b| p.remove(m, b, "a")), "{}");
        assert_eq!(edit(r#"{ "a":1, "a":2 }"#, |p, m, b| p.remove(m, b, "a")), "{  }");
        assert_eq!(edit("{}", |p, m, b| p.insert(m, b, "z", b"1")), r#"{"z":1}"#);
        let both = edit(r#"{"a":1,"b":2}"#, |p, m, b| {
            p.remove(m, b, "a");
            p.remove(m, b, "b");
            p.insert(m, b, "z", b"[]");
            p.insert(m, b, "y", b"{}");
        });
        assert_eq!(both, r#"{"z":[],"y":{}}"#);
        assert_eq!(edit(r#"{"a":1}"#, |p, m, b| p.rename(m, b, "a", "q\"")), r#"{"q\"":1}"#);
    }

    proptest! {
        #[test]
        fn edits_do_what_they_say(
            names in proptest::collection::vec("[a-d]", 0..7),
            gone in proptest::collection::vec("[a-d]", 0..3),
            renamed in proptest::option::of("[a-d]"),
            added in 0usize..3,
            space in "[ \n]{0,2}",
        ) {
            let list: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{space}\"{name}\"{space}:{space}[{i}]{space}")).collect();
            let body = format!("{{{}{space}}}", list.join(","));
            let edited = edit(&body, |patch, members, body| {
                for name in &gone { patch.remove(members, body, name); }
                if let Some(name) = renamed.as_ref().filter(|name| !gone.contains(name)) {
                    patch.rename(members, body, name, "new");
                }
                for n in 0..added { patch.insert(members, body, "added", n.to_string().as_bytes()); }
            });
            let mut want: Vec<(String, String)> = names.iter().enumerate()
                .filter(|(_, name)| !gone.contains(name))
                .map(|(i, name)| (if renamed.as_ref() == Some(name) { "new".into() } else { name.clone() }, format!("[{i}]")))
                .collect();
            want.extend((0..added).map(|n| ("added".to_owned(), n.to_string())));
            let members = scan(edited.as_bytes(), 64).unwrap_or_else(|e| panic!("{edited}: {e}"));
            let got: Vec<(String, String)> = members.iter()
                .map(|m| (m.name(edited.as_bytes()).to_string(), edited[m.value.clone()].to_owned()))
                .collect();
            prop_assert_eq!(got, want, "{}", edited);
        }
    }
}
