//! Sums over windows: what the gradients of convolutions and pools are made of.

use std::collections::HashMap;

use super::Backward;
use crate::onnx::infer::Reach;
use crate::onnx::{OnnxError, Tensor, Value};

/// From this many channels in a group on, a product for each element of the kernel is faster than
/// one product with all of them joined, which copies the image once for each.
const CHANNELS_OF_A_PRODUCT: i64 = 16;

impl Backward<'_> {
    /// The sum over samples and windows of `map` [N, M, windows] times what the window sees of
    /// `image` [N, C, spatial]: [M, C / group, kernel], the gradient of a convolution's weights.
    ///
    /// The windows are strided slices of the image, and the sum a matrix product (im2col: Chellapilla,
    /// Puri & Simard, 2006), which engines run faster than a convolution with its axes exchanged.
    pub(super) fn correlate(
        &mut self,
        image: Value,
        map: Value,
        group: i64,
        reaches: &[Reach],
    ) -> Result<Value, OnnxError> {
        let (image_sizes, map_sizes) = (self.sizes(image)?, self.sizes(map)?);
        let ([_, channels, ..], [samples, maps, counts @ ..]) =
            (image_sizes.as_slice(), map_sizes.as_slice())
        else {
            return Err(self.no_gradient());
        };
        let (each, positions) = (channels / group.max(1), counts.iter().product::<i64>());
        let rows = self.b.reshape(map, &[*samples, group, maps / group.max(1), positions]);
        let views = self.views(image, reaches, counts, 0.0)?;
        let elements = views.len() as i64;
        let columns: Vec<Value> = views
            .into_iter()
            .map(|view| self.b.reshape(view, &[*samples, group, each, positions]))
            .collect();
        let mut times_rows = |columns: Value| {
            let columns = self.b.transpose(columns, &[0, 1, 3, 2]);
            self.b.matmul(rows, columns)
        };
        let products = if each < CHANNELS_OF_A_PRODUCT {
            let joined = self.joined(&columns, 2);
            let columns = self.b.transpose(joined, &[0, 1, 3, 2]);
            self.b.matmul(rows, columns)
        } else {
            let products: Vec<Value> = columns.into_iter().map(&mut times_rows).collect();
            self.joined(&products, 3)
        };
        let total = self.sum_of_rows(products, *samples, maps * elements * each);
        let total = self.b.reshape(total, &[*maps, elements, each]);
        let total = self.b.transpose(total, &[0, 2, 1]);
        let kernel = reaches.iter().map(|r| r.kernel);
        Ok(self.b.reshape(total, &[*maps, each].into_iter().chain(kernel).collect::<Vec<_>>()))
    }

    /// What each element of the kernel, in row-major order, sees of `image` [N, C, spatial] as
    /// `counts` windows slide over it: [N, C, counts] each. Padding holds `fill`.
    ///
    /// Elements a stride apart see the same strided slice, moved: it is made once, and moving it
    /// copies whole rows. (A sixth less time than a strided slice for each element.)
    pub(super) fn views(
        &mut self,
        image: Value,
        reaches: &[Reach],
        counts: &[i64],
        fill: f32,
    ) -> Result<Vec<Value>, OnnxError> {
        let sizes = self.sizes(image)?;
        let last = |reach: &Reach, count: &i64| (count - 1) * reach.stride + 1;
        let spatial = sizes.get(2..).unwrap_or(&[]);
        let after = reaches.iter().zip(counts).zip(spatial);
        let after =
            after.map(|((r, n), size)| (last(r, n) + r.span() - 1 - r.before - size).max(0));
        let before = reaches.iter().map(|r| r.before);
        let pads: Vec<i64> = [0, 0].into_iter().chain(before).chain([0, 0]).chain(after).collect();
        let image = self.padded(image, &pads, fill);
        let mut phases: HashMap<Vec<i64>, Value> = HashMap::new();
        let mut views = Vec::new();
        for element in elements(reaches) {
            let split = |f: fn(i64, i64) -> i64| {
                element.iter().zip(reaches).map(|(k, r)| f(*k, r.stride)).collect::<Vec<i64>>()
            };
            let (phase, start) = (split(i64::rem_euclid), split(i64::div_euclid));
            let found = phases.get(&phase).copied();
            let part = match found {
                Some(part) => part,
                None => self.every_nth(image, &phase, reaches)?,
            };
            phases.insert(phase, part);
            let ends: Vec<i64> = start.iter().zip(counts).map(|(at, n)| at + n).collect();
            views.push(self.cut(part, &start, &ends)?);
        }
        Ok(views)
    }

    /// Of every spatial axis the elements `phase`, `phase + stride`, ...
    fn every_nth(
        &mut self,
        image: Value,
        phase: &[i64],
        reaches: &[Reach],
    ) -> Result<Value, OnnxError> {
        if reaches.iter().all(|r| r.stride == 1) {
            return Ok(image);
        }
        let ends = self.sizes(image)?.split_off(2);
        let axes: Vec<i64> = (2..2 + ends.len() as i64).collect();
        let steps: Vec<i64> = reaches.iter().map(|r| r.stride).collect();
        let inputs = [phase, &ends, &axes, &steps].map(|list| self.b.int64s(list));
        let [starts, ends, axes, steps] = inputs;
        Ok(self.b.op("Slice", &[image, starts, ends, axes, steps], vec![]))
    }

    /// The spatial elements from `starts` to `ends`.
    fn cut(&mut self, image: Value, starts: &[i64], ends: &[i64]) -> Result<Value, OnnxError> {
        if starts.iter().all(|start| *start == 0) && self.sizes(image)?.split_off(2) == ends {
            return Ok(image);
        }
        let axes: Vec<i64> = (2..2 + starts.len() as i64).collect();
        let [starts, ends, axes] = [starts, ends, &axes].map(|list| self.b.int64s(list));
        Ok(self.b.op("Slice", &[image, starts, ends, axes], vec![]))
    }

    fn padded(&mut self, image: Value, pads: &[i64], fill: f32) -> Value {
        if pads.iter().all(|p| *p == 0) {
            return image;
        }
        let (pads, fill) = (self.b.int64s(pads), self.b.scalar(fill));
        self.b.op("Pad", &[image, pads, fill], vec![])
    }

    /// The sum of `value` [N, C, ...] over all axes but the second: [C].
    ///
    /// Two products with ones: four times faster than ReduceSum.
    pub(super) fn channel_sum(&mut self, value: Value) -> Result<Value, OnnxError> {
        let sizes = self.sizes(value)?;
        let [samples, channels, rest @ ..] = sizes.as_slice() else {
            return Err(self.no_gradient());
        };
        let rest = rest.iter().product::<i64>();
        let sum = self.sum_of_rows(value, *samples, channels * rest);
        let sum = self.b.reshape(sum, &[*channels, rest]);
        let ones = self.ones(&[rest, 1]);
        let sum = self.b.matmul(sum, ones);
        Ok(self.b.reshape(sum, &[*channels]))
    }

    /// `value` as a matrix [rows, columns], summed to [1, columns].
    fn sum_of_rows(&mut self, value: Value, rows: i64, columns: i64) -> Value {
        let value = self.b.reshape(value, &[rows, columns]);
        if rows == 1 {
            return value;
        }
        let ones = self.ones(&[1, rows]);
        self.b.matmul(ones, value)
    }

    pub(super) fn ones(&mut self, sizes: &[i64]) -> Value {
        let dims: Vec<usize> = sizes.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        let data = vec![1.0; dims.iter().product()];
        self.b.constant(Tensor { dims, data })
    }

    pub(super) fn joined(&mut self, values: &[Value], axis: i64) -> Value {
        match values {
            [one] => *one,
            values => self.b.concat(values, axis),
        }
    }
}

/// Where each element of the kernel stands in the window, in row-major order.
fn elements(reaches: &[Reach]) -> Vec<Vec<i64>> {
    reaches.iter().fold(vec![vec![]], |all, reach| {
        let longer = |start: &Vec<i64>, k: i64| [start.as_slice(), &[k * reach.dilation]].concat();
        all.iter().flat_map(|start| (0..reach.kernel).map(|k| longer(start, k))).collect()
    })
}
