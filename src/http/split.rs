//! Splits the body of a request into the raw bytes of its records: a JSON array flows in, one slice
//! an element flows out. Only brackets and strings are looked at, so that an element that is no
//! JSON (`NaN`, a duplicate key, an unquoted word) stays in its place for the decoder to refuse,
//! and its neighbours are untouched. What the decoder is given is exactly what the client sent
//! between the commas.

/// Why a body holds no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// Neither an object nor an array.
    #[error(
        "the body {found}: expected one JSON object (a record), or a JSON array of such objects"
    )]
    NoRecord {
        /// How the body begins.
        found: &'static str,
    },
    /// The body cannot be taken apart.
    #[error("the array is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Of the body, from 0.
        offset: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Too many elements.
    #[error("the array has more than {limit} records")]
    TooMany {
        /// Elements allowed.
        limit: usize,
    },
}

/// The records of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Records<'a> {
    /// The body begins like one record; whether it is one is for the decoder to say.
    One(&'a [u8]),
    /// The elements of an array.
    Many(Vec<&'a [u8]>),
}

/// Takes a body apart; at most `records_max` elements.
pub(super) fn split(body: &[u8], records_max: usize) -> Result<Records<'_>, SplitError> {
    match body.iter().position(|&byte| !is_space(byte)) {
        Some(start) if body[start] == b'[' => {
            Ok(Records::Many(elements(body, start, records_max)?))
        }
        Some(start) if body[start] == b'{' => Ok(Records::One(body)),
        Some(_) => Err(SplitError::NoRecord {
            found: "is no JSON object",
        }),
        None => Err(SplitError::NoRecord { found: "is empty" }),
    }
}

/// The elements of the array that opens at `start`.
fn elements(body: &[u8], start: usize, records_max: usize) -> Result<Vec<&[u8]>, SplitError> {
    let malformed = |offset, problem| Err(SplitError::Malformed { offset, problem });
    let mut elements = Vec::new();
    // Brackets that are open; the first is the array's own.
    let mut open = Vec::new();
    let mut element_start = start + 1;
    let mut at = start;
    while at < body.len() {
        let byte = body[at];
        match byte {
            b'"' => at = string_end(body, at),
            b'[' | b'{' => open.push(byte),
            b']' | b'}' => {
                let opened = if byte == b']' { b'[' } else { b'{' };
                if open.pop() != Some(opened) {
                    return malformed(at, "the bracket closes another one");
                }
            }
            _ => {}
        }
        let ends_array = open.is_empty();
        if ends_array || (byte == b',' && open.len() == 1) {
            let element = trim(&body[element_start..at]);
            let is_empty_array = ends_array && elements.is_empty();
            if element.is_empty() && !is_empty_array {
                return malformed(at, "a record is expected before this byte");
            }
            if !element.is_empty() {
                elements.push(element);
            }
            if elements.len() > records_max {
                return Err(SplitError::TooMany { limit: records_max });
            }
            element_start = at + 1;
        }
        at += 1;
        if ends_array {
            return match body[at..].iter().position(|&byte| !is_space(byte)) {
                Some(after) => malformed(at + after, "nothing may follow the array"),
                None => Ok(elements),
            };
        }
    }
    malformed(body.len(), "the array is not closed")
}

/// Where the string that opens at `start` closes, or the end of the body.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 1,
            b'"' => return at,
            _ => {}
        }
        at += 1;
    }
    body.len()
}

