//! Shapes of a family: convolution, pooling and the normalisations that go with them.

use super::{Call, Info};
use crate::onnx::OnnxError;

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    match op {
        _ => None,
    }
}

impl Call<'_> {
    pub(super) fn conv(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        match self.node.op() {
            _ => Ok(None),
        }
    }
}
