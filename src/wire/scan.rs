//! One pass over a JSON body: is it JSON, is it too deep, and where are its top-level members.

use std::ops::Range;

/// The top-level members of an object body, by span.
#[derive(Clone, Debug, Default)]
pub struct Members {
    list: Vec<Member>,
}

/// One member: spans into the body.
#[derive(Clone, Debug)]
pub struct Member {
    /// Inside the quotes of the name.
    pub name: Range<usize>,
    /// The whole value.
    pub value: Range<usize>,
}

impl Members {
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }
}
