//! Shapes of a family: gathering, padding and other selections.

use super::{Call, Info};
use crate::onnx::{Dim, ElementType, OnnxError};

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    Some(match op {
        "ArgMax" | "ArgMin" | "Size" => (1, 1, 1),
        "CastLike" | "GatherElements" | "Tile" => (2, 2, 1),
        "Dropout" => (1, 3, 2),
        "OneHot" | "Range" | "ScatterElements" => (3, 3, 1),
        "Pad" => (2, 4, 1),
        "TopK" => (2, 2, 2),
        "Trilu" => (1, 2, 1),
        _ => return None,
    })
}

impl Call<'_> {
    pub(super) fn select(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        let one = |info: Info| Ok(Some(vec![info]));
        match self.node.op() {
            "ArgMax" | "ArgMin" => one(self.argument()?),
            "CastLike" => one(Info { element: self.input(1)?.element, ..self.input(0)?.clone() }),
            "Dropout" => self.dropout().map(Some),
            "GatherElements" => one(self.gather_elements()?),
            "OneHot" => one(self.one_hot()?),
            "Pad" => one(self.pad()?),
            "Range" => one(self.range()?),
            "ScatterElements" => one(self.scatter_elements()?),
            "Size" => one(self.size_of()?),
            "Tile" => one(self.tile()?),
            "TopK" => self.top_k().map(Some),
            "Trilu" => one(self.triangle()?),
            _ => Ok(None),
        }
    }

    /// The index of the largest or smallest element along an axis.
    fn argument(&self) -> Result<Info, OnnxError> {
        let mut out = Info { element: ElementType::I64, dims: None, ints: None };
        let axis = self.axis(self.node.int("axis").unwrap_or(0), self.rank(0)?)?;
        let Some(mut dims) = self.dims(0)?.map(<[Dim]>::to_vec) else { return Ok(out) };
        if self.node.int("keepdims").unwrap_or(1) == 0 {
            dims.remove(axis);
        } else if let Some(dim) = dims.get_mut(axis) {
            *dim = Dim::Fixed(1);
        }
        out.dims = Some(dims);
        Ok(out)
    }

    /// The identity; the mask is all true.
    fn dropout(&self) -> Result<Vec<Info>, OnnxError> {
        if self.has(2) && self.input(2)?.ints.as_deref() != Some(&[0]) {
            let found = "a training_mode that is not the constant false";
            return Err(self.wrong("dropout as in inference", found));
        }
        let mask = Info { element: ElementType::Bool, ..self.like(0)? };
        Ok([self.like(0)?, mask].into_iter().take(self.node.output.len()).collect())
    }

    /// Indices of `data`'s rank, at most of its size on the other axes.
    fn gather_elements(&self) -> Result<Info, OnnxError> {
        self.indices(1)?;
        let (Some(dims), Some(at)) = (self.dims(0)?, self.dims(1)?) else { return self.of(None) };
        let axis = self.axis(self.node.int("axis").unwrap_or(0), Some(dims.len()))?;
        let larger = |(i, (n, m)): (usize, (&Dim, &Dim))| match (n, m) {
            (Dim::Fixed(n), Dim::Fixed(m)) => i != axis && m > n,
            (Dim::Fixed(_), Dim::Batch) => i != axis,
            _ => false,
        };
        if dims.len() != at.len() || dims.iter().zip(at).enumerate().any(larger) {
            let expected = format!("indices that fit {dims:?} but for axis {axis}");
            return Err(self.wrong(expected, format!("{at:?}")));
        }
        self.of(Some(at.to_vec()))
    }

    fn scatter_elements(&self) -> Result<Info, OnnxError> {
        self.gather_elements()?;
        let (data, updates) = (self.input(0)?, self.input(2)?);
        if updates.element != data.element {
            let expected = format!("updates of {:?}", data.element);
            return Err(self.wrong(expected, format!("{:?}", updates.element)));
        }
        if let (Some(at), Some(new)) = (self.dims(1)?, &updates.dims)
            && at != new
        {
            return Err(self.wrong(format!("updates of {at:?}"), format!("{new:?}")));
        }
        match self.node.string("reduction").unwrap_or("none") {
            "none" | "add" | "mul" | "min" | "max" => self.like(0),
            other => Err(self.wrong("reduction none, add, mul, min or max", other)),
        }
    }

    fn indices(&self, index: usize) -> Result<(), OnnxError> {
        match self.input(index)?.element {
            ElementType::I32 | ElementType::I64 => Ok(()),
            other => Err(self.wrong("indices of int32 or int64", format!("{other:?}"))),
        }
    }

    /// A new axis of the size `depth`.
    fn one_hot(&self) -> Result<Info, OnnxError> {
        self.indices(0)?;
        let values = self.input(2)?;
        let Some(&[depth]) = self.input(1)?.ints.as_deref() else {
            return Ok(Info { element: values.element, dims: None, ints: None });
        };
        let depth = usize::try_from(depth).ok().filter(|d| *d > 0);
        let depth = depth.ok_or_else(|| self.wrong("a depth of at least 1", "less"))?;
        if !matches!(values.dims.as_deref(), None | Some([Dim::Fixed(2)])) {
            return Err(self.wrong("2 values", format!("{:?}", values.dims)));
        }
        let dims = self.dims(0)?;
        let axis = self.axis(self.node.int("axis").unwrap_or(-1), dims.map(|d| d.len() + 1))?;
        let dims = dims.map(|dims| {
            let mut dims = dims.to_vec();
            dims.insert(axis.min(dims.len()), Dim::Fixed(depth));
            dims
        });
        Ok(Info { element: values.element, dims, ints: None })
    }

    /// Pads of at least 0: tract takes no other, and cutting is what `Slice` does.
    fn pad(&self) -> Result<Info, OnnxError> {
        let mode = self.node.string("mode").unwrap_or("constant");
        if !matches!(mode, "constant" | "edge" | "reflect") {
            return Err(self.wrong("mode constant, edge or reflect", mode));
        }
        let Some(pads) = &self.input(1)?.ints else { return self.of(None) };
        if pads.iter().any(|p| *p < 0) {
            return Err(self.wrong("pads of at least 0 (cut with Slice)", format!("{pads:?}")));
        }
        let Some(dims) = self.dims(0)? else { return self.of(None) };
        let axes = match self.inputs.get(3).copied().flatten() {
            Some(Info { ints: None, .. }) => return self.of(None),
            Some(Info { ints: Some(axes), .. }) => axes.clone(),
            None => (0..dims.len() as i64).collect(),
        };
        let (before, after) = pads.split_at(pads.len() / 2);
        if [before.len(), after.len()] != [axes.len(); 2] {
            let expected = format!("{} pads", 2 * axes.len());
            return Err(self.wrong(expected, pads.len()));
        }
        let mut out = dims.to_vec();
        for ((axis, before), after) in axes.iter().zip(before).zip(after) {
            let axis = self.axis(*axis, Some(dims.len()))?;
            let Some(dim) = out.get_mut(axis) else { continue };
            let Some(more) = before.checked_add(*after).and_then(|m| usize::try_from(m).ok())
            else {
                return Err(self.wrong("pads that fit memory", format!("{pads:?}")));
            };
            match dim {
                _ if more == 0 => {}
                Dim::Batch => return self.of(None),
                Dim::Fixed(n) if mode == "reflect" && (*before.max(after)) as usize >= *n => {
                    return Err(self.wrong(format!("reflected pads below {n}"), more));
                }
                Dim::Fixed(n) => *n = n.saturating_add(more),
            }
        }
        self.of(Some(out))
    }

    /// Numbers from a start to a limit; the count is known where these are int64 constants.
    fn range(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let number = |i: usize| Some(*self.inputs.get(i)?.as_ref()?.ints.as_ref()?.first()?);
        let (Some(start), Some(limit), Some(step)) = (number(0), number(1), number(2)) else {
            return self.of(None);
        };
        if step == 0 {
            return Err(self.wrong("a step other than 0", 0));
        }
        let (span, step) = (i128::from(limit) - i128::from(start), i128::from(step));
        let count = (span + step - step.signum()).div_euclid(step).max(0);
        let Ok(count @ 0..=0xFFFF) = usize::try_from(count) else {
            return Err(self.wrong("at most 65535 numbers", count));
        };
        let ints = (0..count as i64).map(|i| start + i * step as i64).collect();
        Ok(Info { ints: Some(ints), ..self.of(Some(vec![Dim::Fixed(count)]))? })
    }

    fn size_of(&self) -> Result<Info, OnnxError> {
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n as i64) } else { None };
        let sizes: Option<Vec<i64>> =
            self.dims(0)?.and_then(|dims| dims.iter().map(fixed).collect());
        let count = sizes.and_then(|s| s.into_iter().try_fold(1i64, i64::checked_mul));
        let ints = count.map(|n| vec![n]);
        Ok(Info { element: ElementType::I64, dims: Some(vec![]), ints })
    }

    /// Constant numbers of copies.
    fn tile(&self) -> Result<Info, OnnxError> {
        let (Some(dims), Some(copies)) = (self.dims(0)?, &self.input(1)?.ints) else {
            return self.of(None);
        };
        if copies.len() != dims.len() || copies.iter().any(|c| *c < 1) {
            let expected = format!("{} numbers of at least 1", dims.len());
            return Err(self.wrong(expected, format!("{copies:?}")));
        }
        let tiled = |(dim, copies): (&Dim, &i64)| match dim {
            dim if *copies == 1 => Some(*dim),
            Dim::Fixed(n) => n.checked_mul(usize::try_from(*copies).ok()?).map(Dim::Fixed),
            Dim::Batch => None,
        };
        self.of(dims.iter().zip(copies).map(tiled).collect())
    }

    /// The k largest or smallest elements and their indices.
    fn top_k(&self) -> Result<Vec<Info>, OnnxError> {
        let axis = self.axis(self.node.int("axis").unwrap_or(-1), self.rank(0)?)?;
        let mut values = self.of(None)?;
        if let (Some(dims), Some(&[k])) = (self.dims(0)?, self.input(1)?.ints.as_deref()) {
            let mut dims = dims.to_vec();
            let k = usize::try_from(k).ok().filter(|k| *k > 0);
            match (dims.get_mut(axis), k) {
                (Some(Dim::Fixed(n)), Some(k)) if k <= *n => *n = k,
                (dim, _) => return Err(self.wrong("k of 1 to the axis' size", format!("{dim:?}"))),
            }
            values.dims = Some(dims);
        }
        let indices = Info { element: ElementType::I64, ..values.clone() };
        Ok([values, indices].into_iter().take(self.node.output.len()).collect())
    }

    fn triangle(&self) -> Result<Info, OnnxError> {
        match self.rank(0)? {
            Some(0 | 1) => Err(self.wrong("at least 2 axes", "fewer")),
            _ => self.like(0),
        }
    }
}
