//! What a target could not be told, or a caller could not be shown: by name, never in silence.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::wire::json::clip;

/// One part of a request or an answer that did not come across as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub how: How,
    /// Path of the part in the sender's own words, for example `logit_bias` or `messages[2].content[0].image_url.detail`.
    /// Encoders of requests know only the IR and name what they lose by where it stands there, in the words of Chat
    /// Completions and with the IR's indices of messages, blocks and tools, until it is [told](Losses::told).
    pub path: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// Not sent.
    Dropped,
    /// Sent with another value (a temperature above the provider's range, an effort level as a budget).
    Altered,
    /// Reached by other means (a schema through a forced tool).
    Emulated,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            How::Dropped => "dropped",
            How::Altered => "altered",
            How::Emulated => "emulated",
        }
    }
}

/// In visible ASCII without commas, since names may be a caller's own: others as JSON escapes them (`\u00f6`). A header could
/// not hold them, and would be left out whole.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.how.name())?;
        for c in self.path.chars() {
            match c {
                '!'..='~' if c != ',' => f.write_char(c)?,
                _ => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }
}

/// Losses in the order they were met, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// No more than this many are kept: a request of a million odd members must not become a header.
    const MOST: usize = 256;
    /// Longest path in characters; a longer one is cut.
    const LONGEST: usize = 200;
    /// Most bytes of a header: clients take some 16 KiB of them altogether.
    const MOST_HEADER: usize = 4_096;

    pub fn dropped(&mut self, path: impl Into<Cow<'static, str>>) {
        self.add(How::Dropped, path.into());
    }

    pub fn altered(&mut self, path: impl Into<Cow<'static, str>>) {
        self.add(How::Altered, path.into());
    }

    pub fn emulated(&mut self, path: impl Into<Cow<'static, str>>) {
        self.add(How::Emulated, path.into());
    }

    pub fn add(&mut self, how: How, path: Cow<'static, str>) {
        let cut = clip(&path, Self::LONGEST);
        let path = if cut.len() < path.len() { Cow::Owned(format!("{cut}...")) } else { path };
        let loss = Loss { how, path };
        if self.0.len() < Self::MOST && !self.0.contains(&loss) {
            self.0.push(loss);
        }
    }

    /// The same losses under other names.
    pub fn told(&self, tell: &mut dyn FnMut(&str) -> String) -> Losses {
        let mut told = Losses::default();
        self.iter().for_each(|loss| told.add(loss.how, tell(&loss.path).into()));
        told
    }

    /// The form of the `x-portolan-loss` header: `dropped:seed, altered:temperature`. What goes beyond its bounds is counted
    /// (`and 17 more`).
    pub fn header(&self) -> String {
        let mut header = String::new();
        for (i, loss) in self.0.iter().enumerate() {
            let before = header.len();
            let gap = if i > 0 { ", " } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(header, "{gap}{loss}");
            if header.len() > Self::MOST_HEADER {
                header.truncate(before);
                let _ = write!(header, "{gap}and {} more", self.0.len().saturating_sub(i));
                break;
            }
        }
        header
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter()
    }

    /// Parts whose meaning did not arrive; what was emulated did.
    pub fn lasting(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter().filter(|loss| loss.how != How::Emulated)
    }
}

impl fmt::Display for Losses {
    /// All of them, as [`Losses::header`] has the first ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, loss) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{loss}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_told_in_what_a_header_holds() {
        let mut losses = Losses::default();
        losses.dropped("seed");
        losses.dropped("seed");
        losses.altered("\u{f6}, \u{1f30d}\n\"");
        losses.emulated("x".repeat(10_000));
        let header = losses.header();
        let long = "x".repeat(200);
        assert_eq!(
            header,
            format!(r#"dropped:seed, altered:\u00f6\u002c\u0020\ud83c\udf0d\u000a", emulated:{long}..."#)
        );
        assert_eq!(header, losses.to_string());
        assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }

    #[test]
    fn a_header_has_bounds() {
        let mut losses = Losses::default();
        (0..1_000).for_each(|name| losses.dropped(format!("{name:0>100}")));
        let header = losses.header();
        assert!(header.len() < 4_200 && header.ends_with(", and 219 more"), "{header}");
        assert_eq!(losses.iter().count(), 256);
    }
}
