//! What a message without any feature has instead: its keys, and where the features lie deeper in it.
//!
//! The names of a message, or of an Avro writer's schema, flow in as a bounded tree; one sentence flows out. An envelope
//! that nobody told the daemon of is what most often makes every record of a topic empty, and the sentence says how to
//! tell it.

use std::collections::VecDeque;

use super::fault::shown;
use super::root::BEFORE;
use crate::schema::{Field, Schema};

/// Names that are looked at: more than any record has, and a bound on what a message can make us do.
const NAMES_MAX: usize = 2_048;
/// Features that are looked for.
const FIELDS_MAX: usize = 32;
/// Levels of names that are looked at.
const DEPTH_MAX: usize = 8;
/// Keys that a sentence shows.
const KEYS_SHOWN_MAX: usize = 6;
/// Fields whose place a sentence shows.
const FIELDS_SHOWN_MAX: usize = 2;

/// The names at some level of a message, with those below each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(pub Vec<(String, Names)>);

impl Names {
    /// The names of a JSON value.
    pub fn of_json(json: &serde_json::Value) -> Self {
        Self::of_value(json, DEPTH_MAX, &mut NAMES_MAX.clone())
    }

    fn of_value(json: &serde_json::Value, depth: usize, left: &mut usize) -> Self {
        let (Some(depth), Some(object)) = (depth.checked_sub(1), json.as_object()) else {
            return Self::default();
        };
        let mut names = Vec::new();
        for (name, value) in object {
            let Some(fewer) = left.checked_sub(1) else {
                break;
            };
            *left = fewer;
            names.push((name.clone(), Self::of_value(value, depth, left)));
        }
        Self(names)
    }

    fn get(&self, name: &str) -> Option<&Self> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, below)| below)
    }

    fn has(&self, path: &[String]) -> bool {
        let mut at = Some(self);
        for name in path {
            at = at.and_then(|names| names.get(name));
        }
        at.is_some()
    }
}

/// How deep names may be looked at, for other sources of [`Names`].
pub(crate) const NAMES_DEPTH_MAX: usize = DEPTH_MAX;

/// The detail of an `empty_record`: where features lie deeper in the message, and the keys at its top.
pub(crate) fn detail(names: &Names, schema: &Schema) -> String {
    let mut text = "no feature field is present".to_owned();
    let (places, root) = deeper(names, schema);
    if let Some(root) = root {
        text += &format!(
            ": {}; set input.root = [\"{}\"]",
            places.join(", "),
            shown(&root)
        );
    }
    let keys = names.0.iter().map(|(name, _)| format!("`{}`", shown(name)));
    let keys: Vec<String> = keys.take(KEYS_SHOWN_MAX).collect();
    let more = names.0.len() - keys.len();
    text += &match (keys.len(), more) {
        (0, _) => "; the message has no keys".to_owned(),
        (_, 0) => format!("; the message has the keys {}", keys.join(", ")),
        _ => format!(
            "; the message has the keys {} and {more} more",
            keys.join(", ")
        ),
    };
    text
}

/// Features that lie deeper, each with its place, and the object that holds them: the one with the most features, the
/// outermost of those with as many.
fn deeper(names: &Names, schema: &Schema) -> (Vec<String>, Option<String>) {
    let fields: Vec<&Field> = schema.features().take(FIELDS_MAX).collect();
    let mut best: (Vec<&Field>, Option<String>) = (Vec::new(), None);
    let mut open = VecDeque::from([(String::new(), names)]);
    while let Some((place, names)) = open.pop_front() {
        if !place.is_empty() {
            let here = |field: &&&Field| names.has(field.path.segments());
            let found: Vec<&Field> = fields.iter().filter(here).copied().collect();
            if found.len() > best.0.len() {
                best = (found, Some(place.clone()));
            }
        }
        let deeper = names.0.iter().filter(|(_, below)| !below.0.is_empty());
        // What a row was before its change is no record to score.
        for (name, below) in deeper.filter(|(name, _)| name != BEFORE) {
            let place = match place.as_str() {
                "" => name.clone(),
                place => format!("{place}.{name}"),
            };
            open.push_back((place, below));
        }
    }
    let (found, root) = best;
    let place_of = |field: &&Field| {
        let path = match &root {
            Some(root) => format!("{root}.{}", field.path),
            None => field.path.to_string(),
        };
        format!("`{}` lies at `{}`", shown(&field.name), shown(&path))
    };
    let places = found.iter().take(FIELDS_SHOWN_MAX).map(place_of).collect();
    (places, root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn sentence(message: &serde_json::Value) -> String {
        let text = "[[field]]\nname='amount'\nkind='numeric'\n\
                    [[field]]\nname='country'\nkind='categorical'\npath='card.country'";
        detail(&Names::of_json(message), &Schema::parse(text, "s").unwrap())
    }

    #[test]
    fn an_empty_record_names_its_keys_and_where_the_fields_lie() {
        let envelope = json!({"schema": {}, "payload": {"before": null, "op": "c",
            "after": {"amount": 1, "card": {"country": "CH"}}}});
        assert_eq!(
            sentence(&envelope),
            "no feature field is present: `amount` lies at `payload.after.amount`, `country` lies at \
             `payload.after.card.country`; set input.root = [\"payload.after\"]; the message has the keys \
             `payload`, `schema`"
        );
        assert_eq!(
            sentence(&json!({})),
            "no feature field is present; the message has no keys"
        );
        assert_eq!(
            sentence(&json!({"Amount": 1, "card": {"land": "CH"}})),
            "no feature field is present; the message has the keys `Amount`, `card`"
        );
    }

    #[test]
    fn what_is_told_of_a_huge_message_is_bounded() {
        let wide: serde_json::Map<_, _> = (0..10_000)
            .map(|i| (format!("{}{i}", "k".repeat(200)), json!({"x": i})))
            .collect();
        let text = sentence(&json!(wide));
        assert!(text.len() < 1_000, "{}", text.len());
        assert!(text.contains(" more"), "{text}");
        let mut deep = json!({"amount": 1});
        for _ in 0..100 {
            deep = json!({ "a": deep });
        }
        assert!(!sentence(&deep).contains("lies at"));
    }
}
