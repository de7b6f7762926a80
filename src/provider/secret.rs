//! A secret: prints nothing, is zeroised when dropped, compares in constant time; and what takes secrets out of other
//! people's texts.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What stands where a secret was.
const GONE: &str = "[secret]";
/// Anything shorter is a word, and stands in texts by chance.
const SHORTEST: usize = 8;

/// A key, token or password. There is no way to print it but [`Secret::expose`], which only the code that sends it calls.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// The secret itself, for the header that carries it and what looks for it ([`conceal`]).
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Whether a text repeats one of these secrets, as it is or as URLs and forms spell it.
pub fn repeats<'s>(text: &[u8], mut secrets: impl Iterator<Item = &'s str>) -> bool {
    secrets.any(|secret| {
        let found = |spelled: &str| text.len() >= spelled.len() && memmem::find(text, spelled.as_bytes()).is_some();
        let as_it_is = secret.len() >= SHORTEST && found(secret);
        let spelled = || memchr::memchr(b'%', text).is_some() && spellings(secret).iter().any(|spelled| found(spelled));
        as_it_is || (secret.len() >= SHORTEST && spelled())
    })
}

/// A text without these secrets.
pub fn conceal<'t, 's>(text: &'t str, secrets: impl Iterator<Item = &'s str>) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.filter(|secret| secret.len() >= SHORTEST) {
        if text.contains(secret) {
            text = Cow::Owned(text.replace(secret, GONE));
        }
        for spelled in spellings(secret) {
            if text.contains(&*spelled) {
                text = Cow::Owned(text.replace(&*spelled, GONE));
            }
        }
    }
    text
}

/// The same for bytes; those that are no text are left as they are where they repeat nothing.
pub fn conceal_bytes<'t, 's>(bytes: &'t [u8], secrets: impl Iterator<Item = &'s str> + Clone) -> Cow<'t, [u8]> {
    if !repeats(bytes, secrets.clone()) {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(conceal(&String::from_utf8_lossy(bytes), secrets).into_owned().into_bytes())
}

/// How URLs and forms write a secret, where that is not as it is (RFC 3986 section 2.1: either case of the digits).
fn spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if secret.bytes().all(plain) {
        return Vec::new();
    }
    let spell = |digits: &[u8; 16]| {
        let mut spelled = Zeroizing::new(String::with_capacity(3 * secret.len()));
        for byte in secret.bytes() {
            if plain(byte) {
                spelled.push(char::from(byte));
            } else {
                let nibbles = [byte >> 4, byte & 15];
                let digits = nibbles.iter().filter_map(|nibble| digits.get(usize::from(*nibble)));
                spelled.push('%');
                spelled.extend(digits.map(|digit| char::from(*digit)));
            }
        }
        spelled
    };
    vec![spell(b"0123456789ABCDEF"), spell(b"0123456789abcdef")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_texts_as_they_are_and_as_urls_write_them() {
        let secrets = ["sk-abc+/=1", "short", "tok.0123456"];
        let told = "bad key sk-abc+/=1, https://x/?k=sk-abc%2B%2F%3D1&k=sk-abc%2b%2f%3d1, tok.0123456, short";
        let clean = conceal(told, secrets.into_iter());
        assert_eq!(clean, "bad key [secret], https://x/?k=[secret]&k=[secret], [secret], short");
        assert!(repeats(told.as_bytes(), secrets.into_iter()) && !repeats(clean.as_bytes(), secrets.into_iter()));
        assert!(repeats(b"k=sk-abc%2b%2f%3d1", secrets.into_iter()));
        assert!(matches!(conceal("nothing", secrets.into_iter()), Cow::Borrowed("nothing")));
        assert_eq!(&*conceal_bytes(b"\xff tok.0123456", secrets.into_iter()), "\u{fffd} [secret]".as_bytes());
        assert_eq!(&*conceal_bytes(b"\xff tok.012345", secrets.into_iter()), b"\xff tok.012345");
    }
}
