//! Values that are known before anything runs, and the operators that keep them known.

use prost::bytes::Bytes;

use crate::onnx::infer::broadcast;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::tensor::{ElementType, Stored, element_count, stored};
use crate::onnx::{Dim, OnnxError};

/// The largest constant that is made while folding: a bound on what a small file can ask for.
const MAX_ELEMENTS: usize = 1 << 22;

/// Arithmetic of whole numbers is exact up to here (2^53).
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A constant. Elements are kept as f64: exact for f32, bools and the integers that shapes need;
/// a size beyond 2^53 (exporters write 2^63 - 1 for "to the end") saturates back to itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub element: ElementType,
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Known {
    pub fn int64s(data: impl IntoIterator<Item = usize>) -> Self {
        let data: Vec<f64> = data.into_iter().map(|n| n as f64).collect();
        Self { element: ElementType::I64, dims: vec![data.len()], data }
    }

    pub fn scalar(element: ElementType, value: f64) -> Self {
        Self { element, dims: vec![], data: vec![value] }
    }

    pub fn from_proto(proto: &TensorProto) -> Result<Self, OnnxError> {
        let Stored { dims, element, raw } = stored(proto)?;
        let data = match (element, raw) {
            (ElementType::F32, Some(raw)) => of(raw, |b: [u8; 4]| f64::from(f32::from_le_bytes(b))),
            (ElementType::F64, Some(raw)) => of(raw, f64::from_le_bytes),
            (ElementType::I32, Some(raw)) => of(raw, |b: [u8; 4]| f64::from(i32::from_le_bytes(b))),
            (ElementType::I64, Some(raw)) => of(raw, |b: [u8; 8]| i64::from_le_bytes(b) as f64),
            (ElementType::Bool, Some(raw)) => raw.iter().map(|b| f64::from(*b != 0)).collect(),
            (ElementType::F32, None) => proto.float_data.iter().map(|x| f64::from(*x)).collect(),
            (ElementType::F64, None) => proto.double_data.clone(),
            (ElementType::I64, None) => proto.int64_data.iter().map(|x| *x as f64).collect(),
            (_, None) => proto.int32_data.iter().map(|x| f64::from(*x)).collect(),
        };
        Ok(Self { element, dims, data })
    }

    pub fn to_proto(&self) -> TensorProto {
        let raw = match self.element {
            ElementType::F32 => bytes(&self.data, |x| (x as f32).to_le_bytes()),
            ElementType::F64 => bytes(&self.data, f64::to_le_bytes),
            ElementType::I32 => bytes(&self.data, |x| (x as i32).to_le_bytes()),
            ElementType::I64 => bytes(&self.data, |x| (x as i64).to_le_bytes()),
            ElementType::Bool => bytes(&self.data, |x| [u8::from(x != 0.0)]),
        };
        TensorProto {
            dims: self.dims.iter().map(|n| *n as i64).collect(),
            data_type: Some(self.element.to_onnx()),
            name: Some(String::new()),
            raw_data: Some(Bytes::from(raw)),
            ..TensorProto::default()
        }
    }

    pub fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|x| *x as i64).collect()
    }

    fn sizes(&self) -> Option<Vec<usize>> {
        self.ints().into_iter().map(|n| usize::try_from(n).ok()).collect()
    }

    /// The element at `index` of a shape that this one broadcasts to.
    fn at(&self, index: &[usize]) -> Option<f64> {
        let tail = index.get(index.len().checked_sub(self.dims.len())?..)?;
        let step = |flat: usize, (n, i): (&usize, &usize)| flat * n + if *n == 1 { 0 } else { *i };
        self.data.get(self.dims.iter().zip(tail).fold(0, step)).copied()
    }

    /// A constant of `dims` whose element at each index is `f(index)`.
    fn build(
        element: ElementType,
        dims: Vec<usize>,
        mut f: impl FnMut(&[usize]) -> Option<f64>,
    ) -> Option<Self> {
        let count = element_count(&dims).filter(|n| *n <= MAX_ELEMENTS)?;
        let mut index = vec![0; dims.len()];
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(rounded(element, f(&index)?));
            for (i, n) in index.iter_mut().zip(&dims).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        Some(Self { element, dims, data })
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let data = self.data.iter().map(|x| rounded(self.element, f(*x))).collect();
        Self { element: self.element, dims: self.dims.clone(), data }
    }

    fn with_dims(&self, dims: Vec<usize>) -> Option<Self> {
        let fits = element_count(&dims) == Some(self.data.len());
        fits.then(|| Self { element: self.element, dims, data: self.data.clone() })
    }

    pub fn cast(&self, element: ElementType) -> Self {
        let convert = |x: &f64| match element {
            ElementType::Bool => f64::from(*x != 0.0),
            ElementType::I32 | ElementType::I64 => x.trunc(),
            ElementType::F32 | ElementType::F64 => rounded(element, *x),
        };
        Self { element, dims: self.dims.clone(), data: self.data.iter().map(convert).collect() }
    }
}

