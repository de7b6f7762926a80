//! JSON into shapes at the speed of the scanner: `serde`'s other end for texts that are already in memory.
//!
//! `serde_json` goes through a string in steps of eight bytes and checks each for UTF-8 anew, which is most of what the
//! translation of a long prompt costs. Here a text is checked once, strings are passed over with vectors, and values that
//! are kept raw are only scanned. It accepts nothing that `serde_json` refuses, and says nothing of a mistake: whoever
//! needs to know lets `serde_json` read again ([`json::read`](super::json::read) does).

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::scan::{Cursor, ScanError};

/// How `serde_json` asks for a value as it is written (its `raw_value` feature).
const RAW: &str = "$serde_json::private::RawValue";

/// Deepest nesting of values that are read into shapes; `serde_json`'s own.
const DEEPEST: usize = 128;

/// Reads a JSON text.
///
/// # Errors
/// The text is not JSON, not of that shape, or only `serde_json` can tell.
pub fn read<'b, T: Deserialize<'b>>(json: &'b str) -> Result<T, Refused> {
    let mut cursor = Cursor::new(json, DEEPEST);
    let value = T::deserialize(Reader { cursor: &mut cursor, left: DEEPEST })?;
    cursor.end()?;
    Ok(value)
}

/// Not read; `serde_json` knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not of the shape that was asked for")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Refused
    }
}

impl From<ScanError> for Refused {
    fn from(_: ScanError) -> Self {
        Refused
    }
}

impl From<serde_json::Error> for Refused {
    fn from(_: serde_json::Error) -> Self {
        Refused
    }
}

/// The value that the cursor stands before.
struct Reader<'c, 'b> {
    cursor: &'c mut Cursor<'b>,
    /// Levels that may still be opened.
    left: usize,
}

impl<'c, 'b> Reader<'c, 'b> {
    fn inside(self) -> Result<Members<'c, 'b>, Refused> {
        let left = self.left.checked_sub(1).ok_or(Refused)?;
        Ok(Members { cursor: self.cursor, left, first: true })
    }
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.cursor.peek() {
            Some(b'"') => match self.cursor.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Some(b'{') => {
                let mut members = self.inside()?;
                members.cursor.skip(b'{')?;
                let value = visitor.visit_map(&mut members)?;
                members.cursor.skip(b'}')?;
                Ok(value)
            }
            Some(b'[') => {
                let mut items = self.inside()?;
                items.cursor.skip(b'[')?;
                let value = visitor.visit_seq(&mut items)?;
                items.cursor.skip(b']')?;
                Ok(value)
            }
            _ => match self.cursor.value()? {
                "null" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                number => Ok(serde_json::Deserializer::from_str(number).deserialize_any(visitor)?),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.cursor.peek() == Some(b'n') {
            self.cursor.value()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        if name == RAW {
            let raw = self.cursor.value()?;
            return visitor.visit_map(Written(Some(raw)));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.cursor.value()?;
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        // A variant with a value is left to `serde_json`.
        if self.cursor.peek() != Some(b'"') {
            return Err(Refused);
        }
        match self.cursor.string()? {
            Cow::Borrowed(text) => BorrowedStrDeserializer::new(text).deserialize_enum(name, variants, visitor),
            Cow::Owned(text) => StringDeserializer::new(text).deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// Members of an object or items of an array, after the opening bracket.
struct Members<'c, 'b> {
    cursor: &'c mut Cursor<'b>,
    left: usize,
    first: bool,
}

impl Members<'_, '_> {
    /// Stands before the next element, or `false` before the closing bracket.
    fn next(&mut self, close: u8) -> Result<bool, Refused> {
        self.cursor.space();
        if self.cursor.peek() == Some(close) {
            return Ok(false);
        }
        if !std::mem::take(&mut self.first) {
            self.cursor.skip(b',')?;
            self.cursor.space();
        }
        Ok(true)
    }
}

impl<'b> MapAccess<'b> for &mut Members<'_, 'b> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'b>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        if !self.next(b'}')? {
            return Ok(None);
        }
        if self.cursor.peek() != Some(b'"') {
            return Err(Refused);
        }
        match self.cursor.string()? {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            Cow::Owned(name) => seed.deserialize(StringDeserializer::new(name)),
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        self.cursor.space();
        self.cursor.skip(b':')?;
        self.cursor.space();
        let value = seed.deserialize(Reader { cursor: self.cursor, left: self.left })?;
        self.cursor.space();
        Ok(value)
    }
}

impl<'b> SeqAccess<'b> for &mut Members<'_, 'b> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'b>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if !self.next(b']')? {
            return Ok(None);
        }
        let value = seed.deserialize(Reader { cursor: self.cursor, left: self.left })?;
        self.cursor.space();
        Ok(Some(value))
    }
}

