//! Which Python runs an environment of Gymnasium's.

use std::path::PathBuf;

use clap::Args;

use crate::env::Python;

/// The Python of an environment gym:NAME
#[derive(Debug, Clone, Default, Args)]
pub struct PythonArgs {
    /// The Python that has gymnasium, for an environment gym:NAME [default: python3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Seconds that it may take to start, and for each step [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    python_limit: Option<u32>,
}

impl PythonArgs {
    /// What was asked for, laid over what a file says, laid over the defaults.
    pub fn over(&self, written: Option<Python>) -> Python {
        let Python { program, limit_s } = written.unwrap_or_default();
        Python {
            program: self.python.clone().unwrap_or(program),
            limit_s: self.python_limit.unwrap_or(limit_s),
        }
    }
}
