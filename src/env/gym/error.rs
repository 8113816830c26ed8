//! Why an environment in Python could not go on.

use std::path::PathBuf;
use std::time::Duration;

/// Why an environment in Python could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GymError {
    /// There is no such Python.
    #[error(
        "cannot start `{python}`: {source}: install Python 3, or name another with --python PATH",
        python = python.display()
    )]
    NoPython {
        /// The program.
        python: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// This Python has no gymnasium.
    #[error(
        "`{python}` has no gymnasium ({text}): install it with `{python} -m pip install gymnasium`, or \
         name another Python with --python PATH",
        python = python.display()
    )]
    NoGymnasium {
        /// The program.
        python: PathBuf,
        /// What Python said.
        text: String,
    },
    /// There is no such environment.
    #[error(
        "expected an environment that this Python knows, found `gym:{name}` ({text}): it is gym:ID, \
         gym:MODULE:ID with the module that registers it, or gym:FILE.py:CALLABLE"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What Python said.
        text: String,
    },
    /// Its spaces, or what it says of itself, are none that can be learned in.
    #[error("gym:{name}: {text}")]
    Unsupported {
        /// The environment.
        name: String,
        /// What was expected, what was found and what to do.
        text: String,
    },
    /// It announced other shapes than it answers with.
    #[error("gym:{name} answers otherwise than its spaces say: {text}: mend the environment")]
    Shape {
        /// The environment.
        name: String,
        /// What was expected and what was found.
        text: String,
    },
    /// Its own code raised an exception.
    #[error("gym:{name} raised an exception: mend the environment\n{text}")]
    Raised {
        /// The environment.
        name: String,
        /// The end of the traceback.
        text: String,
    },
    /// A number is not finite.
    #[error(
        "gym:{name} diverged: {what} is not finite at step {step}: smaller actions or a smaller time \
         step may help"
    )]
    NotFinite {
        /// The environment.
        name: String,
        /// Which number.
        what: &'static str,
        /// Steps since the reset.
        step: usize,
    },
    /// Its process has ended.
    #[error("the process of gym:{name} has ended ({status}); it said last:\n{said}")]
    Died {
        /// The environment.
        name: String,
        /// How it ended.
        status: String,
        /// The last lines of its standard error.
        said: String,
    },
    /// Its process does not answer.
    #[error(
        "the process of gym:{name} did not answer within {limit:?} and was ended: where it needs \
         longer, give it with --python-limit SECONDS; it said last:\n{said}"
    )]
    Hung {
        /// The environment.
        name: String,
        /// How long it had.
        limit: Duration,
        /// The last lines of its standard error.
        said: String,
    },
    /// The bridge is of another version of this program.
    #[error(
        "gym:{name}: expected a bridge of version {expected}, found {found}: name a Python with \
         --python PATH that runs what it is given"
    )]
    Version {
        /// The environment.
        name: String,
        /// Ours.
        expected: u64,
        /// Its own.
        found: u64,
    },
    /// The bridge says something else.
    #[error(
        "gym:{name}: expected {expected}, found {found}: name a Python 3.8 or newer with --python PATH"
    )]
    Answer {
        /// The environment.
        name: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl GymError {
    /// Whether another episode may go well: the process is started anew for it where it was lost.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Died { .. }
                | Self::Hung { .. }
                | Self::NotFinite { .. }
                | Self::Raised { .. }
                | Self::Shape { .. }
        )
    }
}
