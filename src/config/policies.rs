//! Where a robot keeps its policies and whose it takes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a robot keeps its policies and whose it takes (`[policy]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// The folder of the policies, relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// Whose signatures count: public keys in minisign's format, the second line of a `.pub` file.
    /// Without any, every policy is taken.
    pub trusted_keys: Vec<String>,
    /// Whose signatures count no more: public keys, or their ids of 16 hexadecimal digits.
    pub revoked_keys: Vec<String>,
    /// So many of the trusted keys must have signed a policy.
    pub threshold: usize,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { store: None, trusted_keys: Vec::new(), revoked_keys: Vec::new(), threshold: 1 }
    }
}

impl PolicyConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let keys = self.trusted_keys.len().max(1);
        if (1..=keys).contains(&self.threshold) {
            return Ok(());
        }
        let found = self.threshold;
        Err(format!(
            "policy.threshold: expected 1 to {keys}, as many keys are trusted, found {found}"
        ))
    }
}
