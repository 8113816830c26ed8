//! Gradients of picking by index: each picked element's gradient goes back to where it came from, and
//! elements picked twice sum.
//!
//! Three ways, by what is known (sizes are of one axis; figures: ONNX Runtime, one thread, rows of 64
//! floats, 256 indices):
//! - constant indices in even steps: zeros around the gradient (10 us);
//! - a table of at most [`MANY_ROWS`] rows: a product with the indices as rows of 0 and 1 (64 rows:
//!   30 us, 512: 190 us), which every engine, opset and card runs;
//! - a larger table: `ScatterElements` that adds (70 us whatever the rows), from opset 16.
//!
//! `ScatterND` that adds would be faster (10 us), but ONNX Runtime's races with itself when indices
//! repeat and it has more than one thread.

use super::slice::{product, size_at};
use super::{Backward, Parts, Value};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::{ElementType, OnnxError, Tensor};

/// From this table size on, scattering is faster than a product.
const MANY_ROWS: i64 = 256;

impl Backward<'_> {
    /// Along an axis: rows of a table (an embedding), columns, one element of each sample.
    pub(super) fn gather(&mut self) -> Parts {
        let (g, data, indices) = (self.grad()?, self.input(0)?, self.input(1)?);
        let sizes = self.sizes(data)?;
        let axis = self.node_axis(0, sizes.len())?;
        let at = usize::try_from(axis).unwrap_or(0);
        let (outer, inner) = (product(sizes.get(..at)), product(sizes.get(at + 1..)));
        let (rows, count) = (size_at(&sizes, axis), product(Some(&self.sizes(indices)?)));
        let g = self.b.reshape(g, &[outer, count, inner]);
        let known = self.b.info(indices).and_then(|i| i.ints.clone());
        let sum = if let Some((start, step)) = known.and_then(|ints| progression(&ints, rows)) {
            self.place(g, 1, (start, step), rows)?
        } else if outer == 1 && rows > MANY_ROWS && self.b.opset() >= 16 {
            let rows_of_g = self.b.reshape(indices, &[1, count, 1]);
            let rows_of_g = self.b.expand(rows_of_g, &[1, count, inner]);
            self.scatter(g, rows_of_g, &[1, rows, inner], 1)
        } else {
            let flat = self.b.reshape(indices, &[count]);
            let picked = self.one_hot(flat, rows, 0);
            self.b.matmul(picked, g)
        };
        let part = self.b.reshape(sum, &sizes);
        self.only_first(part)
    }

    /// One element of `data` for each of `indices`, along an axis.
    pub(super) fn gather_elements(&mut self) -> Parts {
        let (g, data, indices) = (self.grad()?, self.input(0)?, self.input(1)?);
        let sizes = self.sizes(data)?;
        let axis = self.node_axis(0, sizes.len())?;
        let part = self.ungather_elements(g, indices, &sizes, axis)?;
        self.only_first(part)
    }

    /// The largest elements take their gradients back to where they stood.
    pub(super) fn top_k(&mut self) -> Parts {
        let (g, sizes) = (self.grad()?, self.sizes(self.input(0)?)?);
        let axis = self.node_axis(-1, sizes.len())?;
        let indices = self.node.outputs.get(1).copied().flatten();
        let missing = || self.no_gradient_because("its output of indices is left out");
        let indices = indices.ok_or_else(missing)?;
        let part = self.ungather_elements(g, indices, &sizes, axis)?;
        self.only_first(part)
    }

    fn ungather_elements(
        &mut self,
        g: Value,
        indices: Value,
        sizes: &[i64],
        axis: i64,
    ) -> Result<Value, OnnxError> {
        if self.b.opset() >= 16 {
            return Ok(self.scatter(g, indices, sizes, axis));
        }
        // The same as sums over rows of 0 and 1 along a new last axis, put in the axis' place.
        let found = self.sizes(indices)?;
        let (rank, n) = (found.len() as i64, size_at(sizes, axis));
        let picked = self.one_hot(indices, n, -1);
        let column: Vec<i64> = found.iter().copied().chain([1]).collect();
        let g = self.b.reshape(g, &column);
        let spread = self.b.mul(picked, g);
        let sum = self.b.reduce_sum(spread, &[axis], false);
        let order: Vec<i64> = (0..axis).chain([rank - 1]).chain(axis..rank - 1).collect();
        let sum = self.b.transpose(sum, &order);
        let missing =
            |(i, (n, m)): (usize, (&i64, &i64))| (0, if i as i64 == axis { 0 } else { n - m });
        let pads: Vec<(i64, i64)> = sizes.iter().zip(&found).enumerate().map(missing).collect();
        Ok(self.pad(sum, &pads))
    }

    /// `ScatterElements`: the new elements' gradients, and 0 for those they replace.
    pub(super) fn scatter_elements(&mut self) -> Parts {
        let (g, indices) = (self.grad()?, self.input(1)?);
        let axis = self.node.proto.int("axis").unwrap_or(0);
        let mut parts = vec![None; 3];
        if let [data, _, updates] = parts.as_mut_slice() {
            if self.needs(2) {
                let axis = AttributeProto::int("axis", axis);
                *updates = Some(self.b.op("GatherElements", &[g, indices], vec![axis]));
            }
            if self.needs(0) {
                *data = Some(match self.node.proto.string("reduction").unwrap_or("none") {
                    "add" => g,
                    "none" => {
                        let sizes = self.sizes(indices)?;
                        let zero = self.b.scalar(0.0);
                        let zeros = self.b.expand(zero, &sizes);
                        let axis = AttributeProto::int("axis", axis);
                        self.b.op("ScatterElements", &[g, indices, zeros], vec![axis])
                    }
                    mode => {
                        let reason = format!("there is no rule for its reduction `{mode}`");
                        return Err(self.no_gradient_because(reason));
                    }
                });
            }
        }
        Ok(parts)
    }

    /// Sums of `g` in zeros of `sizes`, at `indices` along `axis`.
    fn scatter(&mut self, g: Value, indices: Value, sizes: &[i64], axis: i64) -> Value {
        let zero = self.b.scalar(0.0);
        let zeros = self.b.expand(zero, sizes);
        let attributes =
            vec![AttributeProto::int("axis", axis), AttributeProto::string("reduction", "add")];
        self.b.op("ScatterElements", &[zeros, indices, g], attributes)
    }

    /// 1.0 at each index and 0.0 elsewhere, along a new `axis` of size `depth`.
    fn one_hot(&mut self, indices: Value, depth: i64, axis: i64) -> Value {
        let values = self.b.constant(Tensor { dims: vec![2], data: vec![0.0, 1.0] });
        // ONNX Runtime has no int32 here.
        let wide = self.b.info(indices).is_some_and(|i| i.element == ElementType::I64);
        let to = AttributeProto::int("to", ElementType::I64.to_onnx().into());
        let indices = if wide { indices } else { self.b.op("Cast", &[indices], vec![to]) };
        let depth = self.b.int64s(&[depth]);
        let proto = NodeProto {
            op_type: Some("OneHot".into()),
            attribute: vec![AttributeProto::int("axis", axis)],
            ..NodeProto::default()
        };
        let inputs = [Some(indices), Some(depth), Some(values)];
        self.b.node(proto, &inputs, 1).first().copied().unwrap_or(indices)
    }
}

/// Start and step of different indices in even steps; negative ones count from the end.
fn progression(indices: &[i64], rows: i64) -> Option<(i64, i64)> {
    let wrapped = |i: &i64| if *i < 0 { i + rows } else { *i };
    let (first, second) = (wrapped(indices.first()?), indices.get(1).map(wrapped));
    let step = second.map_or(1, |second| second - first);
    let even = indices.iter().map(wrapped).zip(0..).all(|(i, k)| i == first + k * step);
    (step != 0 && even).then_some((first, step))
}
