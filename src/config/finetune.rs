//! When a robot learns from what it did, and with what.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::in_range;

/// When a robot learns from what it did, and with what (`[finetune]`). It needs `policy.store`, whose
/// policy is fine-tuned in a process of its own while the arm goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneConfig {
    /// Learn after this many episodes; 0: only when somebody asks.
    pub every: usize,
    /// Training steps.
    pub steps: usize,
    /// Folders of demonstrations to learn from too, relative to this file.
    pub demonstrations: Vec<PathBuf>,
    /// This share of the episodes is kept aside to judge the candidate by.
    pub holdout: f64,
    /// Goals in the emulator that a candidate is judged by.
    pub goals: usize,
    /// The most memory that learning may take (MiB).
    pub memory_mib: u64,
    /// The processor cores that learning may use, counted from 0; all but the first when empty.
    pub cores: Vec<usize>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            every: 0,
            steps: 4000,
            demonstrations: Vec::new(),
            holdout: 0.1,
            goals: 100,
            memory_mib: 2048,
            cores: Vec::new(),
        }
    }
}

impl FinetuneConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        in_range("finetune.steps", self.steps as f64, 1.0, 1e9)?;
        in_range("finetune.holdout", self.holdout, 0.01, 0.5)?;
        in_range("finetune.goals", self.goals as f64, 1.0, 1e5)?;
        in_range("finetune.memory_mib", self.memory_mib as f64, 256.0, 1e6)
    }
}
