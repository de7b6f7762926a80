//! Secrets of keys and administrators: 256 random bits, shown once, kept as a digest and as how they begin.

use super::answer::Refused;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is a little more than 2^256.
pub const LENGTH: usize = 43;
/// How much of a secret is shown again: enough to find it by, and 24 random bits of 256.
const SHOWN: usize = 7;

/// Fills bytes with randomness.
pub type Random<'r> = &'r mut dyn FnMut(&mut [u8]) -> std::io::Result<()>;

/// A new secret for a caller.
///
/// # Errors
/// The system has no randomness to give.
pub fn key() -> Result<String, Refused> {
    of_system("pk-", LENGTH)
}

/// A new token for an administrator.
///
/// # Errors
/// The system has no randomness to give.
pub fn token() -> Result<String, Refused> {
    of_system("pa-", LENGTH)
}

/// A name for what was given none.
///
/// # Errors
/// The system has no randomness to give.
pub fn name(before: &str) -> Result<String, Refused> {
    of_system(before, 12)
}

/// How a secret begins.
pub fn prefix(secret: &str) -> &str {
    secret.get(..SHOWN).unwrap_or_default()
}

fn of_system(before: &str, length: usize) -> Result<String, Refused> {
    make(before, length, &mut |bytes| getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string())))
        .map_err(|_| Refused::bug("the system has no randomness to give"))
}

/// Random digits after a beginning. Bytes that would make some digits likelier than others are thrown away.
///
/// # Errors
/// There is no randomness.
pub fn make(before: &str, length: usize, random: Random<'_>) -> std::io::Result<String> {
    let mut secret = before.to_owned();
    let mut bytes = [0; 64];
    while secret.len() < before.len() + length {
        random(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| DIGITS.get(usize::from(byte % 62)));
        let missing = before.len() + length - secret.len();
        secret.extend(fair.take(missing).map(|digit| char::from(*digit)));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_show_little() {
        let (one, other) = (key().unwrap(), key().unwrap());
        assert!(one != other && one.starts_with("pk-") && one.len() == 46);
        assert_eq!(prefix(&one), &one[..7]);
        assert!(token().unwrap().starts_with("pa-"));
    }

    #[test]
    fn unfair_bytes_are_thrown_away() {
        let mut next = 0u8;
        let mut random = |bytes: &mut [u8]| {
            bytes.fill_with(|| {
                next = next.wrapping_add(1);
                if next.is_multiple_of(2) { 255 } else { 61 }
            });
            Ok(())
        };
        assert_eq!(make("pk-", LENGTH, &mut random).unwrap(), format!("pk-{}", "z".repeat(43)));
        assert!(make("pk-", 1, &mut |_| Err(std::io::Error::other("none"))).is_err());
    }
}
