//! Names, types and shapes of all values of a graph: every name is given once and before it is
//! used, every type and shape follows.

use std::collections::{HashMap, HashSet};

use super::{Limits, at_most};
use crate::onnx::infer::{Info, MAX_RANK, infer};
use crate::onnx::proto::{NodeProto, ValueInfoProto};
use crate::onnx::tensor::element_count;
use crate::onnx::{Dim, ElementType, Graph, OnnxError, ValueInfo};

/// Checks all values of a graph. With a `batch` every shape must follow from it, and what is
/// declared must agree; without one, shapes may depend on more than the inputs' shapes.
pub(super) fn check(graph: &Graph, batch: Option<usize>, limits: &Limits) -> Result<(), OnnxError> {
    let fixed = batch.is_some() || graph.inputs()?.iter().all(is_fixed);
    let mut values = Values { known: HashMap::new(), batch, fixed, limits, total: 0, ints: 0 };
    for tensor in &graph.graph.initializer {
        values.define(tensor.name.as_deref().unwrap_or(""), Info::stored(tensor)?)?;
    }
    values.inputs(graph)?;
    for node in graph.nodes() {
        values.node(node)?;
    }
    for output in graph.outputs()? {
        let found = values.find(&output.name, || "the graph's outputs".into())?;
        agrees(&format!("output `{}`", output.name), &output, found)?;
    }
    values.declared(&graph.graph.value_info)
}

fn is_fixed(input: &ValueInfo) -> bool {
    input.dims.iter().all(|d| matches!(d, Dim::Fixed(_)))
}

struct Values<'a> {
    known: HashMap<&'a str, Info>,
    batch: Option<usize>,
    /// Whether every shape must be known.
    fixed: bool,
    limits: &'a Limits,
    /// Elements of all values so far.
    total: usize,
    /// Integers known so far.
    ints: usize,
}

impl<'a> Values<'a> {
    fn find(&self, name: &str, at: impl FnOnce() -> String) -> Result<&Info, OnnxError> {
        let undefined = || OnnxError::Undefined { at: at(), name: name.into() };
        self.known.get(name).ok_or_else(undefined)
    }

    fn define(&mut self, name: &'a str, info: Info) -> Result<(), OnnxError> {
        let count = check_size(name, &info, self.limits)?;
        self.total = self.total.saturating_add(count);
        at_most("elements of all values", self.total, self.limits.max_total)?;
        // Known integers are copied from value to value.
        self.ints = self.ints.saturating_add(info.ints.as_ref().map_or(0, Vec::len));
        at_most("known integers of all values", self.ints, MAX_INTS)?;
        match self.known.insert(name, info) {
            Some(_) => Err(OnnxError::Duplicate { name: name.into() }),
            None => Ok(()),
        }
    }

    /// Older files list initializers among the inputs too.
    fn inputs(&mut self, graph: &'a Graph) -> Result<(), OnnxError> {
        let mut listed = HashSet::new();
        for proto in &graph.graph.input {
            let (name, input) =
                (proto.name.as_deref().unwrap_or(""), ValueInfo::from_proto(proto)?);
            if !listed.insert(name) {
                return Err(OnnxError::Duplicate { name: name.into() });
            }
            if let Some(info) = self.known.get(name) {
                agrees(&format!("input `{name}`"), &input, info)?;
                continue;
            }
            let size = |d: Dim| self.batch.map_or(d, |batch| Dim::Fixed(d.at(batch)));
            let dims = Some(input.dims.into_iter().map(size).collect());
            self.define(name, Info { element: input.element, dims, ints: None })?;
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<(), OnnxError> {
        let at = || format!("node `{}`", node.label());
        let find = |name: &'a String| match name.as_str() {
            "" => Ok(None),
            name => self.find(name, at).map(Some),
        };
        let inputs = node.input.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let outputs = infer(node, &inputs)?;
        if self.fixed {
            self.check_known(node, &inputs, &outputs)?;
        }
        let mut named = node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty());
        named.try_for_each(|(name, info)| self.define(name, info))
    }

