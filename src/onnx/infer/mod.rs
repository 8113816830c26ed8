//! What each operator makes of its inputs' types and shapes.

mod activation;
mod arrange;
mod conv;
mod einsum;
mod ints;
mod linear;
mod normalise;
mod pool;
mod recurrent;
mod select;
mod window;

pub(crate) use einsum::{Equation, Label};
pub(crate) use recurrent::gates;

use super::proto::NodeProto;
use super::{Dim, ElementType, OnnxError, Operator};
pub(crate) use window::{Reach, window};

/// What is known of a value before anything runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Info {
    pub element: ElementType,
    /// `None` when the shape depends on more than the inputs' shapes.
    pub dims: Option<Vec<Dim>>,
    /// The elements of a small constant of integers, or of booleans as 0 and 1, in row-major order.
    pub ints: Option<Vec<i64>>,
}

/// The largest number of axes of a value.
pub(crate) const MAX_RANK: usize = 8;

/// How many inputs and outputs an operator takes: (fewest inputs, most inputs, most outputs); `None`
/// for one whose shapes are not known here.
pub(crate) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    const MANY: usize = 1024;
    Some(match op {
        "Abs" | "Ceil" | "Cos" | "Elu" | "Erf" | "Exp" | "Floor" | "Gelu" | "HardSigmoid"
        | "Identity" | "LeakyRelu" | "Log" | "LogSoftmax" | "Mish" | "Neg" | "Not"
        | "Reciprocal" | "Relu" | "Sigmoid" | "Sign" | "Sin" | "Softmax" | "Softplus" | "Sqrt"
        | "Tanh" => (1, 1, 1),
        "Cast" | "Flatten" | "Shape" | "Transpose" | "ConstantOfShape" => (1, 1, 1),
        "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
        | "MatMul" | "Mod" | "Mul" | "Or" | "Pow" | "Sub" => (2, 2, 1),
        "Expand" | "Gather" | "Reshape" => (2, 2, 1),
        "Clip" => (1, 3, 1),
        "Concat" | "Max" | "Min" => (1, MANY, 1),
        "Constant" => (0, 0, 1),
        "Gemm" => (2, 3, 1),
        "Where" => (3, 3, 1),
        "LayerNormalization" => (2, 3, 3),
        "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum" => (1, 2, 1),
        "Slice" => (3, 5, 1),
        "Split" => (1, 2, MANY),
        "Squeeze" => (1, 2, 1),
        "Unsqueeze" => (2, 2, 1),
        _ => {
            let families = [activation::arity, conv::arity, recurrent::arity, select::arity];
            return families.iter().find_map(|family| family(op));
        }
    })
}

/// The types and shapes of a node's outputs.
///
/// # Errors
/// When the operator is unknown, or its inputs or attributes cannot be right.
pub(crate) fn infer(node: &NodeProto, inputs: &[Option<&Info>]) -> Result<Vec<Info>, OnnxError> {
    let mut infos = shapes(node, inputs)?;
    ints::fill(node, inputs, &mut infos);
    Ok(infos)
}

