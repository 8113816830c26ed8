//! The elements of small integer constants, followed through the arithmetic that exporters do on
//! shapes: with a fixed batch, sizes that a file computes become known.

use super::Info;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::tensor::{Stored, int64s, stored};
use crate::onnx::{Dim, ElementType, OnnxError};

/// The most elements that are followed: far more than any shape, little enough to copy.
const MAX_INTS: usize = 1 << 16;

impl Info {
    /// What is known of a stored tensor.
    ///
    /// # Errors
    /// When its data does not fit its type and dims, or is in another file.
    pub(crate) fn stored(proto: &TensorProto) -> Result<Self, OnnxError> {
        let Stored { dims, element, raw } = stored(proto)?;
        let small = dims.iter().product::<usize>() <= MAX_INTS;
        let typed = || proto.int32_data.iter().map(|n| i64::from(*n)).collect::<Vec<_>>();
        let word = |b: &[u8; 4]| i64::from(i32::from_le_bytes(*b));
        let ints = match (element, raw) {
            _ if !small => None,
            (ElementType::I64, _) => Some(int64s(proto)?),
            (ElementType::I32, Some(raw)) => Some(raw.as_chunks().0.iter().map(word).collect()),
            (ElementType::Bool, Some(raw)) => Some(raw.iter().map(|b| i64::from(*b)).collect()),
            (ElementType::I32 | ElementType::Bool, None) => Some(typed()),
            (ElementType::F32 | ElementType::F64, _) => None,
        };
        Ok(Self { element, dims: Some(dims.into_iter().map(Dim::Fixed).collect()), ints })
    }

    fn count(&self) -> Option<usize> {
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
        self.dims.as_ref()?.iter().try_fold(1usize, |product, d| product.checked_mul(fixed(d)?))
    }
}

/// Fills in the elements of a node's output where they follow from its inputs'.
pub(super) fn fill(node: &NodeProto, inputs: &[Option<&Info>], outputs: &mut [Info]) {
    let [out] = outputs else { return };
    let stored = node.op() == "Constant";
    let count = out.count().filter(|n| *n <= MAX_INTS && !stored);
    let (Some(count), ElementType::I64 | ElementType::I32 | ElementType::Bool) =
        (count, out.element)
    else {
        out.ints = out.ints.take().filter(|_| stored);
        return;
    };
    let call = Known { node, inputs, count };
    let low = |n: &i64| out.element != ElementType::I32 || i32::try_from(*n).is_ok();
    let known = out.ints.take().or_else(|| call.values());
    let known = known.filter(|ints| ints.len() == count && ints.iter().all(low));
    out.ints = match (known, out.element) {
        (Some(ints), ElementType::Bool) => Some(ints.iter().map(|n| i64::from(*n != 0)).collect()),
        (known, _) => known,
    };
}

/// A node whose inputs' elements may be known, and how many elements its output has.
struct Known<'a> {
    node: &'a NodeProto,
    inputs: &'a [Option<&'a Info>],
    count: usize,
}

