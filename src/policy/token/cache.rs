//! What is known of tokens that were looked at: bounded in number and time, by the SHA-256 of the whole token.
//!
//! Never by a part of it: tokens of one issuer begin alike, and whoever can choose where two of them differ would be taken
//! for somebody else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Tokens of as many are kept by each part.
const EACH: usize = 1_024;
/// Parts with a lock each: 16,384 tokens in all.
const PARTS: usize = 16;

/// Values by token, each until a moment.
#[derive(Debug)]
pub struct Cache<V> {
    parts: [Mutex<Part<V>>; PARTS],
}

#[derive(Debug)]
struct Part<V> {
    /// With the Unix second from which it is nothing.
    found: HashMap<[u8; 32], (u64, V)>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        let part = || Mutex::new(Part { found: HashMap::new(), order: VecDeque::new() });
        Cache { parts: std::array::from_fn(|_| part()) }
    }
}

impl<V: Clone> Cache<V> {
    /// What is known of the token with this digest. `now` is Unix seconds.
    pub fn get(&self, digest: &[u8; 32], now: u64) -> Option<V> {
        let part = self.part(digest)?.lock().unwrap_or_else(PoisonError::into_inner);
        part.found.get(digest).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    /// Keeps what is known of it until that second; the oldest makes room.
    pub fn put(&self, digest: [u8; 32], until: u64, value: V) {
        let Some(part) = self.part(&digest) else { return };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if part.found.insert(digest, (until, value)).is_none() {
            part.order.push_back(digest);
        }
        while part.order.len() > EACH {
            if let Some(oldest) = part.order.pop_front() {
                part.found.remove(&oldest);
            }
        }
    }

    fn part(&self, digest: &[u8; 32]) -> Option<&Mutex<Part<V>>> {
        self.parts.get(usize::from(*digest.first()?) % PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn digest(text: &str) -> [u8; 32] {
        Sha256::digest(text).into()
    }

    #[test]
    fn tokens_are_told_apart_by_their_last_byte() {
        let cache = Cache::default();
        let alike = "eyJhbGciOiJSUzI1NiJ9.".repeat(40);
        cache.put(digest(&format!("{alike}a")), 100, "ann");
        cache.put(digest(&format!("{alike}b")), 100, "bob");
        assert_eq!(cache.get(&digest(&format!("{alike}a")), 99), Some("ann"));
        assert_eq!(cache.get(&digest(&format!("{alike}b")), 99), Some("bob"));
        assert_eq!(cache.get(&digest(&alike), 99), None);
        assert_eq!(cache.get(&digest(&format!("{alike}a")), 100), None, "over");
    }

    #[test]
    fn the_oldest_make_room() {
        let cache = Cache::default();
        for n in 0..40_000u32 {
            cache.put(digest(&n.to_string()), 100, n);
            cache.put(digest(&n.to_string()), 100, n);
        }
        let kept = (0..40_000u32).filter(|n| cache.get(&digest(&n.to_string()), 0).is_some()).count();
        assert_eq!(kept, EACH * PARTS);
        assert_eq!(cache.get(&digest("39999"), 0), Some(39_999));
    }
}
