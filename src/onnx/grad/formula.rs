//! Short words for what derivatives are written with.

use super::{Backward, Value};

impl Backward<'_> {
    /// `op(x)` of an operator without attributes.
    pub(super) fn apply(&mut self, op: &str, x: Value) -> Value {
        self.b.op(op, &[x], vec![])
    }

    /// `x + c`.
    pub(super) fn plus(&mut self, x: Value, c: f32) -> Value {
        let c = self.b.scalar(c);
        self.b.add(x, c)
    }

    /// `c x`.
    pub(super) fn times(&mut self, c: f32, x: Value) -> Value {
        let c = self.b.scalar(c);
        self.b.mul(x, c)
    }

    /// `c - x`.
    pub(super) fn minus_from(&mut self, c: f32, x: Value) -> Value {
        let c = self.b.scalar(c);
        self.b.sub(c, x)
    }

    /// `c / x`.
    pub(super) fn over(&mut self, c: f32, x: Value) -> Value {
        let c = self.b.scalar(c);
        self.b.div(c, x)
    }

    /// `x^2`.
    pub(super) fn square(&mut self, x: Value) -> Value {
        self.b.mul(x, x)
    }

    /// `x > c`, a bool.
    pub(super) fn above(&mut self, x: Value, c: f32) -> Value {
        let c = self.b.scalar(c);
        self.b.greater(x, c)
    }

    /// `a` where `condition` holds, `b` elsewhere.
    pub(super) fn choose(&mut self, condition: Value, a: Value, b: Value) -> Value {
        self.b.op("Where", &[condition, a, b], vec![])
    }

    /// `g` where the bool `mask` holds, 0 elsewhere. A cast and a product are faster than `Where`.
    pub(super) fn masked(&mut self, g: Value, mask: Value) -> Value {
        let mask = self.b.to_f32(mask);
        self.b.mul(g, mask)
    }

    /// A float attribute of the node.
    pub(super) fn attribute(&self, name: &str, default: f32) -> f32 {
        self.node.proto.float(name).unwrap_or(default)
    }
}
