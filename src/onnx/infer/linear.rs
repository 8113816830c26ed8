//! Shapes of products, reductions and normalisation.

use super::{Call, Info};
use crate::onnx::{Dim, OnnxError};

impl Call<'_> {
    /// `alpha A' B' + beta C`.
    pub(super) fn gemm(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let (Some(a), Some(b)) = (self.dims(0)?, self.dims(1)?) else { return self.of(None) };
        let (&[a0, a1], &[b0, b1]) = (a, b) else {
            return Err(self.wrong("two matrices", format!("{a:?} and {b:?}")));
        };
        let flag = |name| self.node.int(name).unwrap_or(0) != 0;
        let (m, k) = if flag("transA") { (a1, a0) } else { (a0, a1) };
        let (k2, n) = if flag("transB") { (b1, b0) } else { (b0, b1) };
        if k != k2 {
            return Err(self.wrong(format!("an inner size of {k:?}"), format!("{k2:?}")));
        }
        if self.has(2)
            && let Some(c) = self.dims(2)?
            && self.broadcast_two(c, &[m, n])? != [m, n]
        {
            return Err(
                self.wrong(format!("a bias that broadcasts to {:?}", [m, n]), format!("{c:?}"))
            );
        }
        self.of(Some(vec![m, n]))
    }

    /// A product of stacks of matrices.
    pub(super) fn matmul(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let (Some(a), Some(b)) = (self.dims(0)?, self.dims(1)?) else { return self.of(None) };
        let ([batch_a @ .., m, k], [batch_b @ .., k2, n]) = (a, b) else {
            return Err(self.wrong("inputs of at least 2 axes", format!("{a:?} and {b:?}")));
        };
        if k != k2 {
            return Err(self.wrong(format!("an inner size of {k:?}"), format!("{k2:?}")));
        }
        let mut dims = self.broadcast_two(batch_a, batch_b)?;
        dims.extend([*m, *n]);
        self.of(Some(dims))
    }

    /// The normalised value, then its mean and inverse standard deviation.
    pub(super) fn layer_normalization(&self) -> Result<Vec<Info>, OnnxError> {
        self.same_elements()?;
        let rank = self.rank(0)?;
        let axis = self.axis(self.node.int("axis").unwrap_or(-1), rank)?;
        let out = self.like(0)?;
        if let Some(dims) = self.dims(0)? {
            for index in (1..3).filter(|i| self.has(*i)) {
                if let Some(scale) = self.dims(index)?
                    && self.broadcast_two(scale, dims)? != dims
                {
                    return Err(self.wrong(
                        format!("a scale and bias that broadcast to {dims:?}"),
                        format!("{scale:?}"),
                    ));
                }
            }
        }
        let mut statistics = out.clone();
        for dim in statistics.dims.iter_mut().flatten().skip(axis) {
            *dim = Dim::Fixed(1);
        }
        Ok([out, statistics.clone(), statistics].into_iter().take(self.node.output.len()).collect())
    }

    /// The axes to work on, from the input or attribute `axes`; `None` when not known yet.
    pub(super) fn axes(
        &self,
        index: usize,
        rank: Option<usize>,
    ) -> Result<Option<Vec<usize>>, OnnxError> {
        let axes = match self.inputs.get(index).copied().flatten() {
            Some(info) => info.ints.as_deref(),
            None => Some(self.node.ints("axes").unwrap_or(&[])),
        };
        let axes = axes
            .map(|axes| axes.iter().map(|a| self.axis(*a, rank)).collect::<Result<Vec<_>, _>>());
        axes.transpose()
    }

    /// A sum, mean or extremum over axes.
    pub(super) fn reduce(&self) -> Result<Info, OnnxError> {
        let dims = self.dims(0)?;
        let axes = self.axes(1, dims.map(<[Dim]>::len))?;
        let (Some(dims), Some(axes)) = (dims, axes) else { return self.of(None) };
        let flag = |name, default| self.node.int(name).unwrap_or(default) != 0;
        if axes.is_empty() && flag("noop_with_empty_axes", 0) {
            return self.like(0);
        }
        let reduced = |i: &usize| axes.is_empty() || axes.contains(i);
        let out =
            dims.iter().enumerate().filter_map(|(i, d)| match (reduced(&i), flag("keepdims", 1)) {
                (false, _) => Some(*d),
                (true, true) => Some(Dim::Fixed(1)),
                (true, false) => None,
            });
        self.of(Some(out.collect()))
    }
}
