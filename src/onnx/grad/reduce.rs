//! Gradients of sums and means.

use super::{Backward, Parts, Value};

impl Backward<'_> {
    pub(super) fn reduce(&mut self, g: Value) -> Parts {
        let x = self.input(0)?;
        let sizes = self.sizes(x)?;
        let axes = match self.node.inputs.get(1).copied().flatten() {
            Some(axes) => {
                self.b.info(axes).and_then(|i| i.ints.clone()).ok_or_else(|| self.no_gradient())?
            }
            None => self.node.proto.ints("axes").unwrap_or(&[]).to_vec(),
        };
        if axes.is_empty() && self.node.proto.int("noop_with_empty_axes").unwrap_or(0) != 0 {
            return Ok(vec![Some(g)]);
        }
        let axes = self.axes(&axes, sizes.len());
        let reduced = |i: usize| axes.is_empty() || axes.contains(&(i as i64));
        let kept: Vec<i64> =
            sizes.iter().enumerate().map(|(i, n)| if reduced(i) { 1 } else { *n }).collect();
        let count: i64 =
            sizes.iter().enumerate().filter(|(i, _)| reduced(*i)).map(|(_, n)| *n).product();
        let g = if self.sizes(g)? == kept { g } else { self.b.reshape(g, &kept) };
        let g = if self.node.proto.op() == "ReduceMean" {
            let share = self.b.scalar(1.0 / count as f32);
            self.b.mul(g, share)
        } else {
            g
        };
        Ok(vec![Some(if kept == sizes { g } else { self.b.expand(g, &sizes) })])
    }
}
