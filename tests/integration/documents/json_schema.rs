//! Checks JSON values against JSON Schemas (draft 2020-12), as far as the files under `schemas/` use them.
//!
//! In: the schema files and a value. Out: what is wrong with the value, with its place. A keyword that is not known here is a
//! panic, so that no rule of a schema goes unchecked. The crate `jsonschema` would do it too, but it turns on features of
//! libraries below arrow: with it all of them are compiled a second time, for tests alone.

use regex::Regex;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The schema files of a folder, by name.
pub struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Reads every `*.schema.json`.
    pub fn read(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap());
        let schema = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            let is_schema = name.ends_with(".schema.json");
            is_schema.then(|| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let schema = serde_json::from_str(&text);
                let schema = schema.unwrap_or_else(|error| panic!("{name}: {error}"));
                (name, schema)
            })
        };
        Self(entries.filter_map(schema).collect())
    }

    /// Names of the files.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// What is wrong with a value under the schema `file`.
    pub fn faults(&self, file: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(file, &self.0[file], value, "", &mut faults);
        faults
    }

    fn is_valid(&self, file: &str, schema: &Value, value: &Value) -> bool {
        let mut faults = Vec::new();
        self.check(file, schema, value, "", &mut faults);
        faults.is_empty()
    }

    fn check(&self, file: &str, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = match schema {
            Value::Bool(true) => return,
            Value::Bool(false) => return faults.push(format!("{at}: nothing is allowed here")),
            Value::Object(schema) => schema,
            other => panic!("{file}: {other} is no schema"),
        };
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "$schema" | "title" | "description" | "$defs" | "then" | "else" => {}
                "$ref" => {
                    let (file, target) = self.target(file, rule.as_str().unwrap());
                    self.check(file, target, value, at, faults);
                }
                "allOf" => for_each(rule, |part| self.check(file, part, value, at, faults)),
                "oneOf" => {
                    let mut valid = 0;
                    for_each(rule, |part| {
                        valid += usize::from(self.is_valid(file, part, value))
                    });
                    if valid != 1 {
                        faults.push(format!(
                            "{at}: {valid} of the alternatives of oneOf hold: {value}"
                        ));
                    }
                }
                "if" => {
                    let branch = if self.is_valid(file, rule, value) {
                        "then"
                    } else {
                        "else"
                    };
                    if let Some(branch) = schema.get(branch) {
                        self.check(file, branch, value, at, faults);
                    }
                }
                "properties" | "additionalProperties" | "items" => {
                    self.check_parts(file, (keyword, schema), value, at, faults);
                }
                _ => {
                    faults.extend(fault(keyword, rule, value).map(|fault| format!("{at}: {fault}")))
                }
            }
        }
    }

    fn check_parts(
        &self,
        file: &str,
        (keyword, schema): (&str, &Map<String, Value>),
        value: &Value,
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let rule = &schema[keyword];
        match (keyword, value) {
            ("properties", Value::Object(object)) => {
                for (name, part) in rule.as_object().unwrap() {
                    if let Some(value) = object.get(name) {
                        self.check(file, part, value, &format!("{at}/{name}"), faults);
                    }
                }
            }
            ("additionalProperties", Value::Object(object)) => {
                let known = schema["properties"].as_object().unwrap();
                for (name, value) in object.iter().filter(|(name, _)| !known.contains_key(*name)) {
                    self.check(file, rule, value, &format!("{at}/{name}"), faults);
                }
            }
            ("items", Value::Array(array)) => {
                for (index, value) in array.iter().enumerate() {
                    self.check(file, rule, value, &format!("{at}/{index}"), faults);
                }
            }
            _ => {}
        }
    }

    /// File and schema of a reference from `file`.
    fn target<'a>(&'a self, file: &'a str, reference: &str) -> (&'a str, &'a Value) {
        match reference.strip_prefix('#') {
            Some(pointer) => (file, self.0[file].pointer(pointer).expect(reference)),
            None => {
                let (name, schema) = self.0.get_key_value(reference).expect(reference);
                (name, schema)
            }
        }
    }
}