fn shapes(node: &NodeProto, inputs: &[Option<&Info>]) -> Result<Vec<Info>, OnnxError> {
    let call = Call::new(node, inputs)?;
    for family in [Call::activation, Call::conv, Call::recurrent, Call::select] {
        if let Some(infos) = family(&call)? {
            return Ok(infos);
        }
    }
    let one = |info: Info| Ok(vec![info]);
    match node.op() {
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
            one(Info { element: ElementType::Bool, ..call.broadcast()? })
        }
        "Add" | "And" | "Div" | "Max" | "Min" | "Mod" | "Mul" | "Or" | "Pow" | "Sub" => {
            call.same_elements()?;
            one(call.broadcast()?)
        }
        "Where" => one(Info { element: call.input(1)?.element, ..call.broadcast()? }),
        "Cast" => {
            let to = i32::try_from(node.int("to").unwrap_or(0)).unwrap_or(0);
            let element = ElementType::from_onnx(to, &call.at())?;
            one(Info { element, ..call.input(0)?.clone() })
        }
        "Softmax" | "LogSoftmax" => {
            call.axis(node.int("axis").unwrap_or(-1), call.rank(0)?)?;
            one(call.like(0)?)
        }
        "Identity" => one(call.input(0)?.clone()),
        "Gemm" => one(call.gemm()?),
        "MatMul" => one(call.matmul()?),
        "LayerNormalization" => call.layer_normalization(),
        "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum" => one(call.reduce()?),
        "Concat" => one(call.concat()?),
        "Constant" => one(call.constant()?),
        "ConstantOfShape" => one(call.constant_of_shape()?),
        "Expand" => one(call.expand()?),
        "Flatten" => one(call.flatten()?),
        "Gather" => one(call.gather()?),
        "Reshape" => one(call.reshape()?),
        "Shape" => one(call.shape()?),
        "Slice" => one(call.slice()?),
        "Split" => call.split(),
        "Squeeze" => one(call.squeeze()?),
        "Transpose" => one(call.transpose()?),
        "Unsqueeze" => one(call.unsqueeze()?),
        _ => one(call.like(0)?),
    }
}

/// A node with what is known of its inputs.
struct Call<'a> {
    node: &'a NodeProto,
    inputs: &'a [Option<&'a Info>],
}

impl<'a> Call<'a> {
    fn new(node: &'a NodeProto, inputs: &'a [Option<&'a Info>]) -> Result<Self, OnnxError> {
        let call = Self { node, inputs };
        let Operator { inputs: [fewest, most], outputs, .. } = Operator::of(node)?;
        if inputs.len() < fewest
            || inputs.len() > most
            || inputs.iter().take(fewest).any(|i| i.is_none())
        {
            return Err(call.wrong(format!("{fewest} to {most} inputs"), inputs.len()));
        }
        if node.output.is_empty() || node.output.len() > outputs {
            return Err(call.wrong(format!("1 to {outputs} outputs"), node.output.len()));
        }
        call.check_axes()?;
        Ok(call)
    }

    /// No axis attribute is outside what any rank allows, known rank or not: an engine given an
    /// absurd axis may never return.
    fn check_axes(&self) -> Result<(), OnnxError> {
        for attribute in &self.node.attribute {
            if matches!(attribute.name.as_deref(), Some("axis" | "axes" | "perm" | "batch_dims")) {
                for axis in attribute.i.iter().chain(&attribute.ints) {
                    self.axis(*axis, Some(MAX_RANK))?;
                }
            }
        }
        Ok(())
    }

    fn at(&self) -> String {
        format!("node `{}` ({})", self.node.label(), self.node.op())
    }

    fn wrong(&self, expected: impl Into<String>, found: impl std::fmt::Display) -> OnnxError {
        OnnxError::invalid(self.at(), expected, found)
    }

    fn input(&self, index: usize) -> Result<&'a Info, OnnxError> {
        let input = self.inputs.get(index).copied().flatten();
        input.ok_or_else(|| self.wrong(format!("an input {index}"), "none"))
    }

    fn has(&self, index: usize) -> bool {
        self.inputs.get(index).is_some_and(Option::is_some)
    }