impl<'a> Known<'a> {
    fn ints(&self, index: usize) -> Option<&'a [i64]> {
        self.inputs.get(index).copied().flatten()?.ints.as_deref()
    }

    fn scalar(&self, index: usize) -> Option<i64> {
        if let [one] = self.ints(index)? { Some(*one) } else { None }
    }

    /// Element `i` of an input that is as large as the output, or is one number for all of it.
    fn at(&self, index: usize, i: usize) -> Option<i64> {
        let ints = self.ints(index)?;
        if ints.len() == self.count { ints.get(i).copied() } else { self.scalar(index) }
    }

    fn values(&self) -> Option<Vec<i64>> {
        match self.node.op() {
            "Add" => self.pairs(i64::checked_add),
            "Sub" => self.pairs(i64::checked_sub),
            "Mul" => self.pairs(i64::checked_mul),
            "Div" => self.pairs(i64::checked_div),
            "Mod" if self.node.int("fmod").unwrap_or(0) != 0 => self.pairs(i64::checked_rem),
            "Mod" => self.pairs(floored_remainder),
            "Max" if self.inputs.len() == 2 => self.pairs(|a, b| Some(a.max(b))),
            "Min" if self.inputs.len() == 2 => self.pairs(|a, b| Some(a.min(b))),
            "Equal" => self.pairs(|a, b| Some((a == b).into())),
            "Greater" => self.pairs(|a, b| Some((a > b).into())),
            "GreaterOrEqual" => self.pairs(|a, b| Some((a >= b).into())),
            "Less" => self.pairs(|a, b| Some((a < b).into())),
            "LessOrEqual" => self.pairs(|a, b| Some((a <= b).into())),
            "And" => self.pairs(|a, b| Some(a & b)),
            "Or" => self.pairs(|a, b| Some(a | b)),
            "Not" => self.each(|i| Some(1 - self.at(0, i)?)),
            "Neg" => self.each(|i| self.at(0, i)?.checked_neg()),
            "Abs" => self.each(|i| self.at(0, i)?.checked_abs()),
            "Cast" | "Expand" | "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                self.each(|i| self.at(0, i))
            }
            "Where" => {
                self.each(|i| if self.at(0, i)? != 0 { self.at(1, i) } else { self.at(2, i) })
            }
            "ConstantOfShape" => {
                let value = Info::stored(self.node.tensor("value")?).ok()?.ints?;
                Some(vec![*value.first()?; self.count])
            }
            "Range" => {
                let (start, step) = (self.scalar(0)?, self.scalar(2)?);
                self.each(|i| start.checked_add(step.checked_mul(i64::try_from(i).ok()?)?))
            }
            "Size" => Some(vec![i64::try_from(self.inputs.first().copied()??.count()?).ok()?]),
            "ReduceSum" => self.whole(|all| all.iter().try_fold(0, |a: i64, b| a.checked_add(*b))),
            "ReduceProd" => self.whole(|all| all.iter().try_fold(1, |a: i64, b| a.checked_mul(*b))),
            "ReduceMax" => self.whole(|all| all.iter().max().copied()),
            "ReduceMin" => self.whole(|all| all.iter().min().copied()),
            "Slice" => self.slice(),
            _ => None,
        }
    }

    fn each(&self, value: impl Fn(usize) -> Option<i64>) -> Option<Vec<i64>> {
        (0..self.count).map(value).collect()
    }

    fn pairs(&self, value: impl Fn(i64, i64) -> Option<i64>) -> Option<Vec<i64>> {
        self.each(|i| value(self.at(0, i)?, self.at(1, i)?))
    }

    /// A reduction of all elements to one.
    fn whole(&self, value: impl Fn(&[i64]) -> Option<i64>) -> Option<Vec<i64>> {
        (self.count == 1).then(|| value(self.ints(0)?)).flatten().map(|one| vec![one])
    }

    /// A slice of a list.
    fn slice(&self) -> Option<Vec<i64>> {
        let data = self.inputs.first().copied()??;
        let (list, rank) = (self.ints(0)?, data.dims.as_ref()?.len());
        let start = self.scalar(1)?;
        let given = |index| self.inputs.get(index).is_some_and(Option::is_some);
        let step = if given(4) { self.scalar(4)? } else { 1 };
        let n = i64::try_from(list.len()).ok()?;
        let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let last = if step > 0 { n } else { n.saturating_sub(1) };
        let first = wrap(start).clamp(0, last);
        let place = |i: usize| first.checked_add(step.checked_mul(i64::try_from(i).ok()?)?);
        (rank == 1).then(|| self.each(|i| list.get(usize::try_from(place(i)?).ok()?).copied()))?
    }
}

