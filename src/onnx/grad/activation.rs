//! Gradients of activations: the gradient of the output times the slope. Slopes are written with the
//! output where that saves work, and with operators that have gradients themselves.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI, FRAC_2_SQRT_PI, PI};

use super::{Backward, Parts, Value};
use crate::onnx::OnnxError;

/// Selu's constants where the node leaves them out (Klambauer et al., 2017).
const SELU: (f32, f32) = (1.673_263_2, 1.050_701);

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn activation(&mut self) -> Option<Parts> {
        Some(match self.node.proto.op() {
            "PRelu" => self.prelu(),
            "CumSum" => self.cumulative_sum(),
            "Softmax" | "LogSoftmax" => self.softmax(),
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
            | "ReduceMin" | "ReduceProd" | "ReduceSumSquare" => {
                self.grad().and_then(|g| self.reduce(g))
            }
            "Max" | "Min" => self.extremum(),
            "Mean" | "Sum" => self.variadic_sum(),
            "Ceil" | "Floor" | "Round" => {
                Err(self.no_gradient_because("its derivative is 0 almost everywhere"))
            }
            _ => return self.sloped().transpose(),
        })
    }

    /// Operators of one input whose gradient is a product with a slope.
    fn sloped(&mut self) -> Result<Option<Vec<Option<Value>>>, OnnxError> {
        let slope = match self.smooth()? {
            Some(slope) => slope,
            None => match self.bent()? {
                Some(slope) => slope,
                None => return Ok(None),
            },
        };
        let g = self.grad()?;
        Ok(Some(vec![Some(self.b.mul(g, slope))]))
    }

    /// The slope of a function that is smooth.
    fn smooth(&mut self) -> Result<Option<Value>, OnnxError> {
        let op = self.node.proto.op();
        if let "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "Cosh" | "Sinh" | "Tan" = op
        {
            return self.trigonometric().map(Some);
        }
        Ok(Some(match op {
            "Erf" => {
                let x = self.input(0)?;
                let bell = self.bell(x, -1.0);
                self.times(FRAC_2_SQRT_PI, bell)
            }
            "Gelu" => self.gelu()?,
            // x tanh(softplus x) (Misra, 2019).
            "Mish" => {
                let x = self.input(0)?;
                let soft = self.b.softplus(x);
                let t = self.b.tanh(soft);
                let square = self.square(t);
                let rest = self.minus_from(1.0, square);
                let sigmoid = self.b.sigmoid(x);
                let inner = self.b.mul(x, sigmoid);
                let inner = self.b.mul(inner, rest);
                self.b.add(t, inner)
            }
            // x / (1 + |x|) has the slope 1 / (1 + |x|)^2.
            "Softsign" => {
                let size = self.input(0).map(|x| self.b.abs(x))?;
                let size = self.plus(size, 1.0);
                let square = self.square(size);
                self.over(1.0, square)
            }
            _ => return Ok(None),
        }))
    }

    fn trigonometric(&mut self) -> Result<Value, OnnxError> {
        let (x, y) = (self.input(0)?, self.output()?);
        Ok(match self.node.proto.op() {
            "Cosh" => self.apply("Sinh", x),
            "Sinh" => self.apply("Cosh", x),
            "Tan" => {
                let square = self.square(y);
                self.plus(square, 1.0)
            }
            op => {
                let square = self.square(x);
                let inner = match op {
                    "Acosh" => self.plus(square, -1.0),
                    "Asinh" | "Atan" => self.plus(square, 1.0),
                    _ => self.minus_from(1.0, square),
                };
                let root = if let "Atan" | "Atanh" = op { inner } else { self.b.sqrt(inner) };
                self.over(if op == "Acos" { -1.0 } else { 1.0 }, root)
            }
        })
    }

    /// `exp(factor x^2)`.
    fn bell(&mut self, x: Value, factor: f32) -> Value {
        let square = self.square(x);
        let exponent = self.times(factor, square);
        self.b.exp(exponent)
    }

    /// `x P(x)` with the normal distribution's `P`, or its approximation by a hyperbolic tangent
    /// (Hendrycks & Gimpel, 2016).
    fn gelu(&mut self) -> Result<Value, OnnxError> {
        let x = self.input(0)?;
        if self.node.proto.string("approximate") != Some("tanh") {
            let scaled = self.times(FRAC_1_SQRT_2, x);
            let erf = self.apply("Erf", scaled);
            let half = self.times(0.5, erf);
            let below = self.plus(half, 0.5);
            let bell = self.bell(x, -0.5);
            let density = self.times((2.0 * PI).sqrt().recip(), bell);
            let rest = self.b.mul(x, density);
            return Ok(self.b.add(below, rest));
        }
        // With u = k (x + c x^3) and t = tanh u: (1 + t) / 2 + x u' (1 - t^2) / 2.
        let (k, c) = (FRAC_2_PI.sqrt(), 0.044_715);
        let square = self.square(x);
        let inner = self.times(k * c, square);
        let inner = self.plus(inner, k);
        let u = self.b.mul(x, inner);
        let t = self.b.tanh(u);
        let du = self.times(1.5 * k * c, square);
        let du = self.plus(du, 0.5 * k);
        let t_square = self.square(t);
        let rest = self.minus_from(1.0, t_square);
        let rest = self.b.mul(rest, x);
        let rest = self.b.mul(rest, du);
        let half = self.times(0.5, t);
        let half = self.plus(half, 0.5);
        Ok(self.b.add(half, rest))
    }

    /// The slope of a function that has kinks.
    fn bent(&mut self) -> Result<Option<Value>, OnnxError> {
        let alpha = |default| self.node.proto.float("alpha").unwrap_or(default);
        Ok(Some(match self.node.proto.op() {
            "LeakyRelu" => {
                let alpha = alpha(0.01);
                let positive = self.input(0).map(|x| self.above(x, 0.0))?;
                let (one, low) = (self.b.scalar(1.0), self.b.scalar(alpha));
                self.choose(positive, one, low)
            }
            // alpha (exp x - 1) has the slope y + alpha. With alpha 1 that limits itself, which is
            // twice as fast as a mask.
            "Celu" | "Elu" if alpha(1.0) == 1.0 => {
                let slope = self.output().map(|y| self.plus(y, 1.0))?;
                self.b.clip(slope, f32::MIN, 1.0)
            }
            "Elu" => self.exponential(alpha(1.0), 1.0)?,
            "Selu" => {
                let gamma = self.attribute("gamma", SELU.1);
                self.exponential(gamma * alpha(SELU.0), gamma)?
            }
            "HardSigmoid" => {
                let alpha = alpha(0.2);
                let inside = self.output().map(|y| self.between(y, 0.0, 1.0))?;
                self.times(alpha, inside)
            }
            // x h(x) with h the hard sigmoid of slope 1/6.
            "HardSwish" => {
                let x = self.input(0)?;
                let inside = self.between(x, -3.0, 3.0);
                let line = self.times(1.0 / 3.0, x);
                let line = self.plus(line, 0.5);
                let line = self.b.mul(inside, line);
                let linear = self.above(x, 3.0);
                let linear = self.b.to_f32(linear);
                self.b.add(line, linear)
            }
            "ThresholdedRelu" => {
                let alpha = alpha(1.0);
                let over = self.input(0).map(|x| self.above(x, alpha))?;
                self.b.to_f32(over)
            }
            _ => return Ok(None),
        }))
    }

    /// `above` for positive inputs, `y + low` for others.
    fn exponential(&mut self, low: f32, above: f32) -> Result<Value, OnnxError> {
        let (x, y) = (self.input(0)?, self.output()?);
        let positive = self.above(x, 0.0);
        let above = self.b.scalar(above);
        let below = self.plus(y, low);
        Ok(self.choose(positive, above, below))
    }

    /// 1.0 where `low < x < high`.
    fn between(&mut self, x: Value, low: f32, high: f32) -> Value {
        let high = self.b.scalar(high);
        let (over, under) = (self.above(x, low), self.b.greater(high, x));
        let inside = self.b.op("And", &[over, under], vec![]);
        self.b.to_f32(inside)
    }

    /// `x` for positive inputs, `slope x` for others; the slope may be a parameter.
    fn prelu(&mut self) -> Parts {
        let (g, x, slope) = (self.grad()?, self.input(0)?, self.input(1)?);
        let mut parts = vec![None, None];
        if let [dx, dslope] = parts.as_mut_slice() {
            if self.needs(0) {
                let (positive, one) = (self.above(x, 0.0), self.b.scalar(1.0));
                let factor = self.choose(positive, one, slope);
                *dx = Some(self.b.mul(g, factor));
            }
            if self.needs(1) {
                let below = self.b.clip(x, f32::MIN, 0.0);
                let part = self.b.mul(g, below);
                *dslope = Some(self.reduce_to(part, slope)?);
            }
        }
        Ok(parts)
    }
}
