//! From a graph to loops.

use std::collections::HashMap;
use std::ops::Range;

use super::{Arithmetic, Dense, Function, Packed, Step, What};
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{Dim, Graph, Tensor, Verified, int64s};

impl Dense {
    /// The graph as loops over rows `[1, n]`; `None` when it has an input, an operator or a shape of
    /// another kind.
    pub(in crate::engine) fn compile(graph: &Verified) -> Option<Self> {
        let mut compiler = Compiler::of(graph);
        let inputs = graph.inputs().ok()?;
        let input = |info: &crate::onnx::ValueInfo| match info.dims.as_slice() {
            [Dim::Batch | Dim::Fixed(1), Dim::Fixed(n)] => {
                let place = compiler.room(*n);
                compiler.values.insert(info.name.clone(), place.clone());
                Some(place)
            }
            _ => None,
        };
        let inputs = inputs.iter().map(input).collect::<Option<_>>()?;
        for node in graph.nodes().iter().filter(|node| node.op() != "Constant") {
            compiler.node(node)?;
        }
        let first = graph.outputs().ok()?.into_iter().next()?;
        let output = compiler.values.get(&first.name)?.clone();
        Some(Self { memory: compiler.memory, inputs, steps: compiler.steps, output })
    }
}

struct Compiler<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    values: HashMap<String, Range<usize>>,
    memory: Vec<f32>,
    steps: Vec<Step>,
}

