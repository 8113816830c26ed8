//! The elements of small integer constants, followed through the arithmetic that exporters do on
//! shapes: with a fixed batch, sizes that a file computes become known.

use super::Info;
use crate::onnx::known::{self, Known};
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

    /// The elements with their shape.
    fn known(&self) -> Option<Known> {
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
        let dims = self.dims.as_ref()?.iter().map(fixed).collect::<Option<_>>()?;
        let data = self.ints.as_ref()?.iter().map(|n| *n as f64).collect();
        Some(Known { element: self.element, dims, data })
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
    let low = |n: &i64| out.element != ElementType::I32 || i32::try_from(*n).is_ok();
    let known = out.ints.take().or_else(|| evaluate(node, inputs));
    let known = known.filter(|ints| ints.len() == count && ints.iter().all(low));
    out.ints = match (known, out.element) {
        (Some(ints), ElementType::Bool) => Some(ints.iter().map(|n| i64::from(*n != 0)).collect()),
        (known, _) => known,
    };
}

/// The elements of the only output, where all inputs' are known.
fn evaluate(node: &NodeProto, inputs: &[Option<&Info>]) -> Option<Vec<i64>> {
    if node.op() == "Size" {
        return Some(vec![i64::try_from(inputs.first().copied()??.count()?).ok()?]);
    }
    let known: Vec<Option<Known>> = inputs
        .iter()
        .map(|info| info.map(|info| info.known().ok_or(())).transpose())
        .collect::<Result<_, _>>()
        .ok()?;
    let given: Vec<Option<&Known>> = known.iter().map(Option::as_ref).collect();
    Some(known::evaluate(node, &given)?.ints())
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
