//! Looks for secrets in what is said and kept: as they are, backwards, and in every spelling that software gives to
//! bytes, whole or in part.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

/// A planted secret.
#[derive(Clone, Debug)]
pub struct Planted {
    /// What it is.
    pub kind: String,
    /// The part of it that nothing else looks like, 16 bytes or more: without what may be shown of it.
    pub text: String,
}

impl Planted {
    pub fn new(kind: &str, text: &str) -> Planted {
        assert!(text.len() >= 16, "{kind}: too short to be told from chance");
        Planted { kind: kind.to_owned(), text: text.to_owned() }
    }
}

/// What was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: String,
    pub form: &'static str,
    /// How it begins.
    pub at: usize,
}

/// The number of a secret and the spelling that a window is of.
type Windows = HashMap<u128, (usize, &'static str)>;

/// A search for all of them at once.
pub struct Search {
    kinds: Vec<String>,
    /// Windows of the spellings by their length: of which secret, in which spelling.
    windows: Vec<(usize, Windows)>,
    /// Which four bytes a window can begin with, by their hash.
    begins: Vec<bool>,
}

/// Bytes of a secret that count as a find: a part of it is one already.
const PART: usize = 8;

impl Search {
    pub fn new(planted: &[Planted]) -> Search {
        let mut search = Search { kinds: Vec::new(), windows: Vec::new(), begins: vec![false; 1 << 20] };
        for (number, Planted { kind, text }) in planted.iter().enumerate() {
            search.kinds.push(kind.clone());
            for (form, spelled, length) in spellings(text.as_bytes()) {
                search.add(number, form, &spelled, length);
            }
        }
        search
    }

    fn add(&mut self, number: usize, form: &'static str, spelled: &[u8], length: usize) {
        let place = self.windows.iter().position(|(known, _)| *known == length).unwrap_or_else(|| {
            self.windows.push((length, HashMap::new()));
            self.windows.len() - 1
        });
        for window in spelled.windows(length) {
            self.begins[begin(window)] = true;
            self.windows[place].1.entry(whole(window)).or_insert((number, form));
        }
    }

    /// All finds, one for each place at which one begins that does not go on with the one before.
    pub fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for at in 0..text.len().saturating_sub(PART - 1) {
            let rest = &text[at..];
            if !self.begins[begin(rest)] {
                continue;
            }
            for (length, windows) in &self.windows {
                let Some((number, form)) = rest.get(..*length).and_then(|window| windows.get(&whole(window))) else {
                    continue;
                };
                let kind = &self.kinds[*number];
                let goes_on = found.last().is_some_and(|last| last.kind == *kind && at - last.at < 512);
                if !goes_on {
                    found.push(Found { kind: kind.clone(), form, at });
                }
            }
        }
        found
    }
}

fn begin(window: &[u8]) -> usize {
    let bytes = [window[0], window[1], window[2], window[3]];
    (u32::from_le_bytes(bytes).wrapping_mul(2_654_435_761) >> 12) as usize
}

fn whole(window: &[u8]) -> u128 {
    window.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Every spelling of a text, and how long a window of it must be to stand for [`PART`] bytes.
pub fn spellings(text: &[u8]) -> Vec<(&'static str, Vec<u8>, usize)> {
    let mut all = vec![("raw", text.to_vec(), PART), ("backwards", text.iter().rev().copied().collect(), PART)];
    // Where the bytes before it end decides how base64 spells it; what they and those behind it would change is left out.
    for before in 0..3 {
        let shifted = [&vec![b'x'; before][..], text].concat();
        let fixed = (before * 8).div_ceil(6)..shifted.len() / 3 * 4;
        for (form, spelled) in
            [("base64", BASE64_STANDARD.encode(&shifted)), ("base64url", BASE64_URL_SAFE_NO_PAD.encode(&shifted))]
        {
            all.push((form, spelled.as_bytes()[fixed.clone()].to_vec(), 12));
        }
    }
    let each = |one: &dyn Fn(u8) -> String| text.iter().map(|byte| one(*byte)).collect::<String>().into_bytes();
    all.push(("hex", each(&|byte| format!("{byte:02x}")), 16));
    all.push(("HEX", each(&|byte| format!("{byte:02X}")), 16));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !text.iter().all(|byte| plain(*byte)) {
        let own = |byte: u8| char::from(byte).to_string();
        all.push(("url", each(&|byte| if plain(byte) { own(byte) } else { format!("%{byte:02X}") }), 12));
        all.push(("url", each(&|byte| if plain(byte) { own(byte) } else { format!("%{byte:02x}") }), 12));
    }
    all
}

/// Every planted secret is found in every spelling, in the middle of other bytes; and nothing is found where nothing is.
#[track_caller]
pub fn can_find(search: &Search, planted: &[Planted]) {
    let noise: Vec<u8> = (0..4_096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(search.find(&noise), []);
    for Planted { kind, text } in planted {
        for (form, spelled, _) in spellings(text.as_bytes()) {
            let hidden = [&noise[..1_000], &spelled, &noise[1_000..]].concat();
            let found = search.find(&hidden);
            assert!(found.iter().any(|found| found.kind == *kind), "{kind} as {form} is not found: {found:?}");
        }
        // As programs write it: with something before it, so that it begins anywhere.
        for before in ["", "k", "ke", "key"] {
            for spelled in [
                BASE64_STANDARD.encode(format!("{before}{text}=")),
                BASE64_URL_SAFE_NO_PAD.encode(format!("{before}{text}=")),
                format!("{{\"{before}\":\"{text}\"}}"),
            ] {
                let found = search.find(spelled.as_bytes());
                assert!(found.iter().any(|found| found.kind == *kind), "{kind} in {spelled}: {found:?}");
            }
        }
        // A part is enough.
        assert!(!search.find(&text.as_bytes()[text.len() - PART..]).is_empty(), "{kind}: its end");
    }
}
