//! Gradients of a family: recurrent cells and Einsum.

use super::{Backward, Parts};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn recurrent(&mut self) -> Option<Parts> {
        match self.node.proto.op() {
            // Their gates are no outputs: `expand` writes them out before differentiation.
            "Einsum" | "GRU" | "LSTM" | "RNN" => {
                Some(Err(self.no_gradient_because("it must be written out by `expand` first")))
            }
            _ => None,
        }
    }
}
