//! Shapes of operators that rearrange, join and cut.

use super::{Call, Info};
use crate::onnx::{Dim, ElementType, OnnxError};

impl Call<'_> {
    pub(super) fn constant(&self) -> Result<Info, OnnxError> {
        if let Some(value) = self.value()? {
            return Ok(value);
        }
        if self.node.float("value_float").is_some() {
            return Ok(Info { element: ElementType::F32, dims: Some(vec![]), ints: None });
        }
        if let Some(value) = self.node.int("value_int") {
            return Ok(Info {
                element: ElementType::I64,
                dims: Some(vec![]),
                ints: Some(vec![value]),
            });
        }
        if let Some(values) = self.node.ints("value_ints") {
            return Ok(int64_info(values.to_vec()));
        }
        Err(self.wrong("an attribute value, value_float, value_int or value_ints", "none"))
    }

    /// The tensor in attribute `value`. It mostly has no name: what is wrong with it is said of the
    /// node.
    fn value(&self) -> Result<Option<Info>, OnnxError> {
        let told = |error| match error {
            OnnxError::ExternalData { .. } => {
                OnnxError::ExternalData { tensor: format!("value of {}", self.node.label()) }
            }
            OnnxError::Invalid { expected, found, .. } => self.wrong(expected, found),
            other => other,
        };
        self.node.tensor("value").map(Info::stored).transpose().map_err(told)
    }

    pub(super) fn constant_of_shape(&self) -> Result<Info, OnnxError> {
        let element = self.value()?.map_or(ElementType::F32, |value| value.element);
        let Some(shape) = &self.input(0)?.ints else {
            return Ok(Info { element, dims: None, ints: None });
        };
        let dims = shape.iter().map(|n| self.size(*n)).collect::<Result<_, _>>()?;
        Ok(Info { element, dims: Some(dims), ints: None })
    }

    fn size(&self, n: i64) -> Result<Dim, OnnxError> {
        usize::try_from(n).map(Dim::Fixed).map_err(|_| self.wrong("sizes of at least 0", n))
    }

    pub(super) fn concat(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let all: Option<Vec<&[Dim]>> =
            self.inputs.iter().flatten().map(|i| i.dims.as_deref()).collect();
        let Some(all) = all else { return self.of(None) };
        let first = all.first().copied().unwrap_or(&[]);
        let axis = self.axis(self.node.int("axis").unwrap_or(0), Some(first.len()))?;
        let mut total = Some(0usize);
        for dims in &all {
            let others = |dims: &[Dim]| {
                dims.iter()
                    .enumerate()
                    .filter(|(i, _)| *i != axis)
                    .map(|(_, d)| *d)
                    .collect::<Vec<_>>()
            };
            if dims.len() != first.len() || others(dims) != others(first) {
                return Err(self.wrong(
                    format!("shapes like {first:?} but for axis {axis}"),
                    format!("{dims:?}"),
                ));
            }
            total = match (total, dims.get(axis)) {
                (Some(sum), Some(Dim::Fixed(n))) => sum.checked_add(*n),
                _ => None,
            };
        }
        let ints: Option<Vec<Vec<i64>>> =
            self.inputs.iter().flatten().map(|i| i.ints.clone()).collect();
        let out = total.map(|total| with_dim(first, axis, Dim::Fixed(total)));
        Ok(Info { ints: ints.map(|parts| parts.concat()), ..self.of(out)? })
    }

    pub(super) fn expand(&self) -> Result<Info, OnnxError> {
        let (Some(dims), Some(shape)) = (self.dims(0)?, &self.input(1)?.ints) else {
            return self.of(None);
        };
        let shape = shape.iter().map(|n| self.size(*n)).collect::<Result<Vec<_>, _>>()?;
        self.of(Some(self.broadcast_two(dims, &shape)?))
    }

    pub(super) fn flatten(&self) -> Result<Info, OnnxError> {
        let Some(dims) = self.dims(0)? else { return self.of(None) };
        // Unlike other operators', this axis may equal the rank.
        let axis = self.axis(self.node.int("axis").unwrap_or(1), Some(dims.len() + 1))?;
        let (front, back) = dims.split_at_checked(axis).unwrap_or((dims, &[]));
        self.of(product(front).zip(product(back)).map(|(a, b)| vec![a, b]))
    }

    pub(super) fn gather(&self) -> Result<Info, OnnxError> {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        let (Some(dims), Some(index_dims)) = (&data.dims, &indices.dims) else {
            return self.of(None);
        };
        let axis = self.axis(self.node.int("axis").unwrap_or(0), Some(dims.len()))?;
        if let (Some(Dim::Fixed(n)), Some(ints)) = (dims.get(axis), &indices.ints)
            && let Some(bad) = ints.iter().find(|i| !(-(*n as i64)..*n as i64).contains(i))
        {
            return Err(self.wrong(format!("indices below {n}"), bad));
        }
        let mut out = dims.clone();
        out.splice(axis..=axis, index_dims.iter().copied());
        let picked = data.ints.as_ref().zip(indices.ints.as_ref()).and_then(|(data, at)| {
            let wrap = |i: &i64| if *i < 0 { i + data.len() as i64 } else { *i };
            at.iter().map(|i| data.get(usize::try_from(wrap(i)).ok()?).copied()).collect()
        });
        Ok(Info { ints: picked, ..self.of(Some(out))? })
    }

    pub(super) fn reshape(&self) -> Result<Info, OnnxError> {
        let (Some(dims), Some(shape)) = (self.dims(0)?, &self.input(1)?.ints) else {
            return self.of(None);
        };
        let mut out = Vec::new();
        let mut open = None;
        for (i, n) in shape.iter().enumerate() {
            out.push(match n {
                -1 if open.is_none() => {
                    open = Some(i);
                    Dim::Fixed(1)
                }
                0 if self.node.int("allowzero").unwrap_or(0) == 0 => *dims
                    .get(i)
                    .ok_or_else(|| self.wrong("a size to copy", format!("axis {i} of {dims:?}")))?,
                n => self.size(*n)?,
            });
        }
        let (before, after) = (sizes(dims), sizes(&out));
        let mismatch =
            || self.wrong(format!("as many elements as {dims:?}"), format!("shape {shape:?}"));
        let filled = match (before, after, open) {
            ((n, batches), (m, done), Some(_)) if m > 0 && n == m && batches == done + 1 => {
                Dim::Batch
            }
            ((n, batches), (m, done), Some(_)) if m > 0 && n % m == 0 && batches == done => {
                Dim::Fixed(n / m)
            }
            (a, b, None) if a == b => Dim::Fixed(1),
            ((_, 0), (_, 0), _) => return Err(mismatch()),
            _ => return self.of(None),
        };
        if let Some(dim) = open.and_then(|i| out.get_mut(i)) {
            *dim = filled;
        }
        Ok(Info { ints: self.input(0)?.ints.clone(), ..self.of(Some(out))? })
    }

    pub(super) fn shape(&self) -> Result<Info, OnnxError> {
        let Some(dims) = self.dims(0)? else {
            return Ok(Info { element: ElementType::I64, dims: None, ints: None });
        };
        let rank = dims.len() as i64;
        let bound = |axis: i64| {
            (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize
        };
        let start = bound(self.node.int("start").unwrap_or(0));
        let end = bound(self.node.int("end").unwrap_or(rank));
        let part = dims.get(start..end).unwrap_or(&[]);
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n as i64) } else { None };
        let dims = Some(vec![Dim::Fixed(part.len())]);
        Ok(Info { element: ElementType::I64, dims, ints: part.iter().map(fixed).collect() })
    }

    pub(super) fn slice(&self) -> Result<Info, OnnxError> {
        let (Some(dims), Some(starts), Some(ends)) =
            (self.dims(0)?, &self.input(1)?.ints, &self.input(2)?.ints)
        else {
            return self.of(None);
        };
        let axes = match self.inputs.get(3).copied().flatten() {
            Some(info) => info.ints.clone(),
            None => Some((0..starts.len() as i64).collect()),
        };
        let steps = match self.inputs.get(4).copied().flatten() {
            Some(info) => info.ints.clone(),
            None => Some(vec![1; starts.len()]),
        };
        let (Some(axes), Some(steps)) = (axes, steps) else { return self.of(None) };
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(self.wrong("as many ends, axes and steps as starts", format!("{starts:?}")));
        }
        let mut out = dims.to_vec();
        for (((start, end), axis), step) in starts.iter().zip(ends).zip(axes).zip(steps) {
            let axis = self.axis(axis, Some(dims.len()))?;
            let Some(Dim::Fixed(n)) = dims.get(axis) else { return self.of(None) };
            let length = slice_len(*n as i64, *start, *end, step)
                .ok_or_else(|| self.wrong("a step other than 0", 0))?;
            out = with_dim(&out, axis, Dim::Fixed(length));
        }
        self.of(Some(out))
    }

    pub(super) fn split(&self) -> Result<Vec<Info>, OnnxError> {
        let count = self.node.output.len();
        let Some(dims) = self.dims(0)? else { return Ok(vec![self.of(None)?; count]) };
        let axis = self.axis(self.node.int("axis").unwrap_or(0), Some(dims.len()))?;
        let Some(Dim::Fixed(n)) = dims.get(axis).copied() else {
            return Ok(vec![self.of(None)?; count]);
        };
        let sizes = match self.inputs.get(1).copied().flatten() {
            Some(Info { ints: None, .. }) => return Ok(vec![self.of(None)?; count]),
            Some(Info { ints: Some(sizes), .. }) => sizes.clone(),
            None => {
                let chunk = n.div_ceil(count);
                (0..count).map(|i| chunk.min(n.saturating_sub(i * chunk)) as i64).collect()
            }
        };
        let total =
            sizes.iter().try_fold(0i64, |sum, s| if *s < 0 { None } else { sum.checked_add(*s) });
        if sizes.len() != count || total != Some(n as i64) {
            return Err(self.wrong(format!("{count} sizes that sum to {n}"), format!("{sizes:?}")));
        }
        sizes.iter().map(|s| self.of(Some(with_dim(dims, axis, self.size(*s)?)))).collect()
    }

    pub(super) fn squeeze(&self) -> Result<Info, OnnxError> {
        let dims = self.dims(0)?;
        let axes = self.axes(1, dims.map(<[Dim]>::len))?;
        let (Some(dims), Some(axes)) = (dims, axes) else { return self.of(None) };
        let gone = |i: usize, d: &Dim| {
            if axes.is_empty() { *d == Dim::Fixed(1) } else { axes.contains(&i) }
        };
        if let Some(d) = axes
            .iter()
            .filter_map(|i| dims.get(*i))
            .find(|d| !matches!(d, Dim::Fixed(1) | Dim::Batch))
        {
            return Err(self.wrong("axes of size 1", format!("{d:?}")));
        }
        let out = dims.iter().enumerate().filter(|(i, d)| !gone(*i, d)).map(|(_, d)| *d).collect();
        Ok(Info { ints: self.input(0)?.ints.clone(), ..self.of(Some(out))? })
    }

    pub(super) fn unsqueeze(&self) -> Result<Info, OnnxError> {
        let (dims, new) = (self.dims(0)?, self.input(1)?.ints.as_ref());
        let (Some(dims), Some(new)) = (dims, new) else { return self.of(None) };
        let rank = dims.len() + new.len();
        let axes = new.iter().map(|a| self.axis(*a, Some(rank))).collect::<Result<Vec<_>, _>>()?;
        let mut rest = dims.iter().copied();
        let out: Option<Vec<Dim>> = (0..rank)
            .map(|i| if axes.contains(&i) { Some(Dim::Fixed(1)) } else { rest.next() })
            .collect();
        let out = out.filter(|_| rest.next().is_none());
        let out = out.ok_or_else(|| self.wrong("different axes", format!("{new:?}")))?;
        Ok(Info { ints: self.input(0)?.ints.clone(), ..self.of(Some(out))? })
    }

    pub(super) fn transpose(&self) -> Result<Info, OnnxError> {
        let Some(dims) = self.dims(0)? else { return self.of(None) };
        let reversed: Vec<i64> = (0..dims.len() as i64).rev().collect();
        let order = self.node.ints("perm").unwrap_or(&reversed);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..dims.len() as i64) {
            return Err(
                self.wrong(format!("an order of {} axes", dims.len()), format!("{order:?}"))
            );
        }
        self.of(Some(
            order.iter().filter_map(|i| dims.get(usize::try_from(*i).ok()?)).copied().collect(),
        ))
    }
}

