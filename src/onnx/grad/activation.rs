//! Gradients of a family: activations, softmax and reductions.

use super::{Backward, Parts};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn activation(&mut self) -> Option<Parts> {
        match self.node.proto.op() {
            _ => None,
        }
    }
}
