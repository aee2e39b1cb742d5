//! Reading JSON: every object that a file or a page brings goes through here.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::StrRead;

/// Keys that an object may have: twice those of the largest vocabulary. Each takes far more memory than its bytes in a file.
const MOST_KEYS: usize = 1 << 20;

/// Reads an object. No object in it may have a key twice: maps would keep the last one, other readers keep the first.
///
/// # Errors
/// What is wrong with it, and where.
pub fn object<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    serde_json::from_str::<Unrepeated>(text)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Object(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// What is wrong, without the place: for a text that nobody wrote.
#[must_use]
pub fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned()
}

/// Objects only. Left to itself the reader takes lists for structs too: nobody writes them, and the code for it is half of what a page
/// would download for its structs.
struct Object<'a, 'de>(&'a mut serde_json::Deserializer<StrRead<'de>>);

impl<'de> Deserializer<'de> for Object<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Any value in which no object has a key twice.
struct Unrepeated;

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unrepeated {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Self)) = map.next_entry::<String, Self>()? {
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("`{key}` occurs twice")));
            }
            if keys.len() > MOST_KEYS {
                return Err(A::Error::custom("an object has more than a million keys"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair {
        a: u32,
        b: Option<Vec<u32>>,
    }

    #[test]
    fn structs_are_objects() {
        let read = |text| object::<Pair>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#" {"b": [1, 2], "a": 3} "#), Ok(Pair { a: 3, b: Some(vec![1, 2]) }));
        for (text, problem) in [
            ("[3, null]", "invalid type: sequence, expected struct Pair"),
            (r#"{"a": -1}"#, "invalid value: integer `-1`, expected u32"),
            (r#"{"a": 1} {}"#, "trailing characters"),
            (r#"{"a": 1, "a": 1}"#, "`a` occurs twice"),
            (r#"{"a": 1, "c": [{"deep": 1, "b": {}, "de\u0065p": 2}]}"#, "`deep` occurs twice"),
            (r#"{"b": null}"#, "missing field `a`"),
            ("{", "EOF"),
        ] {
            let found = read(text).expect_err(text);
            assert!(found.contains(problem), "{text}: {found}");
        }
        let many: Vec<String> = (0..=MOST_KEYS).map(|key| format!("\"{key:x}\":0")).collect();
        assert!(read(&format!("{{{}}}", many.join(","))).expect_err("too many").contains("a million keys"), "the last one is too many");
    }
}
