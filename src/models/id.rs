//! The name of a model in a folder of models. Text flows in, an id that is safe as the name of a folder flows out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters of an id, as a bundle's manifest has it.
const CHARACTERS: usize = 16;

/// A `model_id`: 16 hexadecimal digits, lower case. So it is never a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(String);

impl ModelId {
    /// The id that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = text.len() == CHARACTERS && text.bytes().all(is_digit);
        is_id.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModelId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?}: expected 16 hexadecimal digits"))
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_digits_and_never_a_path() {
        assert!(ModelId::parse("0123456789abcdef").is_some());
        for text in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
            "../../../../etc/",
            "0123456789abcde\n",
        ] {
            assert_eq!(ModelId::parse(text), None, "{text:?}");
        }
    }
}
