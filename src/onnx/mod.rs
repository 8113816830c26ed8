//! The graph: ONNX in and out, verification, a builder, reverse-mode differentiation and training
//! steps. Knows no robot.
//!
//! A training step is an ordinary ONNX file: [`Builder`] writes a loss as a formula over a policy's
//! graph, [`grad`] appends the gradients, [`Optimiser`] the update, and [`TrainStep`] joins them into a
//! graph that any engine runs: (batch, learning rate, state) to (loss, gradient norm, new state).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod adapter;
mod builder;
mod cloning;
mod expand;
pub mod grad;
mod graph;
mod half;
mod infer;
mod inline;
mod known;
mod loss;
mod lost;
mod names;
mod operators;
mod optimiser;
pub mod proto;
mod selection;
mod sequence;
mod simplify;
mod splice;
mod tensor;
mod train_step;
mod usage;
mod verify;
mod wire;

pub use adapter::Adapter;
pub use builder::{Builder, Value};
pub use cloning::BehaviourCloning;
pub use expand::expand;
pub use graph::{Graph, ValueInfo};
pub use half::Precision;
pub use inline::inline;
pub use loss::{BcLoss, Distance, Scale};
pub use lost::{How, KEEP_ALL, Lost, advice, lost};
pub use operators::{Attribute, Operator, operators};
pub use optimiser::{AdamW, Optimiser, Sgd};
pub(crate) use optimiser::{DOMAIN, TINY_NORM};
pub use selection::{Fate, ParameterReport, Selection, summary};
pub use simplify::simplify;
pub use splice::{splice, splice_metadata};
pub(crate) use tensor::int64s;
pub use tensor::{Dim, ElementType, Tensor};
pub(crate) use train_step::{Carried, Form, INDEX, RELU_GRADIENT, data_of};
pub use train_step::{ParameterSlice, StateTensor, TrainStep};
pub use verify::{IR_VERSIONS, Limits, OPSETS, Verified, verify};

/// Why a graph was refused or could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The bytes are not an ONNX file.
    #[error("not an ONNX file: {0}; export the policy again")]
    Decode(#[from] prost::DecodeError),
    /// Something is larger than the limits allow.
    #[error("{what}: expected at most {limit}, found {found}")]
    TooLarge {
        /// What was measured.
        what: String,
        /// The largest value allowed.
        limit: usize,
        /// The value found.
        found: usize,
    },
    /// The opset is one we do not read.
    #[error(
        "opset: expected {min} to {max} of domain ai.onnx, found {found}; export the policy again with another opset"
    )]
    Opset {
        /// The oldest opset we read.
        min: i64,
        /// The newest opset we read.
        max: i64,
        /// What the file imports.
        found: i64,
    },
    /// An operator is not in the list of those that every engine runs.
    #[error(
        "node `{node}`: operator `{op}` is not supported{}; `regoal policy inspect --operators` \
         lists those that are",
        nearest.map(|name| format!(", `{name}` is")).unwrap_or_default()
    )]
    UnknownOp {
        /// The node.
        node: String,
        /// Its operator, with its domain when that is not ai.onnx.
        op: String,
        /// The supported one with nearly its name.
        nearest: Option<&'static str>,
    },
    /// The weights are not in the file.
    #[error(
        "tensor `{tensor}`: its data is in another file; export the policy with its weights inside"
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
    },
    /// A name is used before anything produces it.
    #[error("{at}: nothing before it produces `{name}`; nodes must stand in order of use")]
    Undefined {
        /// Where the name is used.
        at: String,
        /// The name.
        name: String,
    },
    /// Two values have one name.
    #[error("the name `{name}` is given to two values; names must be unique")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Something has the wrong form.
    #[error("{at}: expected {expected}, found {found}")]
    Invalid {
        /// The node, tensor or value.
        at: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An operator on the way from a parameter to the loss has no gradient here.
    #[error(
        "node `{node}`: operator `{op}` has no gradient: {reason}; freeze the parameters before it or replace it"
    )]
    NoGradient {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Why it has none.
        reason: String,
    },
}

impl OnnxError {
    /// An [`OnnxError::Invalid`].
    pub(crate) fn invalid(
        at: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Invalid { at: at.into(), expected: expected.into(), found: found.to_string() }
    }
}
