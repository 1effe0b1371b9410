//! Types for the parts of Docker's answers. They take each form in which Docker, Podman or another tool writes a value;
//! only a field that would change a registration can be an error.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A field that no registration depends on. A value of another type counts as missing.
#[derive(Debug)]
pub struct Loose<T>(pub Option<T>);

/// A text, which some tools write as a number.
#[derive(Debug, Default)]
pub struct Text(pub String);

/// The members of an object in their order. Null and an empty list count as an empty object.
#[derive(Debug)]
pub struct Members<V>(pub Vec<(String, V)>);

impl<T> Default for Loose<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V> Default for Members<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(decoder)?;
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(TextVisitor)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(MembersVisitor(PhantomData))
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text::default())
    }
}

struct MembersVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for MembersVisitor<V> {
    type Value = Members<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Members::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        match list.next_element::<Value>()? {
            None => Ok(Members::default()),
            Some(_) => Err(serde::de::Error::invalid_type(
                serde::de::Unexpected::Seq,
                &self,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_loose_field_of_another_type_is_missing() {
        let read = |value| {
            serde_json::from_value::<Loose<i64>>(value)
                .expect("anything")
                .0
        };
        assert_eq!(read(json!(3)), Some(3));
        for other in [
            json!("3"),
            json!(null),
            json!([3]),
            json!({ "a": { "b": [] } }),
        ] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn a_text_may_be_a_number_and_is_nothing_else() {
        let read = |value| serde_json::from_value::<Text>(value).map(|text| text.0);
        assert_eq!(read(json!("80")).expect("a text"), "80");
        assert_eq!(read(json!(80)).expect("a text"), "80");
        assert_eq!(read(json!(-1)).expect("a text"), "-1");
        assert_eq!(read(json!(null)).expect("a text"), "");
        for other in [json!(true), json!(["80"]), json!({})] {
            assert!(read(other).is_err());
        }
    }

    #[test]
    fn members_may_be_null_or_an_empty_list_and_not_a_list_of_values() {
        let read = |value| serde_json::from_value::<Members<u8>>(value).map(|members| members.0);
        assert_eq!(
            read(json!({ "a": 1 })).expect("members"),
            [("a".to_owned(), 1)]
        );
        assert!(read(json!(null)).expect("members").is_empty());
        assert!(read(json!([])).expect("members").is_empty());
        for other in [json!(["a"]), json!("a"), json!({ "a": "b" })] {
            assert!(read(other).is_err());
        }
    }
}
