//! Putting a part back into zeros: the inverse of cutting and of picking every n-th element.

use super::{Backward, Value};
use crate::onnx::OnnxError;

impl Backward<'_> {
    /// The gradient of `Slice`, any steps.
    pub(super) fn slice(&mut self, mut g: Value, sizes: &[i64]) -> Result<Value, OnnxError> {
        let starts = self.ints(1)?.unwrap_or_default();
        let axes = self.ints(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
        let cuts = self.axes(&axes, sizes.len()).into_iter().zip(starts).zip(steps);
        let mut pads = vec![(0, 0); sizes.len()];
        for ((axis, start), step) in cuts {
            let n = size_at(sizes, axis);
            let first = if start < 0 { start.saturating_add(n) } else { start };
            let first = first.clamp(0, if step < 0 { n - 1 } else { n });
            let length = size_at(&self.sizes(g)?, axis);
            if step != 1 {
                g = self.place(g, axis, (first, step), n)?;
            } else if let Some(pad) = usize::try_from(axis).ok().and_then(|i| pads.get_mut(i)) {
                *pad = (first, n - first - length);
            }
        }
        Ok(self.pad(g, &pads))
    }

    /// Zeros with element `i` of `g` at `start + i step` of an axis of size `n`; `step` is not 0, and
    /// all places are inside.
    pub(super) fn place(
        &mut self,
        g: Value,
        axis: i64,
        (start, step): (i64, i64),
        n: i64,
    ) -> Result<Value, OnnxError> {
        let sizes = self.sizes(g)?;
        let at = usize::try_from(axis).unwrap_or(0);
        let (outer, inner) = (product(sizes.get(..at)), product(sizes.get(at + 1..)));
        let length = size_at(&sizes, axis);
        // Backwards is forwards of the reversed part.
        let (g, start, step) = if step < 0 {
            (self.reversed(g, axis), start + (length - 1) * step, -step)
        } else {
            (g, start, step)
        };
        let mut whole = sizes;
        if let Some(size) = whole.get_mut(at) {
            *size = n;
        }
        // Zeros follow each element; those behind the axis' end are cut off.
        let g = self.b.reshape(g, &[outer, length, 1, inner]);
        let g = self.pad(g, &[(0, 0), (0, 0), (0, step - 1), (0, 0)]);
        let g = self.b.reshape(g, &[outer, length * step, inner]);
        let room = n - start;
        let used = room.min(length * step);
        let g = if used < length * step { self.b.slice(g, 1, 0, used) } else { g };
        let g = self.pad(g, &[(0, 0), (start, room - used), (0, 0)]);
        Ok(self.b.reshape(g, &whole))
    }

    /// Zeros before and after, an axis a pair.
    pub(super) fn pad(&mut self, g: Value, pads: &[(i64, i64)]) -> Value {
        if pads.iter().all(|pad| *pad == (0, 0)) {
            return g;
        }
        let ends = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1));
        let pads = self.b.int64s(&ends.collect::<Vec<_>>());
        self.b.op("Pad", &[g, pads], vec![])
    }

    fn reversed(&mut self, g: Value, axis: i64) -> Value {
        let [start, end, axis] = [-1, i64::MIN, axis].map(|i| self.b.int64s(&[i]));
        self.b.op("Slice", &[g, start, end, axis, start], vec![])
    }
}

pub(super) fn size_at(sizes: &[i64], axis: i64) -> i64 {
    usize::try_from(axis).ok().and_then(|i| sizes.get(i)).copied().unwrap_or(1)
}

pub(super) fn product(sizes: Option<&[i64]>) -> i64 {
    sizes.unwrap_or(&[]).iter().product()
}