/// Arithmetic in f64 rounded once to f32 is f32 arithmetic (53 bits are more than 2 * 24 + 2).
fn rounded(element: ElementType, x: f64) -> f64 {
    if element == ElementType::F32 { f64::from(x as f32) } else { x }
}

fn of<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    raw.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}

fn bytes<const N: usize>(data: &[f64], write: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
    data.iter().flat_map(|x| write(*x)).collect()
}

/// The value of a `Constant` node.
pub(crate) fn constant(node: &NodeProto) -> Option<Known> {
    if let Some(tensor) = node.tensor("value") {
        return Known::from_proto(tensor).ok();
    }
    if let Some(x) = node.float("value_float") {
        return Some(Known::scalar(ElementType::F32, f64::from(x)));
    }
    if let Some(n) = node.int("value_int") {
        return Some(Known::scalar(ElementType::I64, n as f64));
    }
    let attribute = |name: &str| -> Option<&AttributeProto> {
        node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    };
    let list = |element, data: Vec<f64>| Known { element, dims: vec![data.len()], data };
    if let Some(a) = attribute("value_ints") {
        return Some(list(ElementType::I64, a.ints.iter().map(|n| *n as f64).collect()));
    }
    let floats = &attribute("value_floats")?.floats;
    Some(list(ElementType::F32, floats.iter().map(|x| f64::from(*x)).collect()))
}

/// The output of a node with one output whose inputs are all known; `None` where the operator is not
/// one of those that shape arithmetic and exported constants are made of.
pub(crate) fn evaluate(node: &NodeProto, inputs: &[Option<&Known>]) -> Option<Known> {
    match inputs {
        [Some(x)] => unary(node, x).or_else(|| arrange(node, inputs)),
        [Some(a), Some(b)] => binary(node, a, b).or_else(|| arrange(node, inputs)),
        [Some(condition), Some(a), Some(b)] if node.op() == "Where" => {
            let shape = broadcast_sizes(&broadcast_sizes(&condition.dims, &a.dims)?, &b.dims)?;
            Known::build(
                a.element,
                shape,
                |i| if condition.at(i)? != 0.0 { a.at(i) } else { b.at(i) },
            )
        }
        [Some(start), Some(limit), Some(step)] if node.op() == "Range" => {
            let (from, to, by) = (start.at(&[])?, limit.at(&[])?, step.at(&[])?);
            let count = ((to - from) / by).ceil().max(0.0);
            let count = (count <= MAX_ELEMENTS as f64).then_some(count as usize)?;
            Known::build(start.element, vec![count], |i| Some(from + *i.first()? as f64 * by))
        }
        _ => arrange(node, inputs),
    }
}

fn unary(node: &NodeProto, x: &Known) -> Option<Known> {
    let float = matches!(x.element, ElementType::F32 | ElementType::F64);
    Some(match node.op() {
        "Abs" => x.map(f64::abs),
        "Neg" => x.map(|x| -x),
        "Not" => x.map(|x| f64::from(x == 0.0)),
        "Identity" => x.clone(),
        "Ceil" => x.map(f64::ceil),
        "Floor" => x.map(f64::floor),
        "Sqrt" if float => x.map(f64::sqrt),
        "Exp" if float => x.map(f64::exp),
        "Log" if float => x.map(f64::ln),
        "Sin" if float => x.map(f64::sin),
        "Cos" if float => x.map(f64::cos),
        "Reciprocal" if float => x.map(f64::recip),
        "Cast" => {
            let to = i32::try_from(node.int("to")?).ok()?;
            x.cast(ElementType::from_onnx(to, "").ok()?)
        }
        "ConstantOfShape" => {
            let value = match node.tensor("value") {
                Some(tensor) => Known::from_proto(tensor).ok()?,
                None => Known::scalar(ElementType::F32, 0.0),
            };
            let fill = value.data.first().copied()?;
            Known::build(value.element, x.sizes()?, |_| Some(fill))?
        }
        _ => return None,
    })
}

