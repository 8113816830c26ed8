//! Root mean square normalisation (Zhang & Sennrich, 2019) as its formula.

use super::Call;
use crate::onnx::{Builder, OnnxError, Value};

impl Call<'_> {
    /// `scale x / sqrt(mean(x^2) + epsilon)` over the axes from `axis` on.
    pub(super) fn rms_normalization(
        &self,
        b: &mut Builder,
        inputs: &[Option<Value>],
    ) -> Result<Value, OnnxError> {
        let (x, scale) = (self.input(inputs, 0)?, self.input(inputs, 1)?);
        let rank = self.sizes(0)?.len() as i64;
        let axis = self.node.int("axis").unwrap_or(-1);
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let square = b.mul(x, x);
        let mean = b.reduce_mean(square, &axes, true);
        let epsilon = b.scalar(self.node.float("epsilon").unwrap_or(1e-5));
        let mean = b.add(mean, epsilon);
        let deviation = b.sqrt(mean);
        let normal = b.div(x, deviation);
        Ok(b.mul(normal, scale))
    }
}