impl<'a> Compiler<'a> {
    fn of(graph: &'a Graph) -> Self {
        let stored = graph.graph.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t)));
        let written = graph.nodes().iter().filter(|node| node.op() == "Constant");
        let written =
            written.filter_map(|node| Some((node.output.first()?.as_str(), node.tensor("value")?)));
        let constants = stored.chain(written).collect();
        Self { constants, values: HashMap::new(), memory: Vec::new(), steps: Vec::new() }
    }

    fn room(&mut self, n: usize) -> Range<usize> {
        let start = self.memory.len();
        self.memory.resize(start + n, 0.0);
        start..start + n
    }

    fn constant(&self, name: &str) -> Option<Tensor> {
        Tensor::from_proto(self.constants.get(name)?).ok()
    }

    fn value(&self, node: &NodeProto, input: usize) -> Option<Range<usize>> {
        self.values.get(node.input.get(input)?).cloned()
    }

    /// A single number among the inputs; `without` when the node does not give it.
    fn number(&self, node: &NodeProto, input: usize, without: f32) -> Option<f32> {
        match node.input.get(input).map(String::as_str) {
            None | Some("") => Some(without),
            Some(name) => match self.constant(name)?.data.as_slice() {
                [x] => Some(*x),
                _ => None,
            },
        }
    }

    /// One constant integer among the inputs.
    fn integer(&self, node: &NodeProto, input: usize) -> Option<i64> {
        match int64s(self.constants.get(node.input.get(input)?.as_str())?).ok()?.as_slice() {
            [i] => Some(*i),
            _ => None,
        }
    }

    fn node(&mut self, node: &NodeProto) -> Option<()> {
        let alpha = |default| node.float("alpha").unwrap_or(default);
        let function = match node.op() {
            "Add" => return self.zip(node, Arithmetic::Add),
            "Sub" => return self.zip(node, Arithmetic::Sub),
            "Mul" => return self.zip(node, Arithmetic::Mul),
            "Div" => return self.zip(node, Arithmetic::Div),
            "Gemm" | "MatMul" => return self.product(node),
            "Concat" => return self.concat(node),
            "Slice" => return self.slice(node),
            "Identity" => return self.alias(node, self.value(node, 0)?),
            "Abs" => Function::Abs,
            "Clip" => Function::Clip(
                self.number(node, 1, f32::NEG_INFINITY)?,
                self.number(node, 2, f32::INFINITY)?,
            ),
            "Elu" => Function::Elu(alpha(1.0)),
            "Exp" => Function::Exp,
            "LeakyRelu" => Function::LeakyRelu(alpha(0.01)),
            "Neg" => Function::Neg,
            "Relu" => Function::Relu,
            "Sigmoid" => Function::Sigmoid,
            "Softplus" => Function::Softplus,
            "Sqrt" => Function::Sqrt,
            "Tanh" => Function::Tanh,
            _ => return None,
        };
        let x = self.value(node, 0)?;
        self.step(node, x.len(), What::Map(x, function))
    }

    fn step(&mut self, node: &NodeProto, size: usize, what: What) -> Option<()> {
        let to = self.room(size);
        self.steps.push(Step { to: to.clone(), what });
        self.alias(node, to)
    }

    fn alias(&mut self, node: &NodeProto, value: Range<usize>) -> Option<()> {
        self.values.insert(node.output.first()?.clone(), value);
        Some(())
    }

    fn product(&mut self, node: &NodeProto) -> Option<()> {
        let is = |name: &str, default: f32| node.float(name).unwrap_or(default) == default;
        let whole = is("alpha", 1.0) && is("beta", 1.0) && node.int("transA").unwrap_or(0) == 0;
        let x = self.value(node, 0)?;
        let Tensor { dims, data } = self.constant(node.input.get(1)?)?;
        let (rows, columns, data) = match (dims.as_slice(), node.int("transB").unwrap_or(0)) {
            (&[k, n], 0) => (k, n, data),
            (&[n, k], _) => (k, n, transposed(&data, k)),
            _ => return None,
        };
        let bias = match node.input.get(2).map(String::as_str) {
            None | Some("") => vec![0.0; columns],
            Some(name) => widened(self.constant(name)?, columns)?,
        };
        let fits = whole && rows == x.len() && rows > 0 && columns > 0;
        let packed = fits.then(|| Packed::new(columns, &data, &bias))?;
        self.step(node, columns, What::Product(x, packed))
    }

    fn zip(&mut self, node: &NodeProto, op: Arithmetic) -> Option<()> {
        let width = match (self.value(node, 0), self.value(node, 1)) {
            (Some(a), Some(b)) => (a.len() == b.len()).then_some(a.len())?,
            (Some(one), None) | (None, Some(one)) => one.len(),
            (None, None) => return None,
        };
        let a = self.operand(node, 0, width)?;
        let b = self.operand(node, 1, width)?;
        self.step(node, width, What::Zip(a, b, op))
    }

    /// A value, or a constant repeated to a row of this width.
    fn operand(&mut self, node: &NodeProto, input: usize, width: usize) -> Option<Range<usize>> {
        if let Some(value) = self.value(node, input) {
            return Some(value);
        }
        let row = widened(self.constant(node.input.get(input)?)?, width)?;
        let place = self.room(width);
        self.memory.get_mut(place.clone())?.copy_from_slice(&row);
        Some(place)
    }

    fn concat(&mut self, node: &NodeProto) -> Option<()> {
        let parts = (0..node.input.len()).map(|i| self.value(node, i));
        let parts = parts.collect::<Option<Vec<_>>>()?;
        let along_the_row = matches!(node.int("axis"), Some(1 | -1));
        let size = along_the_row.then(|| parts.iter().map(Range::len).sum())?;
        self.step(node, size, What::Join(parts))
    }

    /// A part of a row is where the row is.
    fn slice(&mut self, node: &NodeProto) -> Option<()> {
        let row = self.value(node, 0)?;
        let n = i64::try_from(row.len()).ok()?;
        let steps = node.input.get(4).is_none_or(String::is_empty) || self.integer(node, 4)? == 1;
        let along_the_row = matches!(self.integer(node, 3)?, 1 | -1);
        let place = |i: i64| usize::try_from(if i < 0 { i + n } else { i }.clamp(0, n)).ok();
        let (start, end) = (place(self.integer(node, 1)?)?, place(self.integer(node, 2)?)?);
        let fits = steps && along_the_row && start < end;
        self.alias(node, fits.then_some(row.start + start..row.start + end)?)
    }
}

/// A matrix `[n, k]` as `[k, n]`.
fn transposed(data: &[f32], k: usize) -> Vec<f32> {
    (0..k).flat_map(|row| data.iter().skip(row).step_by(k.max(1)).copied()).collect()
}

/// A constant as a row of this width; `None` when broadcasting makes no row of it.
fn widened(tensor: Tensor, width: usize) -> Option<Vec<f32>> {
    match (tensor.dims.as_slice(), tensor.data.as_slice()) {
        ([] | [1] | [1, 1], [x]) => Some(vec![*x; width]),
        ([n] | [1, n], _) if *n == width => Some(tensor.data),
        _ => None,
    }
}
