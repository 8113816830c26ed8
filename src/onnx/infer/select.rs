//! Shapes of a family: gathering, padding and other selections.

use super::{Call, Info};
use crate::onnx::OnnxError;

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    match op {
        _ => None,
    }
}

impl Call<'_> {
    pub(super) fn select(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        match self.node.op() {
            _ => Ok(None),
        }
    }
}
