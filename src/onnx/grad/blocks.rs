//! Gradients of moving blocks of an image into its channels and back.

use super::{Backward, Parts};
use crate::onnx::Value;

impl Backward<'_> {
    /// The same elements moved back, as three operators that every engine has for both modes:
    /// with `b` the size of a block, channels are [b, b, C] (SpaceToDepth and mode DCR) or
    /// [C, b, b] (mode CRD).
    pub(super) fn blocks(&mut self, g: Value) -> Parts {
        let b = self.node.proto.int("blocksize").unwrap_or(1);
        let deep = if self.node.proto.op() == "DepthToSpace" { self.input(0)? } else { g };
        let sizes = self.sizes(self.input(0)?)?;
        let [n, channels, h, w] = *self.sizes(deep)?.as_slice() else {
            return Err(self.no_gradient());
        };
        let c = channels / (b * b).max(1);
        let blocks_last = self.node.proto.string("mode") == Some("CRD");
        let part = if self.node.proto.op() == "DepthToSpace" {
            let g = self.b.reshape(g, &[n, c, h, b, w, b]);
            let order = if blocks_last { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
            self.b.transpose(g, &order)
        } else {
            let g = self.b.reshape(g, &[n, b, b, c, h, w]);
            self.b.transpose(g, &[0, 3, 4, 1, 5, 2])
        };
        Ok(vec![Some(self.b.reshape(part, &sizes))])
    }
}
