//! Gradients of a family: convolution, pooling and the normalisations that go with them.

use super::{Backward, Parts};
use crate::onnx::infer::{Reach, window};
use crate::onnx::proto::AttributeProto;
use crate::onnx::{OnnxError, Value};

impl Backward<'_> {
    /// `None` when the operator is of another family.
    pub(super) fn conv(&mut self) -> Option<Parts> {
        let gradient = match self.node.proto.op() {
            "Conv" => Self::convolution,
            "ConvTranspose" => Self::transposed_convolution,
            "MaxPool" => Self::max_pool,
            "AveragePool" => Self::average_pool,
            "GlobalAveragePool" => Self::global_average_pool,
            "GlobalMaxPool" => Self::global_max_pool,
            "BatchNormalization" => Self::batch_normalization,
            "GroupNormalization" | "InstanceNormalization" => Self::channel_normalization,
            "DepthToSpace" | "SpaceToDepth" => Self::blocks,
            _ => return None,
        };
        Some(self.grad().and_then(|g| gradient(self, g)))
    }

    /// Of `Y = X * W + bias` (a correlation): `dX` is the transposed convolution of `g` with `W`,
    /// `dW` the correlation of `X` with `g`, `dbias` the sum over all but the maps.
    fn convolution(&mut self, g: Value) -> Parts {
        let (x, w) = (self.input(0)?, self.input(1)?);
        let (image, reaches) = (self.sizes(x)?, self.reaches(x, w)?);
        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            *dx = Some(self.spread(g, w, &reaches, image.get(2..).unwrap_or(&[]))?);
        }
        if let Some(dw) = parts.get_mut(1).filter(|_| self.needs(1)) {
            *dw = Some(self.correlate(x, g, self.group(), &reaches)?);
        }
        if let Some(dbias) = parts.get_mut(2).filter(|_| self.needs(2)) {
            *dbias = Some(self.channel_sum(g)?);
        }
        Ok(parts)
    }

    /// Of a transposed convolution, the adjoint of the convolution with the same attributes: `dX` is
    /// that convolution of `g`, `dW` the correlation of `g` with `X`.
    fn transposed_convolution(&mut self, g: Value) -> Parts {
        let (x, w) = (self.input(0)?, self.input(1)?);
        let reaches = self.reaches(x, w)?;
        let mut parts = vec![None; self.node.inputs.len()];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let pads = reaches.iter().map(|r| r.before).chain(reaches.iter().map(|r| r.after));
            let pads: Vec<i64> = pads.collect();
            *dx = Some(self.b.op("Conv", &[g, w], self.sliding(&reaches, &pads)));
        }
        if let Some(dw) = parts.get_mut(1).filter(|_| self.needs(1)) {
            *dw = Some(self.correlate(g, x, self.group(), &reaches)?);
        }
        if let Some(dbias) = parts.get_mut(2).filter(|_| self.needs(2)) {
            *dbias = Some(self.channel_sum(g)?);
        }
        Ok(parts)
    }

    /// The node's window over `image`, whose kernel is that of the weights `w`.
    fn reaches(&self, image: Value, w: Value) -> Result<Vec<Reach>, OnnxError> {
        let (image, w) = (self.sizes(image)?, self.sizes(w)?);
        window(&self.node.proto, w.get(2..).unwrap_or(&[]), image.get(2..).unwrap_or(&[]))
    }

    /// Into how many groups the node's channels fall; pools have one.
    fn group(&self) -> i64 {
        self.node.proto.int("group").unwrap_or(1)
    }

    /// The attributes of a convolution in the node's groups.
    fn sliding(&self, reaches: &[Reach], pads: &[i64]) -> Vec<AttributeProto> {
        let each = |f: fn(&Reach) -> i64| reaches.iter().map(f).collect::<Vec<i64>>();
        vec![
            AttributeProto::ints("strides", &each(|r| r.stride)),
            AttributeProto::ints("dilations", &each(|r| r.dilation)),
            AttributeProto::ints("pads", pads),
            AttributeProto::int("group", self.group()),
        ]
    }

    /// The adjoint of a convolution with `w`: each element of `map` [N, M, windows] is spread over
    /// the window that it came from, to an image of spatial `sizes`.
    pub(super) fn spread(
        &mut self,
        map: Value,
        w: Value,
        reaches: &[Reach],
        sizes: &[i64],
    ) -> Result<Value, OnnxError> {
        let counts = self.sizes(map)?;
        let counts = counts.get(2..).unwrap_or(&[]);
        let backs: Vec<(i64, i64)> = reaches
            .iter()
            .zip(sizes.iter().zip(counts))
            .map(|(reach, (size, count))| reach.back(*size, *count))
            .collect();
        let before = reaches.iter().map(|r| r.before);
        let pads: Vec<i64> = before.chain(backs.iter().map(|(cut, _)| *cut)).collect();
        let added: Vec<i64> = backs.iter().map(|(_, added)| *added).collect();
        let mut attributes = self.sliding(reaches, &pads);
        attributes.push(AttributeProto::ints("output_padding", &added));
        Ok(self.b.op("ConvTranspose", &[map, w], attributes))
    }
}
