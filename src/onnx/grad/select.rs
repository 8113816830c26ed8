//! Gradients of a family: gathering, padding and other selections.

use super::{Backward, Parts};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn select(&mut self) -> Option<Parts> {
        match self.node.proto.op() {
            _ => None,
        }
    }
}
