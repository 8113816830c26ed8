//! The JSON schema of a robot's configuration, for editors.

use super::RobotConfig;

/// The JSON schema of a robot's configuration (JSON Schema 2020-12), as shipped in
/// `firmware-config/robot.schema.json`: editors that know it complete and check the keys.
///
/// # Errors
/// The schema cannot be put into words, which a test rules out.
pub fn schema() -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(RobotConfig))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-config/robot.schema.json");

    /// `REGOAL_UPDATE=1 cargo test schema` writes it anew.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test that keeps a shipped file current")]
    fn the_shipped_schema_is_the_codes() {
        let schema = schema().unwrap();
        if std::env::var_os("REGOAL_UPDATE").is_some() {
            std::fs::write(SHIPPED, &schema).unwrap();
        }
        let shipped = std::fs::read_to_string(SHIPPED).unwrap_or_default();
        assert!(shipped == schema, "{SHIPPED} is out of date: REGOAL_UPDATE=1 cargo test schema");
    }

    #[test]
    fn the_schema_refuses_unknown_keys_and_names_the_required_ones() {
        let schema: serde_json::Value = serde_json::from_str(&schema().unwrap()).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["name", "model", "bus", "joint"]));
        assert!(schema["properties"].get("urdf").is_none(), "the text of a URDF is no key");
    }
}
