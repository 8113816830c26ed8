//! Gradients of normalisation by exponentials, of running sums and of choices between inputs.

use super::{Backward, Parts, Value};
use crate::onnx::OnnxError;
use crate::onnx::proto::AttributeProto;

impl Backward<'_> {
    /// Softmax: `y (g - sum(g y))`; its logarithm: `g - exp(y) sum(g)`; sums over the axis.
    pub(super) fn softmax(&mut self) -> Parts {
        let (g, y) = (self.grad()?, self.output()?);
        let axis = [self.node.proto.int("axis").unwrap_or(-1)];
        let part = if self.node.proto.op() == "Softmax" {
            let along = self.b.mul(g, y);
            let sum = self.b.reduce_sum(along, &axis, true);
            let rest = self.b.sub(g, sum);
            self.b.mul(y, rest)
        } else {
            let sum = self.b.reduce_sum(g, &axis, true);
            let share = self.b.exp(y);
            let share = self.b.mul(share, sum);
            self.b.sub(g, share)
        };
        Ok(vec![Some(part)])
    }

    /// A running sum from the other end.
    pub(super) fn cumulative_sum(&mut self) -> Parts {
        let (g, axis) = (self.grad()?, self.input(1)?);
        let flag = |name| self.node.proto.int(name).unwrap_or(0);
        let attributes = vec![
            AttributeProto::int("exclusive", flag("exclusive")),
            AttributeProto::int("reverse", 1 - flag("reverse")),
        ];
        let part = self.b.op("CumSum", &[g, axis], attributes);
        self.only_first(part)
    }

    /// `Sum` and `Mean` of any number of inputs that broadcast.
    pub(super) fn variadic_sum(&mut self) -> Parts {
        let (g, count) = (self.grad()?, self.node.inputs.len());
        let mean = self.node.proto.op() == "Mean" && count > 1;
        let g = if mean { self.times(1.0 / count as f32, g) } else { g };
        self.through_sum(|_, _| Ok(g))
    }

    /// `Min` and `Max`. The inputs that are equal to the output share the gradient, as in PyTorch
    /// and JAX; one that is compared with constants only has it all.
    pub(super) fn extremum(&mut self) -> Parts {
        let (g, y) = (self.grad()?, self.output()?);
        let mut masks = Vec::new();
        for index in 0..self.node.inputs.len() {
            let mask = if self.needs(index) {
                let input = self.input(index)?;
                let chosen = self.b.equal(input, y);
                Some(self.b.to_f32(chosen))
            } else {
                None
            };
            masks.push(mask);
        }
        let mut chosen = masks.iter().flatten().copied();
        let first = chosen.next();
        let rest: Vec<Value> = chosen.collect();
        let share = match first {
            Some(first) if !rest.is_empty() => {
                let count = rest.into_iter().fold(first, |sum, mask| self.b.add(sum, mask));
                // Where a constant is the largest nobody is counted and nobody has a share.
                let count = self.b.clip(count, 1.0, f32::MAX);
                self.b.div(g, count)
            }
            _ => g,
        };
        self.through_sum(|this, index| {
            let mask = masks.get(index).copied().flatten().ok_or_else(|| this.no_gradient())?;
            Ok(this.b.mul(share, mask))
        })
    }

    /// The part of each input that needs one, summed to the input's shape.
    fn through_sum(
        &mut self,
        mut part: impl FnMut(&mut Self, usize) -> Result<Value, OnnxError>,
    ) -> Parts {
        let mut parts = Vec::new();
        for index in 0..self.node.inputs.len() {
            parts.push(if self.needs(index) {
                let (whole, input) = (part(self, index)?, self.input(index)?);
                Some(self.reduce_to(whole, input)?)
            } else {
                None
            });
        }
        Ok(parts)
    }
}
