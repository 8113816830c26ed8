//! Gradients of operators that rearrange, join and cut.

use super::{Backward, Parts, Value};
use crate::onnx::{OnnxError, Tensor};

impl Backward<'_> {
    pub(super) fn rearrange(&mut self, g: Value) -> Parts {
        let x = self.input(0)?;
        let sizes = self.sizes(x)?;
        let part = match self.node.proto.op() {
            "Concat" => return self.concat(g),
            "Expand" => self.reduce_to(g, x)?,
            "Identity" => g,
            "Slice" => self.slice(g, &sizes)?,
            "Transpose" => {
                let reversed: Vec<i64> = (0..sizes.len() as i64).rev().collect();
                let order = self.node.proto.ints("perm").unwrap_or(&reversed);
                let back = |i: i64| order.iter().position(|o| *o == i).unwrap_or(0) as i64;
                let inverse: Vec<i64> = (0..sizes.len() as i64).map(back).collect();
                self.b.transpose(g, &inverse)
            }
            // Flatten, Reshape, Squeeze, Unsqueeze: the same elements in the same order.
            _ => self.b.reshape(g, &sizes),
        };
        Ok(vec![Some(part)])
    }

    fn concat(&mut self, g: Value) -> Parts {
        let (axis, mut start) = (self.axis(g)?, 0);
        let mut parts = Vec::new();
        for index in 0..self.node.inputs.len() {
            let input = self.input(index)?;
            let end = start + self.size(input, axis)?;
            parts.push(self.needs(index).then(|| self.b.slice(g, axis, start, end)));
            start = end;
        }
        Ok(parts)
    }

    /// The joined gradients of the pieces; a piece that the loss does not use counts as zeros.
    pub(super) fn split(&mut self) -> Parts {
        let x = self.input(0)?;
        let axis = self.axis(x)?;
        let mut parts = Vec::new();
        for (output, grad) in self.node.outputs.iter().zip(self.grads.clone()) {
            match (output, grad) {
                (_, Some(g)) => parts.push(g),
                (Some(output), None) => {
                    let sizes = self.sizes(*output)?;
                    parts.push(self.zeros(&sizes));
                }
                (None, None) => return Err(self.no_gradient()),
            }
        }
        Ok(vec![Some(self.b.concat(&parts, axis))])
    }

    fn zeros(&mut self, sizes: &[i64]) -> Value {
        let dims: Vec<usize> = sizes.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        self.b.constant(Tensor::zeros(dims))
    }

    /// The node's `axis`, counted from 0, on a value of the same rank as `like`.
    fn axis(&self, like: Value) -> Result<i64, OnnxError> {
        let rank = self.sizes(like)?.len();
        let axis = self.node.proto.int("axis").unwrap_or(0);
        Ok(self.axes(&[axis], rank).first().copied().unwrap_or(0))
    }

    fn size(&self, value: Value, axis: i64) -> Result<i64, OnnxError> {
        let sizes = self.sizes(value)?;
        usize::try_from(axis)
            .ok()
            .and_then(|i| sizes.get(i))
            .copied()
            .ok_or_else(|| self.no_gradient())
    }
}
