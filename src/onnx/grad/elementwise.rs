//! Gradients of elementwise operators.

use super::{Backward, Parts, Value};
use crate::onnx::{ElementType, OnnxError};

impl Backward<'_> {
    /// Operators of one f32 input (and constants).
    pub(super) fn elementwise(&mut self, g: Value) -> Parts {
        let (x, y) = (self.input(0)?, self.output()?);
        let part = match self.node.proto.op() {
            "Abs" => {
                let sign = self.b.op("Sign", &[x], vec![]);
                self.b.mul(g, sign)
            }
            "Cast" if self.b.info(x).map(|i| i.element) == Some(ElementType::F32) => g,
            "Cast" => return Err(self.no_gradient_because("gradients flow through f32 only")),
            // Inside the limits the output is the input; beyond, the gradient is 0.
            "Clip" => {
                let inside = self.b.equal(x, y);
                self.masked(g, inside)
            }
            "Cos" => {
                let sin = self.b.op("Sin", &[x], vec![]);
                let part = self.b.mul(g, sin);
                self.b.neg(part)
            }
            "Exp" => self.b.mul(g, y),
            "Log" => self.b.div(g, x),
            "Neg" => self.b.neg(g),
            "Reciprocal" => {
                let square = self.b.mul(y, y);
                let part = self.b.mul(g, square);
                self.b.neg(part)
            }
            "Sin" => {
                let cos = self.b.op("Cos", &[x], vec![]);
                self.b.mul(g, cos)
            }
            "Sqrt" => {
                let half = self.b.scalar(0.5);
                let slope = self.b.div(half, y);
                self.b.mul(g, slope)
            }
            _ => self.simple_activation(g, x, y)?,
        };
        self.only_first(part)
    }

    fn simple_activation(&mut self, g: Value, x: Value, y: Value) -> Result<Value, OnnxError> {
        Ok(match self.node.proto.op() {
            // A cast of the comparison is faster than `Where` and than `Sign`.
            // It reads the output, so that an engine may join the operator with what is before it.
            "Relu" => {
                let zero = self.b.scalar(0.0);
                let positive = self.b.greater(y, zero);
                self.masked(g, positive)
            }
            "Sigmoid" => {
                let square = self.b.mul(y, y);
                let slope = self.b.sub(y, square);
                self.b.mul(g, slope)
            }
            "Softplus" => {
                let slope = self.b.sigmoid(x);
                self.b.mul(g, slope)
            }
            "Tanh" => {
                let one = self.b.scalar(1.0);
                let square = self.b.mul(y, y);
                let slope = self.b.sub(one, square);
                self.b.mul(g, slope)
            }
            _ => return Err(self.no_gradient()),
        })
    }

    /// Operators of several inputs that broadcast.
    pub(super) fn arithmetic(&mut self, g: Value) -> Parts {
        let count = self.node.inputs.len();
        let mut parts = vec![None; count];
        for (index, slot) in parts.iter_mut().enumerate() {
            if self.needs(index) {
                let part = self.arithmetic_part(g, index)?;
                let input = self.input(index)?;
                *slot = Some(self.reduce_to(part, input)?);
            }
        }
        Ok(parts)
    }

    /// The gradient of input `index`, in the output's shape.
    fn arithmetic_part(&mut self, g: Value, index: usize) -> Result<Value, OnnxError> {
        let op = self.node.proto.op();
        Ok(match (op, index) {
            ("Add", _) | ("Sub", 0) => g,
            ("Sub", _) => self.b.neg(g),
            ("Mul", _) => {
                let other = self.input(1 - index)?;
                self.b.mul(g, other)
            }
            ("Div", 0) => {
                let divisor = self.input(1)?;
                self.b.div(g, divisor)
            }
            ("Div", _) => {
                let (divisor, quotient) = (self.input(1)?, self.output()?);
                let scaled = self.b.mul(g, quotient);
                let part = self.b.div(scaled, divisor);
                self.b.neg(part)
            }
            ("Pow", 0) => {
                let slope = self.power_slope()?;
                self.b.mul(g, slope)
            }
            // y ln x; a base of 0 has the slope 0.
            ("Pow", _) => {
                let (x, y, zero) = (self.input(0)?, self.output()?, self.b.scalar(0.0));
                let (none, one) = (self.b.equal(x, zero), self.b.scalar(1.0));
                let base = self.choose(none, one, x);
                let log = self.b.log(base);
                let slope = self.b.mul(y, log);
                self.b.mul(g, slope)
            }
            ("Where", 1 | 2) => {
                let (condition, zero) = (self.input(0)?, self.b.scalar(0.0));
                let (a, b) = if index == 1 { (g, zero) } else { (zero, g) };
                self.b.op("Where", &[condition, a, b], vec![])
            }
            _ => return Err(self.no_gradient()),
        })
    }

    /// `p x^(p - 1)`; the usual exponents without a power.
    fn power_slope(&mut self) -> Result<Value, OnnxError> {
        let (x, power) = (self.input(0)?, self.input(1)?);
        let constant = if self.needs(1) { None } else { self.b.number(power) };
        Ok(match constant {
            Some(1.0) => self.b.scalar(1.0),
            Some(2.0) => self.times(2.0, x),
            Some(3.0) => {
                let square = self.square(x);
                self.times(3.0, square)
            }
            Some(p) => {
                let less = self.b.scalar(p - 1.0);
                let slope = self.b.op("Pow", &[x, less], vec![]);
                self.times(p, slope)
            }
            None => {
                let less = self.plus(power, -1.0);
                let slope = self.b.op("Pow", &[x, less], vec![]);
                self.b.mul(power, slope)
            }
        })
    }
}
