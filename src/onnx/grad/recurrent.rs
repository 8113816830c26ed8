//! Gradients of a family: recurrent cells and Einsum.

use super::{Backward, Parts};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn recurrent(&mut self) -> Option<Parts> {
        match self.node.proto.op() {
            _ => None,
        }
    }
}
