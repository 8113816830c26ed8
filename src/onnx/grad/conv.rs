//! Gradients of a family: convolution, pooling and the normalisations that go with them.

use super::{Backward, Parts};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn conv(&mut self) -> Option<Parts> {
        match self.node.proto.op() {
            _ => None,
        }
    }
}
