//! What keeps calls together: a hash of what they have in common, and the target that this hash points to.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): each target has a place in each hash's own order, so a target that
//! goes away moves its own calls only, and they come back with it.

/// What calls of one kind have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The caller's key.
    Key,
    /// The user that the request names.
    User,
    /// The session that the caller names in a header.
    Session,
    /// How the prompt begins: what a provider's cache goes by.
    Prefix,
}

/// A hash that is the same in every process: replicas must agree.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Takes a text in; where one ends and the next begins counts.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Hash {
        let mut hash = self.0 ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (place, byte) in word.iter_mut().zip(chunk) {
                *place = *byte;
            }
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
        Hash(mix(hash))
    }

    pub fn finish(self) -> u64 {
        self.0
    }
}

/// The finaliser of MurmurHash3: each bit in moves half of the bits out.
fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// How much a target is wanted by a hash: the greatest wins, in proportion to the weights over all hashes.
pub fn pull(hash: u64, salt: u64, weight: u32) -> f32 {
    let mixed = mix(hash ^ salt);
    // Of the upper bits, in (0, 1): a logarithm is never 0 and always there.
    let unit = ((mixed >> 41) as f32 + 0.5) / (1u64 << 23) as f32;
    weight.max(1) as f32 / -unit.ln()
}

/// A number below `sum`, the same for the same hash and salt.
pub fn draw(hash: u64, salt: u64, sum: u64) -> u64 {
    mix(hash ^ salt).checked_rem(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(hash: u64, targets: &[(u64, u32)]) -> u64 {
        let pulled = targets.iter().map(|(salt, weight)| (pull(hash, *salt, *weight), *salt));
        pulled.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    }

    fn salt(name: &str) -> u64 {
        Hash::default().with(name.as_bytes()).finish()
    }

    #[test]
    fn shares_follow_weights_and_only_the_lost_ones_move() {
        let targets = [(salt("a"), 3), (salt("b"), 1), (salt("c"), 1)];
        let mut counts = [0; 3];
        let mut moved = 0;
        for n in 0..20_000u32 {
            let hash = Hash::default().with(&n.to_le_bytes()).finish();
            let own = best(hash, &targets);
            counts[targets.iter().position(|(salt, _)| *salt == own).unwrap()] += 1;
            if own != targets[2].0 && best(hash, &targets[..2]) != own {
                moved += 1;
            }
        }
        assert!((11_600..12_400).contains(&counts[0]), "{counts:?}");
        assert!((3_700..4_300).contains(&counts[1]), "{counts:?}");
        assert_eq!(moved, 0);
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| parts.iter().fold(Hash::default(), |hash, part| hash.with(part.as_bytes())).finish();
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    }
}
