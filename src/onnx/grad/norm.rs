//! The gradient of layer normalisation (Ba, Kiros & Hinton, 2016).

use super::{Backward, Parts};
use crate::onnx::Value;

impl Backward<'_> {
    /// With `n` the normalised input and `d = g * scale`:
    /// `dx = (d - mean(d) - n mean(d n)) / std`, `dscale = sum(g n)`, `dbias = sum(g)`.
    ///
    /// Mean and deviation are computed again rather than taken from the node's optional outputs, so
    /// that the gradient is made of operators that have gradients.
    pub(super) fn layer_normalization(&mut self, g: Value) -> Parts {
        let (x, scale) = (self.input(0)?, self.input(1)?);
        let rank = self.sizes(x)?.len() as i64;
        let axis = self.node.proto.int("axis").unwrap_or(-1);
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let epsilon = self.b.scalar(self.node.proto.float("epsilon").unwrap_or(1e-5));

        let mean = self.b.reduce_mean(x, &axes, true);
        let centred = self.b.sub(x, mean);
        let square = self.b.mul(centred, centred);
        let variance = self.b.reduce_mean(square, &axes, true);
        let variance = self.b.add(variance, epsilon);
        let deviation = self.b.sqrt(variance);
        let normal = self.b.div(centred, deviation);

        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let d = self.b.mul(g, scale);
            let mean_d = self.b.reduce_mean(d, &axes, true);
            let along = self.b.mul(d, normal);
            let along = self.b.reduce_mean(along, &axes, true);
            let along = self.b.mul(normal, along);
            let rest = self.b.sub(d, mean_d);
            let rest = self.b.sub(rest, along);
            *dx = Some(self.b.div(rest, deviation));
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
}
