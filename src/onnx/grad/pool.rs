//! Gradients of pools.

use super::{Backward, Parts};
use crate::onnx::infer::{Reach, window};
use crate::onnx::{OnnxError, Tensor, Value};

/// An image of `planes` (samples times channels) and the window that slides over it.
struct Pool {
    planes: i64,
    sizes: Vec<i64>,
    counts: Vec<i64>,
    reaches: Vec<Reach>,
}

impl Pool {
    /// Whether the windows tile the image: each element is in exactly one.
    fn tiles(&self) -> bool {
        self.reaches.iter().zip(self.sizes.iter().zip(&self.counts)).all(|(r, (size, count))| {
            (r.dilation, r.before, r.kernel) == (1, 0, r.stride) && count * r.kernel == *size
        })
    }

    /// The planes cut into windows: [planes, count, kernel, count, kernel, ...].
    fn tiled(&self) -> Vec<i64> {
        let pairs = self.counts.iter().zip(&self.reaches).flat_map(|(n, r)| [*n, r.kernel]);
        [self.planes].into_iter().chain(pairs).collect()
    }

    /// As [`Self::tiled`], one element for each window.
    fn one_a_tile(&self) -> Vec<i64> {
        [self.planes].into_iter().chain(self.counts.iter().flat_map(|n| [*n, 1])).collect()
    }

    /// `planes` planes of one or more `channels`, one element for each window.
    fn windows(&self, channels: i64) -> Vec<i64> {
        [self.planes, channels].into_iter().chain(self.counts.iter().copied()).collect()
    }

    /// The matrix [windows, elements] of the averages along `axis`: 1 / the number of elements that a
    /// window counts where it sees one. The average over all axes is the product of these.
    fn averages(&self, axis: usize, with_padding: bool) -> Option<Tensor> {
        let (r, size, count) =
            (self.reaches.get(axis)?, *self.sizes.get(axis)?, *self.counts.get(axis)?);
        let (from, to) = if with_padding { (-r.before, size + r.after) } else { (0, size) };
        let row = |window: i64| {
            let start = window * r.stride - r.before;
            let end = start + r.kernel;
            let share = 1.0 / (end.min(to) - start.max(from)) as f32;
            (0..size).map(move |i| if (start..end).contains(&i) { share } else { 0.0 })
        };
        Tensor::new([count as usize, size as usize], (0..count).flat_map(row).collect::<Vec<_>>())
            .ok()
    }
}

