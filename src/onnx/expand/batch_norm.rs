//! Batch normalisation with its scale and bias as nodes of their own.

use super::Call;
use crate::onnx::{Builder, OnnxError, Tensor, Value};

impl Call<'_> {
    /// `scale n + bias`, where `n` is the node with a scale of 1 and a bias of 0: all that stays in
    /// it are statistics, which no training moves, and tract runs it with constants only.
    pub(super) fn batch_normalization(
        &self,
        b: &mut Builder,
        inputs: &[Option<Value>],
    ) -> Result<Value, OnnxError> {
        let input = |index| self.input(inputs, index);
        let (rank, channels) = (self.sizes(0)?.len(), self.sizes(1)?.iter().product::<i64>());
        let along: Vec<i64> = (0..rank).map(|i| if i == 1 { channels } else { 1 }).collect();
        let zeros = Tensor::zeros([usize::try_from(channels).unwrap_or(0)]);
        let ones =
            b.constant(Tensor { data: vec![1.0; zeros.data.len()], dims: zeros.dims.clone() });
        let zeros = b.constant(zeros);
        let all = [input(0)?, ones, zeros, input(3)?, input(4)?];
        let normal = b.op("BatchNormalization", &all, self.node.attribute.clone());
        let (scale, bias) = (b.reshape(input(1)?, &along), b.reshape(input(2)?, &along));
        let scaled = b.mul(normal, scale);
        Ok(b.add(scaled, bias))
    }
}
