//! Where an answer that broke and its continuation meet: what the model says again is left out, and nothing else.
//!
//! A model that is given the beginning of its answer goes on behind it, or (Mistral) says the beginning again; white space at
//! its end was taken away and comes again. One that was told to go on may repeat the last words, or begin anew. So the new text is
//! held while all of it stands in the old one, and then what of it is the old one's end is left out, if it is long enough
//! to be no chance.

/// New text that may still turn out to be old.
#[derive(Debug, Default)]
pub struct Joint {
    held: String,
}

/// Bytes that are no chance wherever they begin, and where a word begins.
const LONG: usize = 12;
const WORD: usize = 3;
/// How far back repeated words are looked for.
const BACK: usize = 4_096;

impl Joint {
    /// Takes new text; gives what of it is really new once that is clear.
    pub fn take(&mut self, old: &str, text: &str) -> Option<String> {
        self.held.push_str(text);
        if self.held.is_empty() || is_open(old, &self.held) {
            return None;
        }
        Some(self.rest(old))
    }

    /// What is new if nothing more comes.
    pub fn rest(&self, old: &str) -> String {
        self.held.get(repeated(old, &self.held)..).unwrap_or_default().to_owned()
    }
}

/// Whether what is held may go on to repeat the end of the old text.
fn is_open(old: &str, held: &str) -> bool {
    let inside = |text: &str| text.match_indices(held).any(|(at, _)| at + held.len() < text.len());
    (held.len() < old.len() && old.starts_with(held)) || inside(end(old))
}

/// Bytes of the new text that the old one ends with.
fn repeated(old: &str, new: &str) -> usize {
    if new.starts_with(old) {
        return old.len();
    }
    let begun = old.trim_end();
    // Begun anew, but for the white space at the end.
    if begun.len() >= LONG
        && let Some(rest) = new.strip_prefix(begun)
    {
        return begun.len() + common(old.get(begun.len()..).unwrap_or_default(), rest);
    }
    let back = end(old);
    let starts = back.char_indices().map(|(at, _)| at);
    let found = starts.filter_map(|at| back.get(at..).filter(|tail| new.starts_with(tail)).map(|tail| (at, tail)));
    for (at, tail) in found {
        let before = back.get(..at).and_then(|text| text.chars().next_back());
        let word = before.is_none_or(|c| !c.is_alphanumeric()) && tail.chars().any(char::is_alphanumeric);
        let white = tail.trim().is_empty();
        if white || tail.len() >= LONG || (word && tail.len() >= WORD) {
            return tail.len();
        }
    }
    0
}

/// How far two texts are the same, in whole characters.
fn common(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

/// The last part of a text.
fn end(text: &str) -> &str {
    let from = text.len().saturating_sub(BACK);
    let at = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(at..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The old text and what comes of a continuation in these pieces.
    fn joined(old: &str, pieces: &[&str]) -> String {
        let mut text = old.to_owned();
        let mut joint = Some(Joint::default());
        for piece in pieces {
            match &mut joint {
                Some(held) => {
                    if let Some(new) = held.take(old, piece) {
                        text.push_str(&new);
                        joint = None;
                    }
                }
                None => text.push_str(piece),
            }
        }
        if let Some(held) = joint {
            text.push_str(&held.rest(old));
        }
        text
    }

    #[test]
    fn what_is_repeated_is_left_out_and_nothing_else() {
        for (old, pieces, whole) in [
            ("The quick brown", &[" fox"][..], "The quick brown fox"),
            ("The quick bro", &["wn fox"], "The quick brown fox"),
            // The last words again, or one of them.
            ("The quick brown", &["quick brown", " fox"], "The quick brown fox"),
            ("The quick brown", &["brown fox"], "The quick brown fox"),
            ("The quick brown ", &["brown fox"], "The quick brown fox"),
            // All of it again.
            ("The quick brown", &["The", " quick", " brown", " fox"], "The quick brown fox"),
            ("The quick brown \n", &["The quick brown", " fox"], "The quick brown \nfox"),
            // White space that was taken away, and other white space.
            ("The quick ", &[" brown"], "The quick brown"),
            ("One\n\n", &["\n", "\nTwo"], "One\n\nTwo"),
            ("One\n", &["\n\nTwo"], "One\n\nTwo"),
            ("One", &["\n\nTwo"], "One\n\nTwo"),
            // A chance is none.
            ("banana", &["na"], "bananana"),
            ("It is 1", &["1"], "It is 11"),
            // Not only Latin letters.
            ("Grüße aus Köln", &["aus Köln", " und Bonn"], "Grüße aus Köln und Bonn"),
            ("今日は良い天気です", &["良い天気です", "ね"], "今日は良い天気ですね"),
            ("🙂🙃", &["🙂"], "🙂🙃🙂"),
            // Nothing more.
            ("The end.", &[], "The end."),
            ("The end.", &["The", " end."], "The end."),
        ] {
            assert_eq!(joined(old, pieces), whole, "{old:?} + {pieces:?}");
        }
    }

    proptest! {
        /// A text that is said again from anywhere is there once, however it comes.
        #[test]
        fn said_again_it_is_there_once(
            words in prop::collection::vec("[a-zé]{5,9}", 4..30), cut in 3usize..20, back in 2usize..20, size in 1usize..9,
        ) {
            let mut words = words;
            words.iter_mut().enumerate().for_each(|(n, word)| word.push_str(&n.to_string()));
            let cut = cut.min(words.len() - 1);
            let old = words[..cut].join(" ");
            let again = words[cut.saturating_sub(back)..].join(" ");
            let pieces: Vec<String> = again.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(joined(&old, &pieces), words.join(" "));
        }

        /// Nothing is lost of a text that has nothing in common with the old one.
        #[test]
        fn what_is_new_stays(old in "[a-z ]{1,60}", new in "[A-Z]{1,40}", size in 1usize..9) {
            let pieces: Vec<&str> = new.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            prop_assert_eq!(joined(&old, &pieces), format!("{old}{new}"));
        }
    }
}