impl Backward<'_> {
    /// The largest element of a window takes its gradient; equal largest ones share it evenly
    /// (PyTorch gives it to the first).
    pub(super) fn max_pool(&mut self, g: Value) -> Parts {
        let (x, y) = (self.input(0)?, self.output()?);
        let pool = self.pool_of(x, y)?;
        if pool.tiles() {
            let (x, ones) = (self.b.reshape(x, &pool.tiled()), pool.one_a_tile());
            let (y, g) = (self.b.reshape(y, &ones), self.b.reshape(g, &ones));
            let kernel_axes: Vec<i64> = (1..=pool.counts.len() as i64).map(|i| 2 * i).collect();
            let part = self.shared_by_largest(g, x, y, &kernel_axes);
            return self.as_input(part);
        }
        let windows = pool.windows(1);
        let views = self.views(x, &pool.reaches, &pool.counts, f32::MIN)?;
        let views: Vec<Value> = views.into_iter().map(|v| self.b.reshape(v, &windows)).collect();
        let views = self.joined(&views, 1);
        let (y, g) = (self.b.reshape(y, &windows), self.b.reshape(g, &windows));
        let parts = self.shared_by_largest(g, views, y, &[1]);
        // A kernel for each element of the window, 1 there and 0 elsewhere, puts each part back.
        let n = pool.reaches.iter().map(|r| r.kernel as usize).product::<usize>();
        let data = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let kernel = pool.reaches.iter().map(|r| r.kernel as usize);
        let dims = [n, 1].into_iter().chain(kernel).collect();
        let places = self.b.constant(Tensor { dims, data });
        let part = self.spread(parts, places, &pool.reaches, &pool.sizes)?;
        self.as_input(part)
    }

    /// Every element that a window counts takes an equal share of its gradient: one axis after the
    /// other, a product with the matrix of its averages.
    pub(super) fn average_pool(&mut self, g: Value) -> Parts {
        let pool = self.pool_of(self.input(0)?, self.output()?)?;
        let with_padding = self.node.proto.int("count_include_pad").unwrap_or(0) != 0;
        let (mut part, mut before) = (g, pool.planes);
        for (axis, size) in pool.sizes.iter().enumerate() {
            let averages = pool.averages(axis, with_padding).ok_or_else(|| self.no_gradient())?;
            let count = pool.counts.get(axis).copied().unwrap_or(1);
            let after = pool.counts.iter().skip(axis + 1).product();
            part = self.along_axis(part, averages, [before, count, after]);
            before *= size;
        }
        self.as_input(part)
    }

    /// `value` seen as [before, rows, after], multiplied along its middle axis by `matrix`
    /// [rows, columns]: [before, columns, after].
    fn along_axis(&mut self, value: Value, matrix: Tensor, sizes: [i64; 3]) -> Value {
        let [before, rows, after] = sizes;
        let matrix = self.b.constant(matrix);
        if after == 1 {
            let value = self.b.reshape(value, &[before, rows]);
            return self.b.matmul(value, matrix);
        }
        let value = self.b.reshape(value, &sizes);
        let turned = self.b.transpose(matrix, &[1, 0]);
        self.b.matmul(turned, value)
    }

    pub(super) fn global_average_pool(&mut self, g: Value) -> Parts {
        let sizes = self.sizes(self.input(0)?)?;
        let share = 1.0 / sizes.iter().skip(2).product::<i64>() as f32;
        let share = self.b.scalar(share);
        let g = self.b.mul(g, share);
        Ok(vec![Some(self.b.expand(g, &sizes))])
    }

    /// As [`Self::max_pool`], the window being the image.
    pub(super) fn global_max_pool(&mut self, g: Value) -> Parts {
        let (x, y) = (self.input(0)?, self.output()?);
        let axes: Vec<i64> = (2..self.sizes(x)?.len() as i64).collect();
        Ok(vec![Some(self.shared_by_largest(g, x, y, &axes))])
    }

    /// `g` for each element of `x` that equals the largest, `y`, shared by as many as do along
    /// `axes`. `y` and `g` have size 1 there.
    fn shared_by_largest(&mut self, g: Value, x: Value, y: Value, axes: &[i64]) -> Value {
        let largest = self.b.equal(x, y);
        let largest = self.b.to_f32(largest);
        let count = self.b.reduce_sum(largest, axes, true);
        let share = self.b.div(g, count);
        self.b.mul(largest, share)
    }

    fn pool_of(&self, x: Value, y: Value) -> Result<Pool, OnnxError> {
        let (x, y) = (self.sizes(x)?, self.sizes(y)?);
        let kernel = self.node.proto.ints("kernel_shape").unwrap_or(&[]);
        let ([samples, channels, sizes @ ..], [_, _, counts @ ..]) = (x.as_slice(), y.as_slice())
        else {
            return Err(self.no_gradient());
        };
        let reaches = window(&self.node.proto, kernel, sizes)?;
        let (sizes, counts) = (sizes.to_vec(), counts.to_vec());
        Ok(Pool { planes: samples * channels, sizes, counts, reaches })
    }

    /// The gradient of the only input, in its shape.
    fn as_input(&mut self, part: Value) -> Parts {
        let sizes = self.sizes(self.input(0)?)?;
        Ok(vec![Some(self.b.reshape(part, &sizes))])
    }
}