    fn dims(&self, index: usize) -> Result<Option<&'a [Dim]>, OnnxError> {
        Ok(self.input(index)?.dims.as_deref())
    }

    fn rank(&self, index: usize) -> Result<Option<usize>, OnnxError> {
        Ok(self.dims(index)?.map(<[Dim]>::len))
    }

    /// An output of input `index`'s type and shape.
    fn like(&self, index: usize) -> Result<Info, OnnxError> {
        Ok(Info { ints: None, ..self.input(index)?.clone() })
    }

    /// An output of the first input's type.
    fn of(&self, dims: Option<Vec<Dim>>) -> Result<Info, OnnxError> {
        Ok(Info { element: self.input(0)?.element, dims, ints: None })
    }

    /// An axis counted from 0; negative ones count from the end.
    fn axis(&self, axis: i64, rank: Option<usize>) -> Result<usize, OnnxError> {
        let rank = rank.unwrap_or(MAX_RANK) as i64;
        let axis_from_front = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if (0..rank).contains(&axis_from_front) {
            Ok(axis_from_front as usize)
        } else {
            Err(self.wrong(format!("an axis of -{rank} to {}", rank - 1), axis))
        }
    }

    fn same_elements(&self) -> Result<(), OnnxError> {
        let first = self.input(0)?.element;
        match self.inputs.iter().flatten().find(|i| i.element != first) {
            Some(other) => Err(self
                .wrong(format!("inputs of one type, {first:?}"), format!("{:?}", other.element))),
            None => Ok(()),
        }
    }

    /// The shape all inputs broadcast to, of the first input's type.
    fn broadcast(&self) -> Result<Info, OnnxError> {
        let mut dims: Option<Vec<Dim>> = Some(Vec::new());
        for input in self.inputs.iter().flatten() {
            dims = match (dims, input.dims.as_deref()) {
                (Some(a), Some(b)) => Some(self.broadcast_two(&a, b)?),
                _ => None,
            };
        }
        self.of(dims)
    }

    fn broadcast_two(&self, a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OnnxError> {
        broadcast(a, b)
            .ok_or_else(|| self.wrong("shapes that broadcast", format!("{a:?} and {b:?}")))
    }
}

/// The shape that two shapes broadcast to (ONNX's multidirectional broadcasting).
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], i: usize| {
        (i + dims.len())
            .checked_sub(rank)
            .and_then(|i| dims.get(i).copied())
            .unwrap_or(Dim::Fixed(1))
    };
    let one = |i| match (at(a, i), at(b, i)) {
        (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => Some(d),
        (x, y) if x == y => Some(x),
        _ => None,
    };
    (0..rank).map(one).collect()
}

#[cfg(test)]
mod tests {
    use crate::onnx::{Builder, Dim, Value};

    const B: Dim = Dim::Batch;

    fn dims(formula: impl Fn(&mut Builder, Value) -> Value) -> Option<Vec<Dim>> {
        let mut b = Builder::new();
        let x = b.input("x", &[B, Dim::Fixed(6)]);
        let y = formula(&mut b, x);
        b.check().unwrap();
        b.dims(y).map(<[Dim]>::to_vec)
    }

    #[test]
    fn the_batch_stays_open_through_every_arrangement() {
        let fixed = |n| Dim::Fixed(n);
        assert_eq!(dims(|b, x| b.reshape(x, &[-1, 2, 3])), Some(vec![B, fixed(2), fixed(3)]));
        assert_eq!(dims(|b, x| b.reshape(x, &[0, 6])), Some(vec![B, fixed(6)]));
        assert_eq!(dims(|b, x| b.reshape(x, &[0, -1, 2])), Some(vec![B, fixed(3), fixed(2)]));
        assert_eq!(dims(|b, x| b.transpose(x, &[1, 0])), Some(vec![fixed(6), B]));
        assert_eq!(dims(|b, x| b.slice(x, 1, -4, 100)), Some(vec![B, fixed(4)]));
        assert_eq!(dims(|b, x| b.concat(&[x, x], -1)), Some(vec![B, fixed(12)]));
        assert_eq!(dims(|b, x| b.reduce_mean(x, &[1], false)), Some(vec![B]));
        assert_eq!(dims(|b, x| b.split(x, 1, &[1, 5])[1]), Some(vec![B, fixed(5)]));
    }

    #[test]
    fn a_shape_that_depends_on_the_batch_is_unknown_and_not_wrong() {
        assert_eq!(dims(|b, x| b.reshape(x, &[-1])), None);
        assert_eq!(dims(|b, x| b.slice(x, 0, 0, 3)), None);
        assert_eq!(dims(|b, x| b.concat(&[x, x], 0)), None);
    }
}