fn for_each(rules: &Value, check: impl FnMut(&Value)) {
    rules.as_array().unwrap().iter().for_each(check);
}

/// What is wrong with a value under one keyword that looks at it alone.
fn fault(keyword: &str, rule: &Value, value: &Value) -> Option<String> {
    let holds = match (keyword, value) {
        ("type", _) => match rule {
            Value::Array(types) => types.iter().any(|kind| is_of_type(kind, value)),
            kind => is_of_type(kind, value),
        },
        ("enum", _) => rule.as_array().unwrap().contains(value),
        ("const", _) => rule == value,
        ("required", Value::Object(object)) => {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| object.contains_key(name.as_str().unwrap()))
        }
        ("dependentRequired", Value::Object(object)) => {
            let mut rules = rule.as_object().unwrap().iter();
            rules.all(|(name, needed)| {
                let mut needed = needed.as_array().unwrap().iter();
                !object.contains_key(name)
                    || needed.all(|name| object.contains_key(name.as_str().unwrap()))
            })
        }
        ("minItems", Value::Array(array)) => array.len() as u64 >= rule.as_u64().unwrap(),
        ("maxItems", Value::Array(array)) => array.len() as u64 <= rule.as_u64().unwrap(),
        ("uniqueItems", Value::Array(array)) => {
            (1..array.len()).all(|index| !array[..index].contains(&array[index]))
        }
        ("minimum", Value::Number(_)) => value.as_f64() >= rule.as_f64(),
        ("maximum", Value::Number(_)) => value.as_f64() <= rule.as_f64(),
        ("exclusiveMinimum", Value::Number(_)) => value.as_f64() > rule.as_f64(),
        ("minLength", Value::String(text)) => text.chars().count() as u64 >= rule.as_u64().unwrap(),
        ("maxLength", Value::String(text)) => text.chars().count() as u64 <= rule.as_u64().unwrap(),
        ("pattern", Value::String(text)) => {
            Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)
        }
        (
            "required" | "dependentRequired" | "minItems" | "maxItems" | "uniqueItems" | "minimum"
            | "maximum" | "exclusiveMinimum" | "minLength" | "maxLength" | "pattern",
            _,
        ) => true,
        _ => panic!("the keyword {keyword} is not known here"),
    };
    (!holds).then(|| format!("{value} is against {keyword} {rule}"))
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known"),
    }
}

#[test]
fn every_rule_of_the_envelope_is_noticed_when_it_is_broken() {
    let schemas = Schemas::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas"));
    let faults = |value: &Value| schemas.faults("envelope.schema.json", value);
    let good = serde_json::json!({
        "event_id": "a", "topic": null, "partition": null, "offset": 7, "event_time": null,
        "model_id": "0123456789abcdef", "anomaly_score": 1.5, "p_value": 0.5, "alert": false,
        "reasons": [{"field": "f", "surprise": 1.0, "p_value": 1, "observed": 2, "expected": {"value": 1, "low": 0, "high": 2}}],
    });
    assert_eq!(faults(&good), Vec::<String>::new());
    let changes = [
        ("/event_id", serde_json::json!(3)),
        ("/offset", serde_json::json!(-1)),
        ("/offset", serde_json::json!(1.5)),
        ("/model_id", serde_json::json!("0123")),
        ("/p_value", serde_json::json!(0)),
        ("/p_value", serde_json::json!(1.1)),
        ("/reasons", serde_json::json!({})),
        ("/reasons/0/expected", serde_json::json!({"value": 1})),
        ("/reasons/0/expected", serde_json::json!({"categories": []})),
        ("/reasons/0/observed", serde_json::json!([1])),
    ];
    for (at, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value.clone();
        assert!(!faults(&bad).is_empty(), "{at} = {value}");
    }
    let added = [
        ("surplus", serde_json::json!(1)),
        ("fired", serde_json::json!(["unsupervised"])),
    ];
    for (name, value) in added {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(!faults(&bad).is_empty(), "{name}");
    }
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().remove("alert");
    assert!(!faults(&bad).is_empty(), "without alert");
}
