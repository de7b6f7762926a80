//! JSON leaves that borrow: text, numbers and raw values cut out of a body without copying it.
//!
//! Decoders are declared with [`shape!`](crate::shape): a struct whose known members are typed and whose unknown
//! members are kept raw, in order, in [`Extras`]. That one rule is what lets a dialect decode and encode without loss.
//! `serde`'s own `flatten` would buffer every value and lose borrowing and number precision, hence the macro.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::read;

/// A string of a body, unescaped. Borrowed whenever the source has no escapes.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    /// A text that borrows from this one.
    pub fn reborrow(&self) -> Text<'_> {
        Text(Cow::Borrowed(&self.0))
    }

    /// The same text, owning its bytes.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text(Cow::Owned(text))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text)))
    }
}

/// One JSON value as it was written: key order, white space and number precision kept. Always valid JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Raw<'a>(Cow<'a, str>);

impl<'a> Raw<'a> {
    /// Checks that `json` is one JSON value.
    ///
    /// # Errors
    /// Says what is wrong with the text, by line and column.
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&'a RawValue>(json).map(|raw| Raw(Cow::Borrowed(raw.get())))
    }

    /// Takes text that is JSON by construction (written by our own writer).
    pub fn trusted(json: String) -> Self {
        debug_assert!(serde_json::from_str::<&RawValue>(&json).is_ok(), "not JSON: {json}");
        Raw(Cow::Owned(json))
    }

    /// Takes text that a scan has found to be one JSON value.
    pub(in crate::wire) fn scanned(json: &'a str) -> Self {
        debug_assert!(serde_json::from_str::<&RawValue>(json).is_ok(), "not JSON: {json}");
        Raw(Cow::Borrowed(json))
    }

    /// A JSON literal of ours, for example `true` or `{}`.
    pub const fn literal(json: &'static str) -> Raw<'static> {
        Raw(Cow::Borrowed(json))
    }

    pub fn get(&self) -> &str {
        &self.0
    }

    pub fn reborrow(&self) -> Raw<'_> {
        Raw(Cow::Borrowed(&self.0))
    }

    pub fn into_owned(self) -> Raw<'static> {
        Raw(Cow::Owned(self.0.into_owned()))
    }

    /// The JSON itself as a text, borrowed where the value is.
    pub fn into_text(self) -> Text<'a> {
        Text(self.0)
    }

    pub fn kind(&self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Reads the value into a shape that borrows from the body, and so outlives this handle.
    ///
    /// # Errors
    /// The value is not of that shape (the path starts at the value), or it was made by us and has no body behind it.
    pub fn open<T: Deserialize<'a>>(&self) -> Result<T, Invalid> {
        match self.0 {
            Cow::Borrowed(json) => read_text(json),
            Cow::Owned(_) => Err(Invalid { path: String::new(), message: "the value has no body behind it".into() }),
        }
    }

    /// Reads the value into a shape that borrows from it.
    ///
    /// # Errors
    /// The value is not of that shape.
    pub fn read<'s, T: Deserialize<'s>>(&'s self) -> Result<T, serde_json::Error> {
        read::read(&self.0).or_else(|_| serde_json::from_str(&self.0))
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(Raw(Cow::Borrowed(raw.get())))
    }
}

/// What a JSON value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A JSON number as it was written, so that `1.10` stays `1.10` and 23 digits stay 23 digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number<'a>(Cow<'a, str>);

impl<'a> Number<'a> {
    pub fn get(&self) -> &str {
        &self.0
    }

    pub fn reborrow(&self) -> Number<'_> {
        Number(Cow::Borrowed(&self.0))
    }

    /// The nearest double; for comparing and clamping, never for money.
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The value where it is a whole number in range (`8.0` and `8e0` are whole too).
    pub fn as_u64(&self) -> Option<u64> {
        if let Ok(n) = self.0.parse() {
            return Some(n);
        }
        let n = self.as_f64();
        // 2^53: above it a double no longer names one integer.
        (n.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&n)).then_some(n as u64)
    }
}

impl From<u64> for Number<'_> {
    fn from(n: u64) -> Self {
        Number(Cow::Owned(n.to_string()))
    }
}

impl fmt::Debug for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Number<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        match raw.kind() {
            Kind::Number => Ok(Number(raw.0)),
            _ => Err(de::Error::custom(format_args!("expected a number, got `{}`", clip(raw.get(), 40)))),
        }
    }
}

/// Members that a shape does not know, in the order they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras<'a>(pub Vec<(Text<'a>, Raw<'a>)>);

impl<'a> Extras<'a> {
    pub fn push(&mut self, name: impl Into<Text<'a>>, json: Raw<'a>) {
        self.0.push((name.into(), json));
    }

    pub fn get(&self, name: &str) -> Option<&Raw<'a>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, json)| json)
    }

    /// Takes a member out, for a decoder that gives it a meaning after all.
    pub fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Raw<'a>)> {
        self.0.iter().map(|(name, json)| (name.as_str(), json))
    }
}

/// A value that may be written as a bare string or in full, as message contents are.
#[derive(Clone, Debug, PartialEq)]
pub enum TextOr<'a, T> {
    Text(Text<'a>),
    Full(T),
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for TextOr<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}

