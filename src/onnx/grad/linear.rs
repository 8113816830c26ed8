//! Gradients of matrix products.

use super::{Backward, Parts, Value};
use crate::onnx::OnnxError;

impl Backward<'_> {
    pub(super) fn product(&mut self, g: Value) -> Parts {
        match self.node.proto.op() {
            "Gemm" => self.gemm(g),
            _ => self.matmul(g),
        }
    }

    /// `Y = alpha A' B' + beta C`, where `'` transposes or not.
    fn gemm(&mut self, g: Value) -> Parts {
        let proto = &self.node.proto;
        let flag = |name| proto.int(name).unwrap_or(0) != 0;
        let (ta, tb) = (flag("transA"), flag("transB"));
        let (alpha, beta) =
            (proto.float("alpha").unwrap_or(1.0), proto.float("beta").unwrap_or(1.0));
        let mut parts = self.matrix_parts(g, ta, tb, alpha)?;
        let bias = if self.needs(2) {
            let c = self.input(2)?;
            let sum = self.reduce_to(g, c)?;
            let beta_c = self.b.scalar(beta);
            Some(if beta == 1.0 { sum } else { self.b.mul(sum, beta_c) })
        } else {
            None
        };
        parts.push(bias);
        Ok(parts)
    }

    fn matrix_parts(&mut self, g: Value, ta: bool, tb: bool, alpha: f32) -> Parts {
        let (a, b) = (self.input(0)?, self.input(1)?);
        // dA' = g B'^T and dB' = A'^T g, written so that no transpose is a node of its own.
        let da = match ta {
            false => self.needs(0).then(|| self.b.product((g, false), (b, !tb), alpha)),
            true => self.needs(0).then(|| self.b.product((b, tb), (g, true), alpha)),
        };
        let db = match tb {
            false => self.needs(1).then(|| self.b.product((a, !ta), (g, false), alpha)),
            true => self.needs(1).then(|| self.b.product((g, true), (a, ta), alpha)),
        };
        Ok(vec![da, db])
    }

    fn matmul(&mut self, g: Value) -> Parts {
        let (a, b) = (self.input(0)?, self.input(1)?);
        let (from, weight) = (self.sizes(a)?, self.sizes(b)?);
        if from.len() == 2 && weight.len() == 2 {
            return self.matrix_parts(g, false, false, 1.0);
        }
        if let (&[inner, width], true) = (weight.as_slice(), from.len() > 2) {
            return self.layer((a, &from), (b, inner), (g, width));
        }
        let mut parts = vec![None, None];
        if let [da, db] = parts.as_mut_slice() {
            if self.needs(0) {
                let b_t = self.matrix_transpose(b)?;
                let part = self.b.matmul(g, b_t);
                *da = Some(self.reduce_to(part, a)?);
            }
            if self.needs(1) {
                let a_t = self.matrix_transpose(a)?;
                let part = self.b.matmul(a_t, g);
                *db = Some(self.reduce_to(part, b)?);
            }
        }
        Ok(parts)
    }

    /// `Y = A B` of a stack `a` and one matrix `b`: all the stack's rows in one product.
    fn layer(
        &mut self,
        (a, from): (Value, &[i64]),
        (b, inner): (Value, i64),
        (g, width): (Value, i64),
    ) -> Parts {
        let g = self.b.reshape(g, &[-1, width]);
        let da = self.needs(0).then(|| {
            let rows = self.b.product((g, false), (b, true), 1.0);
            self.b.reshape(rows, from)
        });
        let db = self.needs(1).then(|| {
            let rows = self.b.reshape(a, &[-1, inner]);
            self.b.product((rows, true), (g, false), 1.0)
        });
        Ok(vec![da, db])
    }

    /// The last two axes exchanged.
    fn matrix_transpose(&mut self, value: Value) -> Result<Value, OnnxError> {
        let rank = self.sizes(value)?.len() as i64;
        let order: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        Ok(self.b.transpose(value, &order))
    }
}
