//! Shapes of a family: recurrent cells and Einsum.

use super::{Call, Info};
use crate::onnx::OnnxError;

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    match op {
        _ => None,
    }
}

impl Call<'_> {
    pub(super) fn recurrent(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        match self.node.op() {
            _ => Ok(None),
        }
    }
}
