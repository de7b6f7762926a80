//! What a target could not be told, or a caller could not be shown: by name, never in silence.

use std::borrow::Cow;
use std::fmt;

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

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.how.name(), self.path)
    }
}

/// Losses in the order they were met, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// No more than this many are kept: a request of a million odd members must not become a header.
    const MOST: usize = 256;

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
    /// The form of the `x-portolan-loss` header: `dropped:seed, altered:temperature`.
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