fn binary(node: &NodeProto, a: &Known, b: &Known) -> Option<Known> {
    let whole = matches!(a.element, ElementType::I32 | ElementType::I64);
    let compare = |f: fn(&f64, &f64) -> bool| {
        let shape = broadcast_sizes(&a.dims, &b.dims)?;
        Known::build(ElementType::Bool, shape, |i| Some(f64::from(f(&a.at(i)?, &b.at(i)?))))
    };
    let exact = |x: f64| !whole || x.abs() <= MAX_EXACT;
    let combine = |f: &dyn Fn(f64, f64) -> Option<f64>| {
        let shape = broadcast_sizes(&a.dims, &b.dims)?;
        let of = |a: f64, b: f64| f(a, b).filter(|y| [a, b, *y].into_iter().all(exact));
        Known::build(a.element, shape, |i| of(a.at(i)?, b.at(i)?))
    };
    match node.op() {
        "Equal" => compare(|a, b| a == b),
        "Greater" => compare(|a, b| a > b),
        "GreaterOrEqual" => compare(|a, b| a >= b),
        "Less" => compare(|a, b| a < b),
        "LessOrEqual" => compare(|a, b| a <= b),
        "And" => compare(|a, b| *a != 0.0 && *b != 0.0),
        "Or" => compare(|a, b| *a != 0.0 || *b != 0.0),
        "Add" => combine(&|a, b| Some(a + b)),
        "Sub" => combine(&|a, b| Some(a - b)),
        "Mul" => combine(&|a, b| Some(a * b)),
        "Min" => combine(&|a, b| Some(a.min(b))),
        "Max" => combine(&|a, b| Some(a.max(b))),
        "Pow" => combine(&|a, b| Some(a.powf(b))),
        "Div" if whole => combine(&|a, b| (b != 0.0).then(|| (a / b).trunc())),
        "Div" => combine(&|a, b| Some(a / b)),
        // The remainder of integers has the divisor's sign.
        "Mod" if whole && node.int("fmod").unwrap_or(0) == 0 => {
            combine(&|a, b| (b != 0.0).then(|| a - b * (a / b).floor()))
        }
        "CastLike" => Some(a.cast(b.element)),
        _ => None,
    }
}

/// Operators that move, repeat, join and cut.
fn arrange(node: &NodeProto, inputs: &[Option<&Known>]) -> Option<Known> {
    let x = inputs.first().copied().flatten()?;
    let second = || inputs.get(1).copied().flatten();
    match node.op() {
        "Concat" => concat(inputs, axis(node.int("axis")?, x.dims.len())?),
        "Expand" => {
            let shape = broadcast_sizes(&x.dims, &second()?.sizes()?)?;
            Known::build(x.element, shape, |i| x.at(i))
        }
        "Gather" => gather(x, second()?, axis(node.int("axis").unwrap_or(0), x.dims.len())?),
        "Reshape" => reshape(x, &second()?.ints(), node.int("allowzero").unwrap_or(0) != 0),
        "Slice" => slice(x, inputs),
        "Squeeze" => {
            let axes = second().map(|a| axes(&a.ints(), x.dims.len())).unwrap_or(Some(vec![]))?;
            let gone =
                |i: usize, n: usize| if axes.is_empty() { n == 1 } else { axes.contains(&i) };
            let left = x.dims.iter().enumerate().filter(|(i, n)| !gone(*i, **n)).map(|(_, n)| *n);
            x.with_dims(left.collect())
        }
        "Transpose" => transpose(x, node.ints("perm")),
        "Unsqueeze" => {
            let new = second()?.ints();
            let rank = x.dims.len() + new.len();
            let new = axes(&new, rank)?;
            let mut rest = x.dims.iter().copied();
            let size = |i| if new.contains(&i) { Some(1) } else { rest.next() };
            x.with_dims((0..rank).map(size).collect::<Option<_>>()?)
        }
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" if inputs.len() == 1 => {
            let keep = node.int("keepdims").unwrap_or(1) != 0;
            let all = node.ints("axes").is_none_or(|axes| axes.len() == x.dims.len());
            let fold = |f: fn(f64, f64) -> f64| x.data.iter().copied().reduce(f);
            let value = match node.op() {
                "ReduceProd" => fold(|a, b| a * b),
                "ReduceSum" => fold(|a, b| a + b),
                "ReduceMax" => fold(f64::max),
                _ => fold(f64::min),
            };
            let dims = if keep { vec![1; x.dims.len()] } else { vec![] };
            Known::build(x.element, dims, |_| value).filter(|_| all)
        }
        _ => None,
    }
}