struct TextOrVisitor<'a, T>(PhantomData<(&'a (), T)>);

impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<'a, T> {
    type Value = TextOr<'a, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or the value in full")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.to_owned().into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(TextOr::Full)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(TextOr::Full)
    }
}

/// Why a body is not of the shape its dialect wants: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the member in question, for example `messages[2].content`; empty for the body as a whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" | "." => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for Invalid {}

/// Reads a body into a shape that borrows from it. The path of a mistake costs a second reading, taken only then.
///
/// # Errors
/// The body is not JSON, or not of that shape.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Invalid> {
    match simdutf8::basic::from_utf8(body) {
        Ok(json) => read_text(json),
        Err(_) => read_again(body),
    }
}

/// As [`read`], of a text.
fn read_text<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Invalid> {
    read::read(json).or_else(|_| read_again(json.as_bytes()))
}

/// What the fast reader refused, read so that the mistake is known.
fn read_again<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Invalid> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => Err(Invalid { path: String::new(), message: "trailing characters after the JSON value".into() }),
        // The tracker writes `?` where it lost the way: text that is not JSON.
        Err(e) => Err(Invalid {
            path: e.path().to_string().trim_end_matches('?').trim_end_matches('.').to_owned(),
            message: e.into_inner().to_string(),
        }),
    }
}

/// The first `max` characters of a text, for messages about it.
pub fn clip(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Declares a JSON object that a decoder reads: each member is `field "wire name": Type` and becomes
/// `Option<Type>` (`null` reads as absent); whatever else the object has is kept in `extras`. All borrow from `'a`.
///
/// ```
/// use portolan::wire::json::{self, Number, Text};
/// portolan::shape! {
///     /// A point.
///     pub struct Point { x "x": Number<'a>, label "label" | "name": Text<'a> }
/// }
/// let point: Point = json::read(br#"{"x":1.10,"name":"a","z":[23]}"#).unwrap();
/// assert_eq!(point.x.unwrap().get(), "1.10");
/// assert_eq!(point.extras.get("z").unwrap().get(), "[23]");
/// ```
#[macro_export]
macro_rules! shape {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $( $(#[$field_meta:meta])* $field:ident $($key:literal)|+ : $ty:ty ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        $vis struct $name<'a> {
            $( $(#[$field_meta])* pub $field: Option<$ty>, )*
            /// Members this shape does not know.
            pub extras: $crate::wire::json::Extras<'a>,
        }

        impl<'de: 'a, 'a> ::serde::de::Deserialize<'de> for $name<'a> {
            fn deserialize<D: ::serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members<'a>(::std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> ::serde::de::Visitor<'de> for Members<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: ::serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name<'a>, A::Error> {
                        let mut shape = $name::default();
                        while let Some(name) = map.next_key::<$crate::wire::json::Text<'a>>()? {
                            match &*name {
                                $( $($key)|+ => shape.$field = map.next_value()?, )*
                                _ => {
                                    let json: $crate::wire::json::Raw<'a> = map.next_value()?;
                                    shape.extras.push(name, json);
                                }
                            }
                        }
                        Ok(shape)
                    }
                }
                deserializer.deserialize_map(Members(::std::marker::PhantomData))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    shape! {
        struct Part { kind "type": Text<'a>, text "text": Text<'a> }
    }
    shape! {
        struct Message { role "role": Text<'a>, content "content": TextOr<'a, Vec<Part<'a>>>, weight "weight": Number<'a> }
    }

    #[test]
    fn borrows_and_keeps_what_it_does_not_know() {
        let body = br#"{"role":"user","odd":{"b":1.10,"a":12345678901234567890123},"content":[{"type":"text","text":"h\u00e9"}]}"#;
        let message: Message = read(body).unwrap();
        assert!(matches!(message.role.as_ref().unwrap().0, Cow::Borrowed("user")));
        assert_eq!(message.extras.get("odd").unwrap().get(), r#"{"b":1.10,"a":12345678901234567890123}"#);
        let Some(TextOr::Full(parts)) = message.content else { panic!("parts expected") };
        assert_eq!(parts[0].text.as_ref().unwrap(), &"hé");
        assert_eq!(parts[0].kind.as_ref().unwrap(), &"text");
    }

    #[test]
    fn a_mistake_names_its_path() {
        let error = read::<Message>(br#"{"role":"user","content":[{"type":"text","text":5}]}"#).unwrap_err();
        assert_eq!(error.path, "content[0].text");
        assert!(error.message.contains("expected a string"), "{error}");
        let error = read::<Message>(br#"{"weight":"5"}"#).unwrap_err();
        assert_eq!(error.path, "weight");
        assert!(read::<Message>(br#"{"role":"user"} x"#).is_err());
    }

    #[test]
    fn numbers_keep_their_digits() {
        let message: Message = read(br#"{"weight":1.10}"#).unwrap();
        assert_eq!(message.weight.unwrap().get(), "1.10");
        let eight: Number = serde_json::from_str("8.0").unwrap();
        assert_eq!(eight.as_u64(), Some(8));
        let half: Number = serde_json::from_str("0.5").unwrap();
        assert_eq!(half.as_u64(), None);
    }
}
