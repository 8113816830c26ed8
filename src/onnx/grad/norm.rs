//! The gradient of layer normalisation (Ba, Kiros & Hinton, 2016), and what it shares with the
//! other normalisations.

use super::{Backward, Parts};
use crate::onnx::Value;

impl Backward<'_> {
    /// [`Self::through_normal`] with `d = g * scale`; `dscale = sum(g n)`, `dbias = sum(g)`.
    pub(super) fn layer_normalization(&mut self, g: Value) -> Parts {
        let (x, scale) = (self.input(0)?, self.input(1)?);
        let rank = self.sizes(x)?.len() as i64;
        let axis = self.node.proto.int("axis").unwrap_or(-1);
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let (normal, deviation) = self.normal(x, &axes);

        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let d = self.b.mul(g, scale);
            *dx = Some(self.through_normal(d, normal, deviation, &axes));
        }
        if let Some(dscale) = parts.get_mut(1).filter(|_| self.needs(1)) {
            let part = self.b.mul(g, normal);
            *dscale = Some(self.reduce_to(part, scale)?);
        }
        if self.needs(2) {
            let bias = self.input(2)?;
            if let Some(dbias) = parts.get_mut(2) {
                *dbias = Some(self.reduce_to(g, bias)?);
            }
        }
        Ok(parts)
    }

    /// `x` with mean 0 and variance 1 over `axes`, and the deviation that it was divided by.
    ///
    /// Both are computed again rather than taken from the node's optional outputs, so that the
    /// gradient is made of operators that have gradients.
    pub(super) fn normal(&mut self, x: Value, axes: &[i64]) -> (Value, Value) {
        let mean = self.b.reduce_mean(x, axes, true);
        let centred = self.b.sub(x, mean);
        let deviation = self.root_mean_square(centred, axes);
        (self.b.div(centred, deviation), deviation)
    }

    /// The root of `x`'s mean square over `axes` plus the node's epsilon.
    pub(super) fn root_mean_square(&mut self, x: Value, axes: &[i64]) -> Value {
        let epsilon = self.epsilon();
        let square = self.b.mul(x, x);
        let mean = self.b.reduce_mean(square, axes, true);
        let mean = self.b.add(mean, epsilon);
        self.b.sqrt(mean)
    }

    pub(super) fn epsilon(&mut self) -> Value {
        self.b.scalar(self.node.proto.float("epsilon").unwrap_or(1e-5))
    }

    /// With `d` the gradient of the normalised `n`: `dx = (d - mean(d) - n mean(d n)) / std`.
    pub(super) fn through_normal(
        &mut self,
        d: Value,
        normal: Value,
        deviation: Value,
        axes: &[i64],
    ) -> Value {
        let mean = self.b.reduce_mean(d, axes, true);
        let along = self.b.mul(d, normal);
        let along = self.b.reduce_mean(along, axes, true);
        let along = self.b.mul(normal, along);
        let rest = self.b.sub(d, mean);
        let rest = self.b.sub(rest, along);
        self.b.div(rest, deviation)
    }
}
