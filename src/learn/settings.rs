//! Settings in layers: a method's defaults, a preset, a file, single assignments.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Why settings were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not TOML.
    #[error("{from}, line {line}: {message}")]
    Syntax {
        /// Which layer.
        from: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No assignment.
    #[error("expected KEY=VALUE, found `{0}`")]
    Assignment(String),
    /// An unknown key or a value of another type.
    #[error("{from}: {message}")]
    Refused {
        /// Which layer.
        from: String,
        /// What is wrong, and the nearest valid key if a key is unknown.
        message: String,
    },
}

/// Reads a TOML text; `from` names it in errors.
///
/// # Errors
/// The text is not TOML.
pub fn read(text: &str, from: &str) -> Result<Table, SettingsError> {
    text.parse::<Table>().map_err(|e| SettingsError::Syntax {
        from: from.into(),
        line: e.span().map_or(1, |s| 1 + text[..s.start.min(text.len())].matches('\n').count()),
        message: e.message().trim().into(),
    })
}

/// `a.b=3` as a table; what is no TOML value is a string, so that words need no quotes.
///
/// # Errors
/// There is no `=`, or the key is no TOML key.
pub fn assignment(text: &str) -> Result<Table, SettingsError> {
    let wrong = || SettingsError::Assignment(text.into());
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let word = Value::from(value.trim());
    let tries = [format!("{key} = {value}"), format!("{key} = {word}")];
    tries.iter().find_map(|t| t.parse::<Table>().ok().filter(|t| t.len() == 1)).ok_or_else(wrong)
}

/// Lays `layer` over `base`: tables key by key, everything else as a whole.
pub fn lay_over(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Reads a method's settings.
///
/// # Errors
/// A key is unknown or a value of another type.
pub fn parse<S: DeserializeOwned>(settings: Table, from: &str) -> Result<S, SettingsError> {
    settings.try_into().map_err(|e: toml::de::Error| {
        let mut message = e.message().trim().to_owned();
        if let Some(key) = crate::config::nearest_key(&message) {
            message.push_str(&format!("; did you mean `{key}`?"));
        }
        SettingsError::Refused { from: from.into(), message }
    })
}

/// All settings of a method, those that `settings` leaves out included: a table that is given in
/// part keeps the method's own defaults beside it.
///
/// # Errors
/// As [`parse`].
pub fn resolve<S: Default + Serialize + DeserializeOwned>(
    settings: Table,
    from: &str,
) -> Result<Table, SettingsError> {
    let mut all = table(&S::default(), from)?;
    lay_over(&mut all, settings);
    table(&parse::<S>(all, from)?, from)
}

/// Settings as a table.
///
/// # Errors
/// They have no form in TOML.
pub fn table(settings: &impl Serialize, from: &str) -> Result<Table, SettingsError> {
    let refused =
        |e: toml::ser::Error| SettingsError::Refused { from: from.into(), message: e.to_string() };
    let mut all = Table::try_from(settings).map_err(refused)?;
    all.iter_mut().for_each(|(_, value)| shorten(value));
    Ok(all)
}

/// Numbers that came from an f32 with the digits of an f32: 0.001, not 0.0010000000474974513.
fn shorten(value: &mut Value) {
    match value {
        Value::Float(x) if f64::from(*x as f32) == *x => {
            *x = (*x as f32).to_string().parse().unwrap_or(*x);
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| shorten(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        rate: f32,
        name: String,
        hidden: Vec<usize>,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        share: f64,
        limit: Option<f32>,
    }

    impl Default for Outer {
        fn default() -> Self {
            Self {
                rate: 1e-3,
                name: "a".into(),
                hidden: vec![2],
                inner: Inner { share: 0.25, limit: None },
            }
        }
    }

    fn laid(assignments: &[&str]) -> Result<Outer, SettingsError> {
        let mut base = resolve::<Outer>(Table::new(), "defaults")?;
        for text in assignments {
            lay_over(&mut base, assignment(text)?);
        }
        parse(base, "--set")
    }

    #[test]
    fn assignments_change_what_they_name_and_nothing_else() {
        let found =
            laid(&["inner.limit=2", "name = future goals", "hidden=[4, 4]", "inner.share=0.5"]);
        let inner = Inner { share: 0.5, limit: Some(2.0) };
        let name = "future goals".into();
        assert_eq!(found, Ok(Outer { name, hidden: vec![4, 4], inner, ..Outer::default() }));
    }

    #[test]
    fn a_table_given_in_part_keeps_the_defaults_of_the_whole() {
        let all = resolve::<Outer>(read("[inner]\nlimit = 3", "x").unwrap(), "x").unwrap();
        assert_eq!(
            parse::<Outer>(all, "x").unwrap().inner,
            Inner { share: 0.25, limit: Some(3.0) }
        );
    }

    #[test]
    fn what_is_resolved_reads_back_and_is_short() {
        let all = resolve::<Outer>(assignment("rate=0.0003").unwrap(), "x").unwrap();
        assert!(all.to_string().contains("rate = 0.0003\n"), "{all}");
        assert_eq!(parse::<Outer>(all.clone(), "x").unwrap().rate, 3e-4);
        assert_eq!(resolve::<Outer>(all.clone(), "x").unwrap(), all);
    }

    #[test]
    fn a_wrong_key_value_or_form_is_named() {
        let says = |text: &str| laid(&[text]).unwrap_err().to_string();
        assert!(
            says("inner.shard=1").ends_with("did you mean `share`?"),
            "{}",
            says("inner.shard=1")
        );
        assert!(
            says("rate=fast").contains("invalid type: string \"fast\""),
            "{}",
            says("rate=fast")
        );
        assert_eq!(says("rate"), "expected KEY=VALUE, found `rate`");
        assert_eq!(says("a b=1"), "expected KEY=VALUE, found `a b=1`");
        let error = read("a = 1\nb = = 2", "my.toml").unwrap_err().to_string();
        assert!(error.starts_with("my.toml, line 2: "), "{error}");
    }
}
