//! The gradient of layer normalisation (Ba, Kiros & Hinton, 2016), and what it shares with the
//! other normalisations.

use super::{Backward, Parts};
use crate::onnx::Value;

impl Backward<'_> {
    /// [`Self::through_normal`] with `d = g * scale`, and [`Self::through_statistics`];
    /// `dscale = sum(g n)`, `dbias = sum(g)`.
    pub(super) fn layer_normalization(&mut self) -> Parts {
        let (x, scale) = (self.input(0)?, self.input(1)?);
        let sizes = self.sizes(x)?;
        let rank = sizes.len() as i64;
        let axis = self.node.proto.int("axis").unwrap_or(-1);
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let (normal, deviation) = self.normal(x, &axes);
        let grad = |index: usize| self.grads.get(index).copied().flatten();
        let (g, mean, inverse) = (grad(0), grad(1), grad(2));

        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let count: i64 = sizes.iter().skip(axes.first().map_or(0, |a| *a as usize)).product();
            let through = g.map(|g| {
                let d = self.b.mul(g, scale);
                self.through_normal(d, normal, deviation, &axes)
            });
            let beside = self.through_statistics((mean, inverse), (normal, deviation), count);
            let sum = through.into_iter().chain(beside).reduce(|a, b| self.b.add(a, b));
            // Alone, the mean's part is one element along the axes.
            let alone = g.is_none() && inverse.is_none();
            *dx = sum.map(|sum| if alone { self.b.expand(sum, &sizes) } else { sum });
        }
        let Some(g) = g else { return Ok(parts) };
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

    /// The gradients that the optional outputs, mean and inverse deviation of `count` elements, hand
    /// on: `dmean / count` and `-dinverse n / std^2 / count`.
    fn through_statistics(
        &mut self,
        (mean, inverse): (Option<Value>, Option<Value>),
        (normal, deviation): (Value, Value),
        count: i64,
    ) -> Vec<Value> {
        let count = self.b.scalar(count as f32);
        let mut parts: Vec<Value> = mean.map(|g| self.b.div(g, count)).into_iter().collect();
        if let Some(g) = inverse {
            let square = self.b.mul(deviation, deviation);
            let square = self.b.mul(square, count);
            let share = self.b.div(g, square);
            let part = self.b.mul(share, normal);
            parts.push(self.b.neg(part));
        }
        parts
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
