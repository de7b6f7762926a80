//! Edits to a body by span: what is not named stays, byte for byte.
//!
//! Removals are kept apart from replacements, since which comma goes with a removed member depends on which of its
//! neighbours go too: that is settled once, in [`Patch::apply`].

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use super::pieces::Pieces;
use super::scan::{Member, Members};
use super::writer;

/// Bytes that stay as they are, from which on it costs less to send them from where they lie than to copy them.
const SHARED: usize = 32 << 10;

/// Edits of one object body. Where spans overlap, the one that starts first is made and the other left out; of those
/// that start together a removal is made, then what was asked for first.
#[derive(Debug, Default)]
pub struct Patch {
    edits: Vec<(Range<usize>, Vec<u8>)>,
    /// Indices of removed members.
    removed: BTreeSet<usize>,
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
        if !members.may_have(name) {
            return;
        }
        for (index, member) in members.iter().enumerate() {
            if member.is_named(body, name) && self.removed.insert(index) {
                self.shape(members);
            }
        }
    }

    /// Gives all members of a name another one.
    pub fn rename(&mut self, members: &Members, body: &[u8], name: &str, new: &str) {
        for member in members.iter().filter(|member| member.is_named(body, name)) {
            let mut quoted = Vec::with_capacity(new.len() + 2);
            writer::string(&mut quoted, new);
            // Quotes and all: the inside of an empty name is an empty span, and those never overlap.
            self.replace(member.name.start.saturating_sub(1)..member.name.end + 1, quoted);
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

    /// The edited body, in one allocation of its exact size.
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let mut tail = Vec::new();
        let edits = self.edits(body.len(), &mut tail);
        let size = edits.iter().fold(body.len(), |size, (span, with)| size + with.len() - span.len());
        let mut out = Vec::with_capacity(size);
        let mut at = 0;
        for (span, with) in edits {
            out.extend_from_slice(body.get(at..span.start).unwrap_or_default());
            out.extend_from_slice(with);
            at = span.end;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
        out
    }

    /// The edited body, of which long runs that stay as they are are not copied.
    pub fn pieces(&self, body: &Bytes) -> Pieces {
        self.split(body, SHARED)
    }

    /// The same, where runs of so many bytes are long ones.
    pub(super) fn split(&self, body: &Bytes, long: usize) -> Pieces {
        let mut tail = Vec::new();
        let edits = self.edits(body.len(), &mut tail);
        let mut pieces = Pieces::default();
        let mut written = Vec::new();
        let mut at = 0;
        let end = (body.len()..body.len(), &[][..]);
        for (span, with) in edits.into_iter().chain([end]) {
            if span.start.saturating_sub(at) < long {
                written.extend_from_slice(body.get(at..span.start).unwrap_or_default());
            } else {
                pieces.push(std::mem::take(&mut written).into());
                pieces.push(body.slice(at..span.start));
            }
            written.extend_from_slice(with);
            at = span.end;
        }
        pieces.push(written.into());
        pieces
    }

    /// What is put in place of what, in order and apart from one another. `tail` keeps what is added at the end.
    fn edits<'e>(&'e self, length: usize, tail: &'e mut Vec<u8>) -> Vec<(Range<usize>, &'e [u8])> {
        let mut edits: Vec<(Range<usize>, &[u8])> = Vec::new();
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
        edits.extend(self.edits.iter().map(|(span, with)| (span.clone(), with.as_slice())));
        if let (Some(shape), false) = (&self.shape, tail.is_empty()) {
            let kept = (0..shape.members.len()).rev().find(|index| !self.removed.contains(index));
            // Right after the last member that stays, so that white space before the brace stays there.
            let at = kept.and_then(|index| shape.members.get(index)).map_or(shape.close, |span| span.end);
            edits.push((at..at, tail));
        }
        // Stable. An insertion where another edit begins comes before it.
        edits.sort_by_key(|(span, _)| (span.start, !span.is_empty()));
        let mut at = 0;
        edits.retain(|(span, _)| {
            let apart = span.start >= at && span.start <= span.end && span.end <= length;
            at = if apart { span.end } else { at };
            apart
        });
        edits
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

    #[test]
    fn white_space_stays_where_it_reads_well() {
        let body = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}\n";
        assert_eq!(edit(body, |p, m, b| p.remove(m, b, "a")), "{\n  \"b\": 2,\n  \"c\": 3\n}\n");
        assert_eq!(edit(body, |p, m, b| p.remove(m, b, "b")), "{\n  \"a\": 1,\n  \"c\": 3\n}\n");
        assert_eq!(edit(body, |p, m, b| p.remove(m, b, "c")), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
        assert_eq!(edit(body, |p, m, b| p.insert(m, b, "d", b"4")), body.replace(": 3", ": 3,\"d\":4"));
    }

    #[test]
    fn collisions_are_settled() {
        let edits = |edits: &[(Range<usize>, &str)]| {
            let mut patch = Patch::default();
            edits.iter().for_each(|(span, with)| patch.replace(span.clone(), *with));
            String::from_utf8(patch.apply(b"0123456789")).unwrap()
        };
        assert_eq!(edits(&[(2..4, "x"), (2..4, "y")]), "01x456789");
        assert_eq!(edits(&[(3..5, "y"), (2..6, "x")]), "01x6789");
        assert_eq!(edits(&[(2..4, "x"), (4..6, "y"), (4..4, "-"), (2..2, "+"), (4..4, "=")]), "01+x-=y6789");
        assert_eq!(edits(&[(8..20, "x"), (30..40, "y")]), "0123456789");
        #[expect(clippy::reversed_empty_ranges, reason = "what a confused caller might hand in")]
        let reversed = edits(&[(6..2, "x"), (4..5, "y")]);
        assert_eq!(reversed, "0123y56789");
        let named = edit(r#"{"a":1,"":2}"#, |p, m, b| {
            p.rename(m, b, "", "x");
            p.rename(m, b, "", "y");
            p.rename(m, b, "a", "z");
            p.remove(m, b, "a");
        });
        assert_eq!(named, r#"{"x":2}"#);
    }

    #[test]
    fn what_is_long_is_not_copied() {
        let long = "x".repeat(SHARED);
        let body = Bytes::from(format!(r#"{{"messages":"{long}","model":"alias","more":"{long}","last":1}}"#));
        let members = scan(&body, 64).unwrap();
        let mut patch = Patch::default();
        patch.replace_value(members.get(&body, "model").unwrap(), *b"\"gpt\"");
        patch.insert(&members, &body, "new", b"2");
        let pieces = patch.pieces(&body);
        let inside = |piece: &Bytes| body.as_ptr_range().contains(&piece.as_ptr());
        assert_eq!(pieces.iter().map(inside).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(&*pieces.whole(), patch.apply(&body));
        assert_eq!(pieces.get(1).unwrap(), "\"gpt\"");
        assert_eq!(pieces.get(3).unwrap(), ",\"new\":2}", "a short run is written anew");
    }

    proptest! {
        #[test]
        fn members_come_out_as_asked(
            body in crate::wire::laws::object(),
            edits in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            crate::wire::laws::patch_members(body.as_bytes(), &edits);
        }

        #[test]
        fn any_spans_are_survived(input in proptest::collection::vec(0u8..24, 0..60)) {
            crate::wire::laws::patch(&input);
        }

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
