//! The types of an Avro writer's schema, read from its JSON text (Avro 1.12 specification, "Schema Declaration").
//!
//! JSON text flows in, a table of types flows out in which a type names its parts by number, so that recursive types
//! are ordinary. The invariant: every number in the table is an entry of it, and every name was resolved.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::schema::{SCALE, TimeUnit, VALUE};

/// The number of a type in its table.
pub(super) type TypeId = usize;

/// Types one schema may have; far more than any record needs, and a bound on what a registry can make us keep.
const TYPES_MAX: usize = 65_536;

/// An Avro type, with the logical types that matter here resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    /// int, time-millis.
    Int,
    /// int with logicalType date: days since 1970.
    Date,
    /// long, time-micros.
    Long,
    /// long with a logicalType of timestamps, in its unit since 1970.
    Timestamp(TimeUnit),
    Float,
    Double,
    Bytes,
    String,
    /// bytes, or fixed of some size, with logicalType decimal.
    Decimal {
        fixed: Option<usize>,
        scale: i32,
    },
    Fixed(usize),
    /// fixed(16) with logicalType uuid.
    Uuid,
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(String, TypeId)>),
}

/// All types of one schema.
#[derive(Debug)]
pub(super) struct Types {
    types: Vec<Type>,
    /// The type of a whole message.
    pub root: TypeId,
}

impl Types {
    /// Reads the JSON text of a schema.
    ///
    /// # Errors
    /// A sentence that says what is no valid Avro schema.
    pub fn parse(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let mut parser = Parser {
            types: Vec::new(),
            names: HashMap::new(),
        };
        let root = parser.any(&json, "")?;
        Ok(Self {
            types: parser.types,
            root,
        })
    }

    /// Whether the scale comes first in a record that is a decimal with its own scale, as Debezium's
    /// `VariableScaleDecimal`; `None` of any other type. It is known by its fields, as a name may be lost on the way.
    pub fn variable_decimal(&self, id: TypeId) -> Option<bool> {
        let Type::Record(fields) = self.get(id) else {
            return None;
        };
        let part = |name: &str, of: &Type| {
            fields
                .iter()
                .position(|(n, id)| n == name && self.get(*id) == of)
        };
        let (scale, value) = (part(SCALE, &Type::Int)?, part(VALUE, &Type::Bytes)?);
        (fields.len() == 2).then_some(scale < value)
    }

    /// The type with this number.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }
}

struct Parser {
    types: Vec<Type>,
    /// Full names of records, enums and fixeds read so far.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, found: Type) -> Result<TypeId, String> {
        if self.types.len() == TYPES_MAX {
            return Err(format!("more than {TYPES_MAX} types"));
        }
        self.types.push(found);
        Ok(self.types.len() - 1)
    }

    fn any(&mut self, json: &Value, namespace: &str) -> Result<TypeId, String> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!(
                "a type is a name, a list or an object, found {other}"
            )),
        }
    }

    /// A primitive type, or one that was defined before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some(primitive) = primitive(name) {
            return self.add(primitive);
        }
        let known = self
            .names
            .get(&full_name(name, namespace))
            .or_else(|| self.names.get(name));
        known
            .copied()
            .ok_or_else(|| format!("type \"{name}\" is not defined"))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<TypeId, String> {
        let branches = branches
            .iter()
            .map(|json| self.any(json, namespace))
            .collect::<Result<Vec<_>, _>>()?;
        if branches
            .iter()
            .any(|&id| matches!(self.types[id], Type::Union(_)))
        {
            return Err("a union may not hold a union".to_owned());
        }
        self.add(Type::Union(branches))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // {"type": {...}} and {"type": [...]} only wrap.
            Some(inner) => return self.any(inner, namespace),
            None => return Err("an object without \"type\"".to_owned()),
        };
        match kind {
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let symbols = list(object, "symbols")?.iter().map(|symbol| {
                    symbol
                        .as_str()
                        .map(str::to_owned)
                        .ok_or("a symbol is no text".to_owned())
                });
                let symbols = symbols.collect::<Result<_, _>>()?;
                let id = self.add(Type::Enum(symbols))?;
                self.define(object, namespace, id).map(|_| id)
            }
            "fixed" => {
                let id = self.add(fixed(object)?)?;
                self.define(object, namespace, id).map(|_| id)
            }
            "array" => {
                let items = self.any(object.get("items").unwrap_or(&Value::Null), namespace)?;
                self.add(Type::Array(items))
            }
            "map" => {
                let values = self.any(object.get("values").unwrap_or(&Value::Null), namespace)?;
                self.add(Type::Map(values))
            }
            name => match primitive(name) {
                Some(plain) => self.add(logical(plain, object)),
                None => self.named(name, namespace),
            },
        }
    }

    /// A record is entered in the table before its fields are read, as they may name it.
    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let id = self.add(Type::Record(Vec::new()))?;
        let namespace = self.define(object, namespace, id)?;
        let mut fields: Vec<(String, TypeId)> = Vec::new();
        for field in list(object, "fields")? {
            let name = field
                .get("name")
                .and_then(Value::as_str)
                .ok_or("a field without a name")?;
            let json = field
                .get("type")
                .ok_or_else(|| format!("field \"{name}\" has no type"))?;
            let inner = self
                .any(json, &namespace)
                .map_err(|why| format!("{name}: {why}"))?;
            if fields.iter().any(|(other, _)| other == name) {
                return Err(format!("field \"{name}\" comes twice"));
            }
            fields.push((name.to_owned(), inner));
        }
        self.types[id] = Type::Record(fields);
        Ok(id)
    }

    /// Enters the full name of a record, enum or fixed; returns the namespace that holds inside it.
    fn define(
        &mut self,
        object: &Map<String, Value>,
        enclosing: &str,
        id: TypeId,
    ) -> Result<String, String> {
        let name = object
            .get("name")
            .and_then(Value::as_str)
            .ok_or("a type without a name")?;
        let namespace = object
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or(enclosing);
        let full = full_name(name, namespace);
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("type \"{full}\" is defined twice"));
        }
        Ok(full
            .rsplit_once('.')
            .map_or(String::new(), |(namespace, _)| namespace.to_owned()))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

