//! Gradients of the normalisations over channels and over the root of the mean square.

use super::{Backward, Parts};
use crate::onnx::{OnnxError, Value};

impl Backward<'_> {
    /// Instance normalisation (Ulyanov, Vedaldi & Lempitsky, 2016), which is group normalisation
    /// (Wu & He, 2018) with a group for each channel: [`Self::through_normal`] over each group, then
    /// a scale and a bias for each channel or group.
    pub(super) fn channel_normalization(&mut self, g: Value) -> Parts {
        let (x, scale) = (self.input(0)?, self.input(1)?);
        let (sizes, scales) = (self.sizes(x)?, self.sizes(scale)?);
        let ([samples, channels, ..], [scales]) = (sizes.as_slice(), scales.as_slice()) else {
            return Err(self.no_gradient());
        };
        let groups = self.node.proto.int("num_groups").unwrap_or(*channels);
        let (in_groups, in_scales) = ([*samples, groups, -1], [*samples, *scales, -1]);
        let x = self.b.reshape(x, &in_groups);
        let (normal, inverse_deviation) = self.normal(x, &[2])?;
        let g = self.b.reshape(g, &in_scales);

        let mut parts = vec![None; 3];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let scale = self.b.reshape(scale, &[1, *scales, 1]);
            let d = self.b.mul(g, scale);
            let d = self.b.reshape(d, &in_groups);
            let part = self.through_normal(d, normal, inverse_deviation, &[2]);
            *dx = Some(self.b.reshape(part, &sizes));
        }
        if let Some(dscale) = parts.get_mut(1).filter(|_| self.needs(1)) {
            let normal = self.b.reshape(normal, &in_scales);
            let part = self.b.mul(g, normal);
            *dscale = Some(self.channel_sum(part)?);
        }
        if let Some(dbias) = parts.get_mut(2).filter(|_| self.needs(2)) {
            *dbias = Some(self.channel_sum(g)?);
        }
        Ok(parts)
    }

    /// With the running mean and variance as constants (Ioffe & Szegedy, 2015, section 3.1):
    /// `dx = g scale / std`, `dscale = sum(g (x - mean) / std)`, `dbias = sum(g)`.
    ///
    /// # Errors
    /// When somebody asks for the gradient of the mean or the variance: they are statistics, frozen.
    pub(super) fn batch_normalization(&mut self, g: Value) -> Parts {
        let (x, scale, mean, variance) =
            (self.input(0)?, self.input(1)?, self.input(3)?, self.input(4)?);
        for (index, what) in [(3, mean), (4, variance)] {
            if self.needs(index) {
                return Err(OnnxError::invalid(
                    format!("value `{}`", self.b.label(what)),
                    "running mean and variance frozen, as they are statistics and no parameters",
                    "a gradient asked for",
                ));
            }
        }
        let rank = self.sizes(x)?.len();
        let along: Vec<i64> = (0..rank).map(|i| if i == 1 { -1 } else { 1 }).collect();
        let epsilon = self.epsilon();
        let variance = self.b.add(variance, epsilon);
        let deviation = self.b.sqrt(variance);

        let mut parts = vec![None; 5];
        if let Some(dx) = parts.get_mut(0).filter(|_| self.needs(0)) {
            let slope = self.b.div(scale, deviation);
            let slope = self.b.reshape(slope, &along);
            *dx = Some(self.b.mul(g, slope));
        }
        if let Some(dscale) = parts.get_mut(1).filter(|_| self.needs(1)) {
            let mean = self.b.reshape(mean, &along);
            let part = self.b.sub(x, mean);
            let part = self.b.mul(g, part);
            let part = self.channel_sum(part)?;
            *dscale = Some(self.b.div(part, deviation));
        }
        if let Some(dbias) = parts.get_mut(2).filter(|_| self.needs(2)) {
            *dbias = Some(self.channel_sum(g)?);
        }
        Ok(parts)
    }
}
