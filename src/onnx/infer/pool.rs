//! Shapes of pools.

use super::conv::known;
use super::{Call, Info, window};
use crate::onnx::{Dim, OnnxError};

impl Call<'_> {
    /// [N, C, spatial] to [N, C, windows].
    pub(super) fn pool(&self) -> Result<Info, OnnxError> {
        let Some(kernel) = self.node.ints("kernel_shape") else {
            return Err(self.wrong("a kernel_shape", "none"));
        };
        let Some([batch, channels, spatial @ ..]) = self.dims(0)? else {
            window(self.node, kernel, &vec![1; kernel.len()])?;
            return self.of(None);
        };
        let sizes = known(spatial);
        let window = window(self.node, kernel, &sizes)?;
        let over = self.node.int("ceil_mode").unwrap_or(0) != 0;
        let mut dims = vec![*batch, *channels];
        for ((dim, size), reach) in spatial.iter().zip(sizes).zip(window) {
            if reach.before >= reach.span() || reach.after >= reach.span() {
                let expected = format!("padding less than the window of {}", reach.span());
                return Err(self.wrong(expected, reach.before.max(reach.after)));
            }
            if self.node.op() == "AveragePool" && reach.dilation != 1 {
                return Err(self.wrong("dilations of 1", reach.dilation));
            }
            let count = if over { reach.count_over(size) } else { reach.count(size) };
            // Engines do not agree whether the part that hangs over counts.
            let hangs_over =
                (count - 1) * reach.stride + reach.span() > size + reach.before + reach.after;
            if hangs_over && self.node.int("count_include_pad").unwrap_or(0) != 0 {
                let expected = "ceil_mode without count_include_pad where a window hangs over";
                return Err(self.wrong(expected, "both"));
            }
            match dim {
                Dim::Batch => return self.of(None),
                Dim::Fixed(_) => dims.push(self.at_least_one(count, size)?),
            }
        }
        self.of(Some(dims))
    }

    /// [N, C, spatial] to [N, C, 1, ...].
    pub(super) fn global_pool(&self) -> Result<Info, OnnxError> {
        let Some(dims) = self.dims(0)? else { return self.of(None) };
        let [batch, channels, spatial @ ..] = dims else {
            return Err(self.wrong("an image of at least 2 axes", format!("{dims:?}")));
        };
        let ones = spatial.iter().map(|_| Dim::Fixed(1));
        self.of(Some([*batch, *channels].into_iter().chain(ones).collect()))
    }
}
