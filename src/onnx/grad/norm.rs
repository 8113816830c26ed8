//! The gradient of layer normalisation (Ba, Kiros & Hinton, 2016), and what it shares with the
//! other normalisations.

use super::{Backward, Parts};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::{OnnxError, Tensor, Value};

impl Backward<'_> {
    /// [`Self::through_normal`] with `d = g * scale`, and [`Self::through_statistics`];
    /// `dscale = sum(g n)`, `dbias = sum(g)`.
    pub(super) fn layer_normalization(&mut self) -> Parts {
        let (x, scale) = (self.input(0)?, self.input(1)?);
        let sizes = self.sizes(x)?;
        let rank = sizes.len() as i64;
        let axis = self.node.proto.int("axis").unwrap_or(-1);
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let (normal, inverse_deviation) = self.normal(x, &axes)?;
        let grad = |index: usize| self.grads.get(index).copied().flatten();
        let (g, mean, inverse) = (grad(0), grad(1), grad(2));

        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let count: i64 = sizes.iter().skip(axes.first().map_or(0, |a| *a as usize)).product();
            let through = g.map(|g| {
                let d = self.b.mul(g, scale);
                self.through_normal(d, normal, inverse_deviation, &axes)
            });
            let beside =
                self.through_statistics((mean, inverse), (normal, inverse_deviation), count);
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
        (normal, inverse_deviation): (Value, Value),
        count: i64,
    ) -> Vec<Value> {
        let share = self.b.scalar(1.0 / count as f32);
        let mut parts: Vec<Value> = mean.map(|g| self.b.mul(g, share)).into_iter().collect();
        if let Some(g) = inverse {
            let square = self.b.mul(inverse_deviation, inverse_deviation);
            let square = self.b.mul(square, share);
            let share = self.b.mul(g, square);
            let part = self.b.mul(share, normal);
            parts.push(self.b.neg(part));
        }
        parts
    }

    /// `x` with mean 0 and variance 1 over the last axes `axes`, and the inverse of the deviation that
    /// it was divided by.
    ///
    /// Both are computed again, by the operator itself where the opset has it, whose outputs have
    /// gradients too.
    pub(super) fn normal(&mut self, x: Value, axes: &[i64]) -> Result<(Value, Value), OnnxError> {
        let epsilon = self.node.proto.float("epsilon").unwrap_or(1e-5);
        if self.b.opset() >= 17 {
            let first = axes.first().copied().unwrap_or(0);
            let sizes = self.sizes(x)?.into_iter().skip(usize::try_from(first).unwrap_or(0));
            let sizes: Vec<usize> = sizes.map(|n| usize::try_from(n).unwrap_or(0)).collect();
            let filled =
                |value| Tensor { dims: sizes.clone(), data: vec![value; sizes.iter().product()] };
            let [ones, zeros] = [1.0, 0.0].map(|value| self.b.constant(filled(value)));
            let proto = NodeProto {
                op_type: Some("LayerNormalization".into()),
                attribute: vec![
                    AttributeProto::int("axis", first),
                    AttributeProto::float("epsilon", epsilon),
                ],
                ..NodeProto::default()
            };
            let outputs = self.b.node(proto, &[Some(x), Some(ones), Some(zeros)], 3);
            if let [normal, _, inverse_deviation] = outputs.as_slice() {
                return Ok((*normal, *inverse_deviation));
            }
        }
        let mean = self.b.reduce_mean(x, axes, true);
        let centred = self.b.sub(x, mean);
        let square = self.b.mul(centred, centred);
        let variance = self.b.reduce_mean(square, axes, true);
        let epsilon = self.b.scalar(epsilon);
        let variance = self.b.add(variance, epsilon);
        let deviation = self.b.sqrt(variance);
        let one = self.b.scalar(1.0);
        let inverse_deviation = self.b.div(one, deviation);
        Ok((self.b.mul(centred, inverse_deviation), inverse_deviation))
    }

    pub(super) fn epsilon(&mut self) -> Value {
        self.b.scalar(self.node.proto.float("epsilon").unwrap_or(1e-5))
    }

    /// With `d` the gradient of the normalised `n`: `dx = (d - mean(d) - n mean(d n)) / std`.
    pub(super) fn through_normal(
        &mut self,
        d: Value,
        normal: Value,
        inverse_deviation: Value,
        axes: &[i64],
    ) -> Value {
        let mean = self.b.reduce_mean(d, axes, true);
        let along = self.b.mul(d, normal);
        let along = self.b.reduce_mean(along, axes, true);
        let along = self.b.mul(normal, along);
        let rest = self.b.sub(d, mean);
        let rest = self.b.sub(rest, along);
        self.b.mul(rest, inverse_deviation)
    }
}
