//! The OpenAPI 3.1 document, made of the table of operations.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::api::ErrorReply;
use super::operations::operations;

/// The OpenAPI 3.1 document of the API; `x-role` is the weakest role that may.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let error = json!({
        "description": "Not done, and why.",
        "content": { "application/json": { "schema": schemas.subschema_for::<ErrorReply>() } },
    });
    let mut paths = Map::new();
    for operation in operations() {
        let mut described = (operation.describe)(&mut schemas);
        described.insert("operationId".into(), json!(operation.name));
        described.insert("summary".into(), json!(operation.about));
        described.insert("x-role".into(), json!(operation.role));
        if let Some(responses) = described.get_mut("responses").and_then(Value::as_object_mut) {
            responses.insert("default".into(), error.clone());
        }
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_lowercase(), Value::Object(described));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "regoal",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One robot arm that reaches for goals. JSON, SI units, base frame.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/openapi.json");

    /// `REGOAL_UPDATE=1 cargo test openapi` writes it anew.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test that keeps a shipped file current")]
    fn the_shipped_document_is_the_codes() {
        let document = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("REGOAL_UPDATE").is_some() {
            std::fs::write(SHIPPED, &document).unwrap();
        }
        let shipped = std::fs::read_to_string(SHIPPED).unwrap_or_default();
        assert!(
            shipped == document,
            "{SHIPPED} is out of date: REGOAL_UPDATE=1 cargo test openapi"
        );
    }

    #[test]
    fn every_operation_has_its_own_name_and_place() {
        let all = operations();
        for (i, a) in all.iter().enumerate() {
            for b in all.iter().skip(i + 1) {
                assert!(
                    a.name != b.name && (a.path, &a.method) != (b.path, &b.method),
                    "{}",
                    a.name
                );
            }
        }
    }

    #[test]
    fn the_weakest_role_may_stop_the_arm_and_change_nothing_else() {
        use crate::daemon::Role;
        let may: Vec<_> = operations()
            .into_iter()
            .filter(|o| o.role == Role::Observe && o.method != axum::http::Method::GET)
            .map(|o| o.name)
            .collect();
        assert_eq!(may, ["estop"]);
    }

    /// Every `$ref` leads somewhere.
    #[test]
    fn nothing_is_described_by_a_schema_that_is_not_there() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(to)) = map.get("$ref") {
                        let found = document.pointer(to.trim_start_matches('#'));
                        assert!(found.is_some(), "{to}");
                    }
                    map.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document);
    }
}