/// An int64 constant of one axis.
pub(crate) fn int64_info(values: Vec<i64>) -> Info {
    Info {
        element: ElementType::I64,
        dims: Some(vec![Dim::Fixed(values.len())]),
        ints: Some(values),
    }
}

fn with_dim(dims: &[Dim], axis: usize, dim: Dim) -> Vec<Dim> {
    dims.iter().enumerate().map(|(i, d)| if i == axis { dim } else { *d }).collect()
}

/// The product of the fixed sizes and the number of batch axes.
fn sizes(dims: &[Dim]) -> (usize, usize) {
    dims.iter().fold((1, 0), |(product, batches), d| match d {
        Dim::Fixed(n) => (product.saturating_mul(*n), batches),
        Dim::Batch => (product, batches + 1),
    })
}

fn product(dims: &[Dim]) -> Option<Dim> {
    match sizes(dims) {
        (n, 0) => Some(Dim::Fixed(n)),
        (1, 1) => Some(Dim::Batch),
        _ => None,
    }
}

/// The length of `start..end` by `step` along an axis of `n`, with ONNX's clamping.
fn slice_len(n: i64, start: i64, end: i64, step: i64) -> Option<usize> {
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (span, stride) = match step {
        0 => return None,
        _ if n == 0 => return Some(0),
        1.. => (wrap(end).clamp(0, n) - wrap(start).clamp(0, n), step),
        _ => (wrap(start).clamp(0, n - 1) - wrap(end).clamp(-1, n - 1), step.checked_neg()?),
    };
    Some(span.max(0).checked_add(stride - 1)?.checked_div(stride)? as usize)
}
