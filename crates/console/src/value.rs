//! Looking into what the API answered: a field that is missing is empty, so that a page of an older API has a gap and not a fault.

use serde_json::Value;

/// A text.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A text that may be missing.
pub fn maybe<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// A number.
pub fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// True or false.
pub fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// A list.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A list of texts with commas between.
pub fn joined(value: &Value, name: &str) -> String {
    list(value, name).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