fn concat(inputs: &[Option<&Known>], axis: usize) -> Option<Known> {
    let all: Vec<&Known> = inputs.iter().copied().collect::<Option<_>>()?;
    let first = all.first()?;
    let mut dims = first.dims.clone();
    *dims.get_mut(axis)? = all.iter().map(|x| x.dims.get(axis)).sum::<Option<usize>>()?;
    Known::build(first.element, dims, |index| {
        let mut index = index.to_vec();
        for x in &all {
            let n = *x.dims.get(axis)?;
            let i = index.get_mut(axis)?;
            if *i < n {
                return x.at(&index);
            }
            *i -= n;
        }
        None
    })
}

fn gather(x: &Known, indices: &Known, axis: usize) -> Option<Known> {
    let n = *x.dims.get(axis)? as i64;
    let wrap = |i: f64| usize::try_from(if i < 0.0 { i as i64 + n } else { i as i64 }).ok();
    let mut dims = x.dims.clone();
    dims.splice(axis..=axis, indices.dims.iter().copied());
    let rank = indices.dims.len();
    Known::build(x.element, dims, |index| {
        let at = wrap(indices.at(index.get(axis..axis + rank)?)?).filter(|i| (*i as i64) < n)?;
        let mut from = index.to_vec();
        from.splice(axis..axis + rank, [at]);
        x.at(&from)
    })
}

fn reshape(x: &Known, shape: &[i64], zero: bool) -> Option<Known> {
    let copied = |(i, n): (usize, &i64)| match n {
        0 if !zero => x.dims.get(i).map(|n| *n as i64),
        n => Some(*n),
    };
    let shape = shape.iter().enumerate().map(copied).collect::<Option<Vec<_>>>()?;
    let rest: i64 = shape.iter().filter(|n| **n != -1).product();
    let size = |n: &i64| match n {
        -1 => (x.data.len() as i64).checked_div(rest).and_then(|n| usize::try_from(n).ok()),
        n => usize::try_from(*n).ok(),
    };
    x.with_dims(shape.iter().map(size).collect::<Option<_>>()?)
}

fn slice(x: &Known, inputs: &[Option<&Known>]) -> Option<Known> {
    let list = |i: usize| inputs.get(i).copied().flatten().map(Known::ints);
    let (starts, ends) = (list(1)?, list(2)?);
    let axes = axes(&list(3).unwrap_or_else(|| (0..starts.len() as i64).collect()), x.dims.len())?;
    let steps = list(4).unwrap_or_else(|| vec![1; starts.len()]);
    let mut dims = x.dims.clone();
    let mut first = vec![0i64; dims.len()];
    let mut stride = vec![1i64; dims.len()];
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(axes).zip(&steps) {
        let n = *x.dims.get(axis)? as i64;
        let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let (from, span) = match step {
            1.. => {
                let from = wrap(*start).clamp(0, n);
                (from, wrap(*end).clamp(0, n) - from)
            }
            0 => return None,
            _ => {
                let from = wrap(*start).clamp(0, n - 1);
                (from, from - wrap(*end).clamp(-1, n - 1))
            }
        };
        let length = span.max(0).checked_add(step.checked_abs()? - 1)? / step.checked_abs()?;
        *dims.get_mut(axis)? = usize::try_from(length).ok()?;
        (*first.get_mut(axis)?, *stride.get_mut(axis)?) = (from, *step);
    }
    Known::build(x.element, dims, |index| {
        let place = |((i, first), stride): ((&usize, &i64), &i64)| {
            usize::try_from(first + *i as i64 * stride).ok()
        };
        let from: Option<Vec<usize>> = index.iter().zip(&first).zip(&stride).map(place).collect();
        x.at(&from?)
    })
}

fn transpose(x: &Known, order: Option<&[i64]>) -> Option<Known> {
    let rank = x.dims.len();
    let reversed: Vec<i64> = (0..rank as i64).rev().collect();
    let order = axes(order.unwrap_or(&reversed), rank)?;
    let dims = order.iter().map(|i| x.dims.get(*i).copied()).collect::<Option<_>>()?;
    Known::build(x.element, dims, |index| {
        let mut from = vec![0; rank];
        for (o, i) in order.iter().zip(index) {
            *from.get_mut(*o)? = *i;
        }
        x.at(&from)
    })
}

fn axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(axis).ok().filter(|i| *i < rank)
}

fn axes(all: &[i64], rank: usize) -> Option<Vec<usize>> {
    all.iter().map(|a| axis(*a, rank)).collect()
}

fn broadcast_sizes(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let fixed = |dims: &[usize]| dims.iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
    Some(broadcast(&fixed(a), &fixed(b))?.into_iter().map(|d| d.at(1)).collect())
}