/// JSON's white space, and no other.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Without JSON's white space at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|&byte| !is_space(byte))
        .unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|&byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn many(body: &str) -> Vec<&str> {
        match split(body.as_bytes(), 100).unwrap() {
            Records::Many(elements) => elements
                .into_iter()
                .map(|e| std::str::from_utf8(e).unwrap())
                .collect(),
            Records::One(_) => panic!("{body} is not taken as an array"),
        }
    }

    fn refused(body: &str) -> usize {
        match split(body.as_bytes(), 100).unwrap_err() {
            SplitError::Malformed { offset, .. } => offset,
            other => panic!("{body}: {other}"),
        }
    }

    #[test]
    fn a_bad_element_stays_in_its_place() {
        let body = " [{\"a\": NaN}, {\"a\": 1},\n nonsense , {\"a\":1,\"a\":2}, 1e999] ";
        let elements = many(body);
        assert_eq!(
            elements,
            [
                "{\"a\": NaN}",
                "{\"a\": 1}",
                "nonsense",
                "{\"a\":1,\"a\":2}",
                "1e999"
            ]
        );
    }

    #[test]
    fn brackets_commas_and_escaped_quotes_in_strings_are_text() {
        let elements = many(r#"[{"a":"],\"}{["},{"b":"\\"},"x,y"]"#);
        assert_eq!(
            elements,
            [r#"{"a":"],\"}{["}"#, r#"{"b":"\\"}"#, r#""x,y""#]
        );
    }

    #[test]
    fn what_begins_like_an_object_is_one_record_as_it_is() {
        for body in ["{\"a\": [1, 2]}", " {", "{} {}"] {
            assert_eq!(split(body.as_bytes(), 1), Ok(Records::One(body.as_bytes())));
        }
    }

    #[test]
    fn what_begins_like_neither_is_refused() {
        for body in ["", "  ", "NaN", "\u{feff}[1]", "7", "\"a\""] {
            let error = split(body.as_bytes(), 1).unwrap_err();
            assert!(matches!(error, SplitError::NoRecord { .. }), "{body}");
        }
    }

    #[test]
    fn an_empty_array_has_no_records() {
        assert!(many("[]").is_empty());
        assert!(many(" [ \n ] ").is_empty());
    }

    #[test]
    fn a_malformed_array_is_refused_with_its_offset() {
        assert_eq!(refused("[1, 2"), 5);
        assert_eq!(refused("[1,,2]"), 3);
        assert_eq!(refused("[1,]"), 3);
        assert_eq!(refused("[,1]"), 1);
        assert_eq!(refused("[{\"a\":1]]"), 7);
        assert_eq!(refused("[1] [2]"), 4);
        assert_eq!(refused("[\"open]"), 7);
        assert_eq!(refused("[\"open\\"), 7);
    }

    #[test]
    fn the_number_of_records_is_bounded() {
        assert!(matches!(split(b"[1,2,3]", 3), Ok(Records::Many(elements)) if elements.len() == 3));
        assert_eq!(
            split(b"[1,2,3,4,", 3),
            Err(SplitError::TooMany { limit: 3 })
        );
        assert_eq!(
            split(b"[1,2,3,4]", 3),
            Err(SplitError::TooMany { limit: 3 })
        );
    }

    /// Any JSON value, nested a little, with the characters in its texts that could mislead a
    /// splitter.
    fn value() -> impl Strategy<Value = Value> {
        let text = "[\\[\\]{},:\"\\\\ a\u{e9}\u{1f600}\n]{0,8}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(text, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_elements_are_those_that_a_json_parser_finds(
            values in proptest::collection::vec(value(), 0..6),
            pretty in any::<bool>(),
        ) {
            let array = Value::from(values.clone());
            let body = if pretty { format!("{array:#}") } else { array.to_string() };
            let found: Vec<Value> =
                many(&body).iter().map(|element| serde_json::from_str(element).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn any_bytes_are_split_or_refused_and_no_byte_of_an_element_is_lost(
            body in "\\[[\\[\\]{}\",\\\\ 1a]{0,20}",
        ) {
            if let Ok(Records::Many(elements)) = split(body.as_bytes(), 100) {
                let kept: usize = elements.iter().map(|element| element.len()).sum();
                let commas = elements.len().saturating_sub(1);
                let least = body.len() - body.matches(' ').count();
                prop_assert!(kept + commas + 2 >= least, "{body}: {elements:?}");
            }
        }
    }
}
