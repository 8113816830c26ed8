//! Gradients of sums, means, norms and extrema over axes.

use super::{Backward, Parts, Value};
use crate::onnx::OnnxError;

impl Backward<'_> {
    pub(super) fn reduce(&mut self, g: Value) -> Parts {
        let (x, y) = (self.input(0)?, self.output()?);
        let sizes = self.sizes(x)?;
        let op = self.node.proto.op();
        let axes = match self.ints(1)? {
            Some(axes) => axes,
            None => self.node.proto.ints("axes").unwrap_or(&[]).to_vec(),
        };
        if axes.is_empty() && self.node.proto.int("noop_with_empty_axes").unwrap_or(0) != 0 {
            return match op {
                "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum" => Ok(vec![Some(g)]),
                _ => Err(self.no_gradient_because("there is no rule for it without axes")),
            };
        }
        let axes = self.axes(&axes, sizes.len());
        let reduced = |i: usize| axes.is_empty() || axes.contains(&(i as i64));
        let kept: Vec<i64> =
            sizes.iter().enumerate().map(|(i, n)| if reduced(i) { 1 } else { *n }).collect();
        let g = self.shaped(g, &kept)?;
        let part = match op {
            "ReduceSum" => g,
            "ReduceMean" => {
                let count: i64 =
                    sizes.iter().zip(&kept).filter(|(n, k)| n != k).map(|(n, _)| *n).product();
                self.times(1.0 / count as f32, g)
            }
            _ => {
                let y = self.shaped(y, &kept)?;
                self.reduce_part(g, x, y, &axes)?
            }
        };
        let whole = self.sizes(part)? == sizes;
        Ok(vec![Some(if whole { part } else { self.b.expand(part, &sizes) })])
    }

    fn shaped(&mut self, value: Value, sizes: &[i64]) -> Result<Value, OnnxError> {
        Ok(if self.sizes(value)? == sizes { value } else { self.b.reshape(value, sizes) })
    }

    /// The gradient that broadcasts to `x`; `g` and `y` have their reduced axes with size 1.
    fn reduce_part(
        &mut self,
        g: Value,
        x: Value,
        y: Value,
        axes: &[i64],
    ) -> Result<Value, OnnxError> {
        Ok(match self.node.proto.op() {
            "ReduceL1" => {
                let sign = self.apply("Sign", x);
                self.b.mul(sign, g)
            }
            // At the origin the gradient is 0, as in PyTorch.
            "ReduceL2" => {
                let norm = self.b.clip(y, f32::MIN_POSITIVE, f32::MAX);
                let share = self.b.div(g, norm);
                self.b.mul(x, share)
            }
            "ReduceLogSum" => {
                let sum = self.b.exp(y);
                self.b.div(g, sum)
            }
            "ReduceLogSumExp" => {
                let share = self.b.sub(x, y);
                let share = self.b.exp(share);
                self.b.mul(share, g)
            }
            // Equal extrema share the gradient.
            "ReduceMax" | "ReduceMin" => {
                let chosen = self.b.equal(x, y);
                let chosen = self.b.to_f32(chosen);
                let count = self.b.reduce_sum(chosen, axes, true);
                let share = self.b.div(g, count);
                self.b.mul(chosen, share)
            }
            "ReduceProd" => self.product_of_others(g, x, axes),
            "ReduceSumSquare" => {
                let twice = self.times(2.0, g);
                self.b.mul(x, twice)
            }
            _ => return Err(self.no_gradient()),
        })
    }

    /// `g` times the product of the other elements, right where some are 0, too: an element counts
    /// only where it holds all the zeros there are. (The second derivative at zeros is not.)
    fn product_of_others(&mut self, g: Value, x: Value, axes: &[i64]) -> Value {
        let nothing = self.b.scalar(0.0);
        let zero = self.b.equal(x, nothing);
        let zero = self.b.to_f32(zero);
        let count = self.b.reduce_sum(zero, axes, true);
        let alone = self.b.equal(count, zero);
        let nonzero = self.b.add(x, zero);
        let product = self.b.reduce("ReduceProd", nonzero, axes, true);
        let product = self.b.mul(product, g);
        let others = self.b.div(product, nonzero);
        self.masked(others, alone)
    }
}
