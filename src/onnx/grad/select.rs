//! Gradients of gathering, padding, repeating and other selections.

use super::{Backward, Parts};
use crate::onnx::OnnxError;
use crate::onnx::proto::AttributeProto;

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn select(&mut self) -> Option<Parts> {
        Some(match self.node.proto.op() {
            "CastLike" | "Dropout" => self.passed_on(),
            "Gather" => self.gather(),
            "GatherElements" => self.gather_elements(),
            "Mod" => self.remainder(),
            "OneHot" => {
                Err(self.no_gradient_because("its values on and off are taken as constants"))
            }
            "Pad" => self.unpad(),
            "ScatterElements" => self.scatter_elements(),
            "Tile" => self.tile(),
            "TopK" => self.top_k(),
            "Trilu" => self.triangle(),
            _ => return None,
        })
    }

    fn passed_on(&mut self) -> Parts {
        let (g, x) = (self.grad()?, self.input(0)?);
        if self.sizes(g)? != self.sizes(x)?
            || self.b.info(g).map(|i| i.element) != self.b.info(x).map(|i| i.element)
        {
            return Err(self.no_gradient_because("it changes the type"));
        }
        Ok(vec![self.needs(0).then_some(g)])
    }

    /// What stood inside.
    fn unpad(&mut self) -> Parts {
        let mode = self.node.proto.string("mode").unwrap_or("constant");
        if mode != "constant" {
            let reason = format!("there is no rule for its mode `{mode}`, only for `constant`");
            return Err(self.no_gradient_because(reason));
        }
        let (mut g, sizes) = (self.grad()?, self.sizes(self.input(0)?)?);
        let pads = self.ints(1)?.unwrap_or_default();
        let every: Vec<i64> = (0..sizes.len() as i64).collect();
        let axes = self.ints(3)?.map_or(every, |axes| self.axes(&axes, sizes.len()));
        let inner = |(axis, before): (i64, &i64)| {
            let n = super::slice::size_at(&sizes, axis);
            (*before, before + n, axis)
        };
        let cuts: Vec<(i64, i64, i64)> = axes.into_iter().zip(&pads).map(inner).collect();
        let whole = self.sizes(g)?;
        let cuts: Vec<_> = cuts
            .into_iter()
            .filter(|(start, end, axis)| {
                (*start, *end) != (0, super::slice::size_at(&whole, *axis))
            })
            .collect();
        if !cuts.is_empty() {
            let [starts, ends, axes] = [
                cuts.iter().map(|c| c.0).collect::<Vec<_>>(),
                cuts.iter().map(|c| c.1).collect(),
                cuts.iter().map(|c| c.2).collect(),
            ]
            .map(|values| self.b.int64s(&values));
            g = self.b.op("Slice", &[g, starts, ends, axes], vec![]);
        }
        self.only_first(g)
    }

    /// The sum over the copies: each repeated axis of size n becomes axes of (copies, n).
    fn tile(&mut self) -> Parts {
        let (g, sizes) = (self.grad()?, self.sizes(self.input(0)?)?);
        let copies = self.ints(1)?.unwrap_or_default();
        let (mut shape, mut summed) = (Vec::new(), Vec::new());
        for (n, copies) in sizes.iter().zip(copies) {
            if copies != 1 {
                summed.push(shape.len() as i64);
                shape.push(copies);
            }
            shape.push(*n);
        }
        let part = if summed.is_empty() {
            g
        } else {
            let apart = self.b.reshape(g, &shape);
            self.b.reduce_sum(apart, &summed, false)
        };
        self.only_first(part)
    }

    /// The same triangle of the gradient.
    fn triangle(&mut self) -> Parts {
        let upper = AttributeProto::int("upper", self.node.proto.int("upper").unwrap_or(1));
        let mut inputs = vec![self.grad()?];
        inputs.extend(self.node.inputs.get(1).copied().flatten());
        let part = self.b.op("Trilu", &inputs, vec![upper]);
        Ok(vec![Some(part)])
    }

    /// `a - n b` with n a whole number: 1 and `-n`.
    fn remainder(&mut self) -> Parts {
        let (g, a, b, y) = (self.grad()?, self.input(0)?, self.input(1)?, self.output()?);
        let da = if self.needs(0) { Some(self.reduce_to(g, a)?) } else { None };
        let db = if self.needs(1) {
            let multiple = self.b.sub(y, a);
            let slope = self.b.div(multiple, b);
            let part = self.b.mul(g, slope);
            Some(self.reduce_to(part, b)?)
        } else {
            None
        };
        Ok(vec![da, db])
    }

    /// The node's `axis`, counted from 0.
    pub(super) fn node_axis(&self, default: i64, rank: usize) -> Result<i64, OnnxError> {
        let axis = self.node.proto.int("axis").unwrap_or(default);
        self.axes(&[axis], rank).first().copied().ok_or_else(|| self.no_gradient())
    }
}