fn list<'j>(object: &'j Map<String, Value>, key: &str) -> Result<&'j Vec<Value>, String> {
    object
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("\"{key}\" is no list"))
}

/// The logical type over a plain one: Avro's own, else the semantic type that Kafka Connect's converter or Debezium
/// names. One that does not fit is ignored, as the specification demands.
fn logical(plain: Type, object: &Map<String, Value>) -> Type {
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or("");
    match avro_logical(plain, text("logicalType"), object) {
        plain @ (Type::Int | Type::Long) => connect_logical(plain, text("connect.name")),
        Type::Bytes if text("connect.name") == "org.apache.kafka.connect.data.Decimal" => {
            let parameters = object.get("connect.parameters");
            let scale = parameters.and_then(|of| of.get("scale")?.as_str()?.parse().ok());
            scale.map_or(Type::Bytes, |scale| Type::Decimal { fixed: None, scale })
        }
        logical => logical,
    }
}

/// `org.apache.kafka.connect.data.*` and `io.debezium.time.*`, which count since 1970.
fn connect_logical(plain: Type, name: &str) -> Type {
    let name = name
        .strip_prefix("org.apache.kafka.connect.data.")
        .or_else(|| name.strip_prefix("io.debezium.time."));
    match (plain, name.unwrap_or("")) {
        (Type::Int, "Date") => Type::Date,
        (Type::Long, "Timestamp") => Type::Timestamp(TimeUnit::Ms),
        (Type::Long, "MicroTimestamp") => Type::Timestamp(TimeUnit::Us),
        (Type::Long, "NanoTimestamp") => Type::Timestamp(TimeUnit::Ns),
        (plain, _) => plain,
    }
}

/// The logical types of the Avro specification.
fn avro_logical(plain: Type, name: &str, object: &Map<String, Value>) -> Type {
    match (plain, name) {
        (Type::Int, "date") => Type::Date,
        (Type::Long, "timestamp-millis" | "local-timestamp-millis") => {
            Type::Timestamp(TimeUnit::Ms)
        }
        (Type::Long, "timestamp-micros" | "local-timestamp-micros") => {
            Type::Timestamp(TimeUnit::Us)
        }
        (Type::Long, "timestamp-nanos" | "local-timestamp-nanos") => Type::Timestamp(TimeUnit::Ns),
        (Type::Bytes, "decimal") => decimal(object, None).unwrap_or(Type::Bytes),
        (plain, _) => plain,
    }
}

fn fixed(object: &Map<String, Value>) -> Result<Type, String> {
    let size = object
        .get("size")
        .and_then(Value::as_u64)
        .and_then(|size| size.try_into().ok());
    let size: usize = size.ok_or("a fixed without a size")?;
    Ok(match object.get("logicalType").and_then(Value::as_str) {
        Some("decimal") => decimal(object, Some(size)).unwrap_or(Type::Fixed(size)),
        Some("uuid") if size == 16 => Type::Uuid,
        _ => Type::Fixed(size),
    })
}

/// A decimal with 0 <= scale <= precision, or `None`.
fn decimal(object: &Map<String, Value>, fixed: Option<usize>) -> Option<Type> {
    let precision = object
        .get("precision")?
        .as_u64()
        .filter(|&precision| precision > 0)?;
    let scale = object.get("scale").map_or(Some(0), Value::as_u64)?;
    let scale = i32::try_from(scale).ok()?;
    (scale as u64 <= precision).then_some(Type::Decimal { fixed, scale })
}
