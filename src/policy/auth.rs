//! Who calls: a secret's digest, compared in constant time, and the names that a key may use.
//!
//! Only digests are kept, in a map by digest. Finding the place in a map takes a time that depends on the digest, which
//! nobody can steer towards a known one without breaking SHA-256; the last comparison takes the same time for all.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest secret that is looked at; longer ones are not ours.
const LONGEST: usize = 512;

/// SHA-256 of a secret, or nothing for text that cannot be one.
pub fn digest(secret: &str) -> Option<[u8; 32]> {
    (!secret.is_empty() && secret.len() <= LONGEST).then(|| Sha256::digest(secret.as_bytes()).into())
}

/// Whether two digests are equal, in a time that does not depend on them.
pub fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.ct_eq(other).into()
}

/// Whether a name fits a pattern in which `*` stands for any text, none included. Upper and lower case differ.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    // The leftmost place for each part is as good as any other; only the last part is bound to the end.
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_sha256() {
        // RFC 6234 section 8.5, test 1.
        let abc = digest("abc").unwrap();
        assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(same(&abc, &digest("abc").unwrap()));
        assert!(!same(&abc, &digest("abd").unwrap()));
        assert!(digest("").is_none());
        assert!(digest(&"x".repeat(513)).is_none());
    }

    #[test]
    fn patterns_fit_names() {
        let fitting = [
            ("*", ""),
            ("*", "a/b"),
            ("gpt-*", "gpt-5"),
            ("gpt-*", "gpt-"),
            ("*-mini", "gpt-5-mini"),
            ("a*b*c", "abbc"),
            ("gpt-5", "gpt-5"),
            ("**", "x"),
            ("", ""),
        ];
        for (pattern, name) in fitting {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        let not = [
            ("gpt-*", "xgpt-5"),
            ("gpt-5", "gpt-50"),
            ("gpt-5", "gpt-"),
            ("*-mini", "gpt-5-mini-x"),
            ("ab*ba", "aba"),
            ("GPT-*", "gpt-5"),
            ("", "x"),
            ("a*b*c", "acb"),
        ];
        for (pattern, name) in not {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn patterns_agree_with_the_plain_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|skip| plain(rest, &name[skip..])),
                    Some((byte, rest)) => name.split_first().is_some_and(|(first, tail)| first == byte && plain(rest, tail)),
                }
            }
            prop_assert_eq!(fits(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