    /// With every input's shape known, every output's must be.
    fn check_known(
        &self,
        node: &NodeProto,
        inputs: &[Option<&Info>],
        outputs: &[Info],
    ) -> Result<(), OnnxError> {
        let at = || format!("node `{}` ({})", node.label(), node.op());
        if outputs.iter().any(|info| info.dims.is_none()) {
            let expected = "a shape that follows from the inputs' shapes";
            return Err(OnnxError::invalid(at(), expected, "one that depends on their elements"));
        }
        // An integer division by zero, or of the lowest number by -1, may end the whole process.
        let divides = matches!(node.op(), "Div" | "Mod")
            && outputs.iter().any(|o| o.element.is_integer() && o.ints.is_none());
        let divisor = inputs.get(1).copied().flatten().and_then(|info| info.ints.as_ref());
        if divides && divisor.is_none_or(|ints| ints.iter().any(|n| *n == 0 || *n == -1)) {
            let found = divisor.map_or("one computed at run time".into(), |n| format!("{n:?}"));
            return Err(OnnxError::invalid(at(), "a constant divisor other than 0 and -1", found));
        }
        Ok(())
    }

    /// What the file notes of inner values must be true: engines believe it.
    fn declared(&self, notes: &[ValueInfoProto]) -> Result<(), OnnxError> {
        for proto in notes {
            let Some(found) = proto.name.as_deref().and_then(|name| self.known.get(name)) else {
                continue;
            };
            let is_whole = |p: &ValueInfoProto| {
                let tensor = p.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
                tensor.is_some_and(|t| t.shape.is_some())
            };
            if is_whole(proto) {
                let note = ValueInfo::from_proto(proto)?;
                agrees(&format!("value `{}`", note.name), &note, found)?;
            }
        }
        Ok(())
    }
}

/// The most integers known of all values together: 64 MiB.
const MAX_INTS: usize = 8 << 20;

/// A value must be what the file declares it to be; open sizes agree with any.
fn agrees(at: &str, declared: &ValueInfo, found: &Info) -> Result<(), OnnxError> {
    if declared.element != found.element {
        let expected = format!("{:?} as declared", declared.element);
        return Err(OnnxError::invalid(at, expected, format!("{:?}", found.element)));
    }
    let Some(dims) = &found.dims else { return Ok(()) };
    let agree = |(a, b): (&Dim, &Dim)| a == b || *a == Dim::Batch || *b == Dim::Batch;
    if dims.len() != declared.dims.len() || !dims.iter().zip(&declared.dims).all(agree) {
        let expected = format!("{:?} as declared", declared.dims);
        return Err(OnnxError::invalid(at, expected, format!("{dims:?}")));
    }
    Ok(())
}