/// The remainder with the divisor's sign, as ONNX's Mod has it without `fmod`.
fn floored_remainder(a: i64, b: i64) -> Option<i64> {
    let rest = a.checked_rem(b)?;
    if rest != 0 && (rest < 0) != (b < 0) { rest.checked_add(b) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;
    use crate::onnx::tensor::int64_proto;

    fn list(values: &[i64]) -> Info {
        Info::stored(&int64_proto("", values)).unwrap()
    }

    fn scalar(value: i64) -> Info {
        Info { dims: Some(vec![]), ..list(&[value]) }
    }

    fn node(op: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        let output = vec!["y".to_owned()];
        NodeProto { op_type: Some(op.into()), attribute, output, ..NodeProto::default() }
    }

    fn ints(op: &str, inputs: &[Info]) -> Option<Vec<i64>> {
        let inputs: Vec<_> = inputs.iter().map(Some).collect();
        super::super::infer(&node(op, vec![]), &inputs).unwrap().remove(0).ints
    }

    #[test]
    fn shape_arithmetic_is_followed() {
        let a = || list(&[7, -7, 6]);
        for (op, b, want) in [
            ("Add", list(&[1, 2, 3]), [8, -5, 9]),
            ("Sub", scalar(1), [6, -8, 5]),
            ("Mul", scalar(-2), [-14, 14, -12]),
            ("Div", scalar(2), [3, -3, 3]),
            ("Mod", scalar(4), [3, 1, 2]),
            ("Max", scalar(6), [7, 6, 6]),
            ("Min", scalar(6), [6, -7, 6]),
            ("Equal", scalar(6), [0, 0, 1]),
            ("Less", scalar(7), [0, 1, 1]),
            ("GreaterOrEqual", scalar(6), [1, 0, 1]),
        ] {
            assert_eq!(ints(op, &[a(), b]), Some(want.to_vec()), "{op}");
        }
        assert_eq!(ints("Neg", &[a()]), Some(vec![-7, 7, -6]));
    }

    #[test]
    fn what_overflows_or_divides_by_zero_is_unknown() {
        assert_eq!(ints("Add", &[list(&[i64::MAX]), scalar(1)]), None);
        assert_eq!(ints("Mul", &[list(&[i64::MIN]), scalar(-1)]), None);
        for op in ["Div", "Mod"] {
            assert_eq!(ints(op, &[list(&[1]), scalar(0)]), None);
            assert_eq!(ints(op, &[list(&[i64::MIN]), scalar(-1)]), None);
        }
    }

    #[test]
    fn a_choice_takes_each_element_from_its_side() {
        let condition = Info { element: ElementType::Bool, ..list(&[1, 0, 1]) };
        let chosen = ints("Where", &[condition, list(&[1, 2, 3]), scalar(-1)]);
        assert_eq!(chosen, Some(vec![1, -1, 3]));
    }

    #[test]
    fn slices_of_a_shape_keep_their_order() {
        let shape = || list(&[10, 11, 12, 13]);
        let cut = |start, end, step| {
            ints("Slice", &[shape(), list(&[start]), list(&[end]), list(&[0]), list(&[step])])
        };
        assert_eq!(cut(1, 3, 1), Some(vec![11, 12]));
        assert_eq!(cut(-2, i64::MAX, 1), Some(vec![12, 13]));
        assert_eq!(cut(-1, i64::MIN, -1), Some(vec![13, 12, 11, 10]));
        assert_eq!(cut(0, 4, 3), Some(vec![10, 13]));
    }

    #[test]
    fn casts_keep_numbers_only_among_integers_and_booleans() {
        let cast = |to: ElementType| {
            let to = AttributeProto::int("to", to.to_onnx().into());
            let out =
                super::super::infer(&node("Cast", vec![to]), &[Some(&list(&[3, 0, 1 << 40]))]);
            out.unwrap().remove(0).ints
        };
        assert_eq!(cast(ElementType::I64), Some(vec![3, 0, 1 << 40]));
        assert_eq!(cast(ElementType::Bool), Some(vec![1, 0, 1]));
        assert_eq!(cast(ElementType::I32), None, "2^40 is no int32");
        assert_eq!(cast(ElementType::F32), None);
    }

    #[test]
    fn more_numbers_than_any_shape_has_are_not_followed() {
        assert_eq!(list(&vec![1; MAX_INTS + 1]).ints, None);
        let half = list(&vec![1; MAX_INTS]);
        assert_eq!(ints("Concat", &[half.clone(), half]), None);
    }
}