/// A value as it is written, in the form in which `serde_json` hands it to its `RawValue`.
struct Written<'b>(Option<&'b str>);

impl<'b> MapAccess<'b> for Written<'b> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'b>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().ok_or(Refused)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{Number, Raw, Text, TextOr};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    crate::shape! {
        struct Part { kind "type": Text<'a>, text "text": Text<'a>, inner "inner": Vec<Part<'a>> }
    }
    crate::shape! {
        struct Message { role "role": Text<'a>, content "content": TextOr<'a, Vec<Part<'a>>>, weight "weight": Number<'a>, loud "loud": bool }
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Auto,
        None,
    }

    #[test]
    fn shapes_borrow_what_has_no_escapes() {
        let json = r#" {"role":"user","content":[{"type":"text","text":"h\u00e9\ud83d\ude00\n\/","inner":[{}]}],"weight":1.10,"odd":[ 1 , {"b":1.10}],"loud":true} "#;
        let message: Message = read(json).unwrap();
        assert!(matches!(message.role, Some(Text(Cow::Borrowed("user")))));
        assert_eq!(message.weight.unwrap().get(), "1.10");
        assert_eq!(message.extras.get("odd").unwrap().get(), r#"[ 1 , {"b":1.10}]"#);
        assert_eq!(message.loud, Some(true));
        let Some(TextOr::Full(parts)) = message.content else { panic!("parts expected") };
        assert_eq!(parts[0].text.as_ref().unwrap(), &"hé\u{1F600}\n/");
        let raw: Raw = read(" [1]").unwrap();
        assert_eq!(raw.get(), "[1]");
    }

    #[test]
    fn other_forms_of_data_are_read_too() {
        assert_eq!(read::<(u8, Option<i64>, f64)>("[1, null, 2]"), Ok((1, None, 2.0)));
        assert_eq!(read::<Mode>(r#""auto""#), Ok(Mode::Auto));
        assert_eq!(read::<Mode>(r#""n\u006fne""#), Ok(Mode::None));
        assert_eq!(read::<BTreeMap<String, String>>(r#"{"a\n":"b"}"#).unwrap().get("a\n").unwrap(), "b");
        assert_eq!(read::<u8>("300"), Err(Refused));
        assert_eq!(read::<Vec<u8>>("[1,]"), Err(Refused));
        assert_eq!(read::<[u8; 1]>("[1,2]"), Err(Refused));
        let deep = format!("{}{}", "[".repeat(DEEPEST + 1), "]".repeat(DEEPEST + 1));
        assert_eq!(read::<Value>(&deep), Err(Refused));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(json in crate::wire::laws::json_like()) {
            if let Ok(value) = read::<Value>(&json) {
                prop_assert_eq!(Some(value), serde_json::from_str(&json).ok());
            } else {
                prop_assert!(serde_json::from_str::<Value>(&json).is_err(), "too strict: {}", json);
            }
            crate::shape! { struct Anything {} }
            if let Ok(shape) = read::<Anything<'_>>(&json) {
                let theirs = serde_json::from_str::<Anything<'_>>(&json).map(|shape| shape.extras).unwrap_or_default();
                prop_assert_eq!(shape.extras, theirs);
            }
        }

        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read::<String>(&json), Ok(text));
        }
    }
}