/// Checks a value's name and size; its elements, counted with a batch of 1.
pub(crate) fn check_size(name: &str, info: &Info, limits: &Limits) -> Result<usize, OnnxError> {
    if name.is_empty() {
        return Err(OnnxError::invalid("value", "a name", "an empty one"));
    }
    let Some(dims) = &info.dims else { return Ok(0) };
    let sizes: Vec<usize> = dims.iter().map(|d| d.at(1)).collect();
    // Engines divide by sizes; only lists of axes and sizes may be empty.
    if sizes.contains(&0) && info.element != ElementType::I64 {
        let at = format!("value `{name}`");
        return Err(OnnxError::invalid(at, "sizes of at least 1", format!("{sizes:?}")));
    }
    at_most(&format!("value `{name}`: axes"), sizes.len(), MAX_RANK)?;
    let widest = sizes.iter().copied().max().unwrap_or(0);
    let count = element_count(&sizes).unwrap_or(usize::MAX).max(widest);
    at_most(&format!("value `{name}`: elements"), count, limits.max_elements)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use crate::onnx::proto::{AttributeProto, TensorProto};
    use crate::onnx::{Builder, Dim, ElementType, Graph, Value, Verified};

    /// A policy of two numbers to what `formula` makes of them, which need not have a known shape.
    fn policy(formula: impl Fn(&mut Builder, Value) -> Value) -> Graph {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
        let made = formula(&mut b, x);
        let name = b.label(made).to_owned();
        let y = b.reshape(x, &[-1, 2]);
        b.output("y", y);
        let mut graph = b.finish().unwrap();
        graph.graph.node.last_mut().unwrap().input[0] = name;
        graph
    }

    fn refusal(graph: Graph) -> String {
        Verified::try_from(graph).expect_err("it should be refused").to_string()
    }

    /// `[x's batch, 2 * factor]`, computed as exporters do.
    fn size(b: &mut Builder, x: Value, factor: i64) -> Value {
        let shape = b.op("Shape", &[x], vec![]);
        let (first, second) = (b.int64s(&[0]), b.int64s(&[1]));
        let batch = b.op("Gather", &[shape, first], vec![]);
        let width = b.op("Gather", &[shape, second], vec![]);
        let factor = b.int64s(&[factor]);
        let width = b.op("Mul", &[width, factor], vec![]);
        b.op("Concat", &[batch, width], vec![AttributeProto::int("axis", 0)])
    }

    #[test]
    fn shapes_that_an_export_computes_from_the_batch_are_followed() {
        let graph = policy(|b, x| {
            let size = size(b, x, 1);
            let zeros = b.op("ConstantOfShape", &[size], vec![]);
            let one = b.scalar(1.0);
            let ones = b.op("Expand", &[one, size], vec![]);
            let sum = b.add(zeros, ones);
            let sum = b.add(sum, x);
            b.op("Reshape", &[sum, size], vec![])
        });
        Verified::try_from(graph).unwrap();
    }

    #[test]
    fn computed_sizes_cannot_ask_for_much_memory() {
        let graph = policy(|b, x| {
            let size = size(b, x, 1 << 40);
            b.op("ConstantOfShape", &[size], vec![])
        });
        let found = refusal(graph);
        assert!(found.contains("elements: expected at most 134217728, found 21990"), "{found}");
        let graph = policy(|b, x| {
            let mut last = x;
            for _ in 0..30 {
                let size = b.int64s(&[100 << 20]);
                last = b.op("ConstantOfShape", &[size], vec![]);
            }
            last
        });
        assert!(refusal(graph).starts_with("elements of all values: expected at most"));
    }

    #[test]
    fn a_shape_that_depends_on_elements_is_refused_with_its_node() {
        let graph = policy(|b, x| {
            let to = AttributeProto::int("to", ElementType::I64.to_onnx().into());
            let row = b.slice(x, 0, 0, 1);
            let row = b.reshape(row, &[2]);
            let size = b.op("Cast", &[row], vec![to]);
            b.op("ConstantOfShape", &[size], vec![])
        });
        let found = refusal(graph);
        assert!(found.contains("(ConstantOfShape): expected a shape that follows"), "{found}");
    }

    #[test]
    fn integers_are_divided_only_by_constants_other_than_zero() {
        let divided = |by: i64| {
            policy(|b, x| {
                let to = AttributeProto::int("to", ElementType::I64.to_onnx().into());
                let whole = b.op("Cast", &[x], vec![to]);
                let by = b.int64s(&[by]);
                let whole = b.op("Div", &[whole, by], vec![]);
                b.to_f32(whole)
            })
        };
        Verified::try_from(divided(3)).unwrap();
        assert!(refusal(divided(0)).contains("(Div): expected a constant divisor other than 0"));
    }

    #[test]
    fn what_a_file_notes_of_its_inner_values_must_be_true() {
        let mut graph = policy(|b, x| b.tanh(x));
        let inner = graph.graph.node[0].output[0].clone();
        let mut note = graph.graph.input[0].clone();
        note.name = Some(inner);
        graph.graph.value_info.push(note.clone());
        Verified::try_from(graph.clone()).unwrap();
        let tensor = note.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        tensor.shape.as_mut().unwrap().dim[1].dim_value = Some(1 << 40);
        graph.graph.value_info[0] = note;
        assert!(refusal(graph).contains("Fixed(1099511627776)] as declared, found [Batch"));
    }

    #[test]
    fn an_initializer_listed_as_an_input_must_be_what_the_list_says() {
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
        let w = b.parameter("w", crate::onnx::Tensor::zeros([2]));
        let y = b.add(x, w);
        b.output("y", y);
        let mut graph = b.finish().unwrap();
        let mut listed = graph.graph.input[0].clone();
        listed.name = Some("w".into());
        graph.graph.input.push(listed);
        let found = refusal(graph.clone());
        assert!(found.starts_with("input `w`: expected [Batch, Fixed(2)] as declared"), "{found}");
        let initializer: &mut TensorProto = &mut graph.graph.initializer[0];
        initializer.dims = vec![1, 2];
        Verified::try_from(graph).unwrap();
    }
}
