//! A decimal that carries its own scale, as an object: `{"scale": 2, "value": "BNI="}` is 12.34.
//!
//! An object of JSON flows in, its number flows out, or `an object` where it is no such decimal. Every part of it is read
//! as strictly as an object that no field wants.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{SkipSeed, end_object, hash_of};
use crate::records::columns::Value;
use crate::records::value::{decimal_of_scale_in_base64, exact_whole};
use crate::schema::{SCALE, VALUE};

/// Reads an object in the place of a number; `keys` are the hashes of those of the objects that are open.
pub(super) fn read<'de, A: MapAccess<'de>>(
    mut map: A,
    keys: &mut Vec<u64>,
) -> Result<Value<'static>, A::Error> {
    let first = keys.len();
    let (mut scale, mut number, mut others) = (None, None, false);
    while let Some((name, hash)) = map.next_key_seed(NameSeed)? {
        keys.push(hash);
        let keys = &mut *keys;
        match name {
            Name::Scale => scale = Some(map.next_value_seed(PartSeed { keys })?),
            Name::Value => number = Some(map.next_value_seed(PartSeed { keys })?),
            Name::Other => {
                others = true;
                map.next_value_seed(SkipSeed { keys })?;
            }
        }
    }
    end_object(keys, first)?;
    let decimal = match (scale, number, others) {
        (Some(Part::Integer(scale)), Some(Part::Text(text)), false) => {
            decimal_of_scale_in_base64(&text, scale)
        }
        _ => None,
    };
    Ok(decimal.map_or(Value::Other("an object"), Value::Float))
}

/// Which key it is.
enum Name {
    Scale,
    Value,
    Other,
}

/// Looks a key up, and hashes it.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = (Name, u64);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = (Name, u64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let name = match key {
            SCALE => Name::Scale,
            VALUE => Name::Value,
            _ => Name::Other,
        };
        Ok((name, hash_of(key)))
    }
}

/// What a part of a decimal may be.
enum Part {
    Integer(i64),
    Text(String),
    Other,
}

/// Reads a part, and past what can be none.
struct PartSeed<'s> {
    keys: &'s mut Vec<u64>,
}

impl<'de> DeserializeSeed<'de> for PartSeed<'_> {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Part, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PartSeed<'_> {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Part, E> {
        Ok(Part::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Part, E> {
        Ok(i64::try_from(value).map_or(Part::Other, Part::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Part, E> {
        Ok(exact_whole(value).map_or(Part::Other, Part::Integer))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Part, E> {
        Ok(Part::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Part, A::Error> {
        let keys = self.keys;
        SkipSeed { keys }.visit_seq(seq).map(|()| Part::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
        let keys = self.keys;
        SkipSeed { keys }.visit_map(map).map(|()| Part::Other)
    }
}
