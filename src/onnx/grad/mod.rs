//! Reverse-mode differentiation over a graph: gradients are appended as plain ONNX nodes
//! (Linnainmaa, 1976; Griewank & Walther, *Evaluating Derivatives*, 2008, chapter 3).
//!
//! Gradients flow along f32 values only (f64 on the way is an error); comparisons and integer arithmetic are constant almost
//! everywhere. The nodes that a gradient emits have gradients themselves, so a differentiated graph
//! can be differentiated again.

mod activation;
mod blocks;
mod conv;
mod elementwise;
mod formula;
mod gather;
mod linear;
mod norm;
mod normalise;
mod pool;
mod recurrent;
mod reduce;
mod select;
mod shape;
mod slice;
mod softmax;
mod window;

use std::collections::{HashMap, HashSet};

use super::builder::Node;
use super::infer::MAX_RANK;
use super::{Builder, Dim, ElementType, OnnxError, Tensor, Value};

/// Appends the gradients of `loss`, a scalar, with respect to each of `wrt`. `None` where the loss
/// does not depend on the value.
///
/// # Errors
/// When an operator on the way has no gradient, or a shape is not known: fix the batch first
/// ([`Graph::with_batch`](super::Graph::with_batch)).
pub fn gradients(
    b: &mut Builder,
    loss: Value,
    wrt: &[Value],
) -> Result<Vec<Option<Value>>, OnnxError> {
    b.check()?;
    if b.dims(loss) != Some(&[]) {
        let found = format!("dims {:?}", b.dims(loss));
        return Err(OnnxError::invalid(format!("loss `{}`", b.label(loss)), "a scalar", found));
    }
    let active = depend_on(b, wrt);
    let mut sums: HashMap<Value, Value> = HashMap::new();
    if active.contains(&loss) {
        let one = b.scalar(1.0);
        sums.insert(loss, one);
    }
    for index in (0..b.nodes.len()).rev() {
        let Some(node) = b.nodes.get(index).cloned() else { continue };
        // What made `wrt` itself has outputs with gradients, and nobody asks for those of its inputs.
        if !node.inputs.iter().flatten().any(|v| active.contains(v)) {
            continue;
        }
        let grads: Vec<_> = node.outputs.iter().map(|v| sums.get(v.as_ref()?).copied()).collect();
        if grads.iter().all(Option::is_none) {
            continue;
        }
        let parts = Backward { b, node: &node, active: &active, grads }.run()?;
        for (input, part) in node.inputs.iter().zip(parts) {
            if let (Some(input), Some(part)) = (input, part) {
                let sum = sums.get(input).copied();
                let sum = sum.map_or(part, |sum| b.add(sum, part));
                sums.insert(*input, sum);
            }
        }
    }
    b.check()?;
    Ok(wrt.iter().map(|v| sums.get(v).copied()).collect())
}

/// The values that `wrt` reaches along floats. The sign, which appears in derivatives of `Abs`, is
/// constant almost everywhere, as a comparison is.
fn depend_on(b: &Builder, wrt: &[Value]) -> HashSet<Value> {
    let mut active: HashSet<Value> = wrt.iter().copied().collect();
    let float = |v: &&Value| {
        let element = b.info(**v).map(|i| i.element);
        matches!(element, Some(ElementType::F32 | ElementType::F64))
    };
    for node in &b.nodes {
        let constant = node.proto.op() == "Sign";
        if !constant && node.inputs.iter().flatten().any(|v| active.contains(v)) {
            active.extend(node.outputs.iter().flatten().filter(float));
        }
    }
    active
}

/// The gradient of each input of a node; `None` where none is needed.
type Parts = Result<Vec<Option<Value>>, OnnxError>;

/// One node on the way back.
struct Backward<'a> {
    b: &'a mut Builder,
    node: &'a Node,
    active: &'a HashSet<Value>,
    grads: Vec<Option<Value>>,
}

impl Backward<'_> {
    fn run(mut self) -> Parts {
        let families = [Self::activation, Self::conv, Self::recurrent, Self::select];
        if let Some(parts) = families.iter().find_map(|family| family(&mut self)) {
            return parts;
        }
        match self.node.proto.op() {
            "Split" => self.split(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Where" => {
                let g = self.grad()?;
                self.arithmetic(g)
            }
            "Gemm" | "MatMul" => {
                let g = self.grad()?;
                self.product(g)
            }
            "Concat" | "Expand" | "Flatten" | "Identity" | "Reshape" | "Slice" | "Squeeze"
            | "Transpose" | "Unsqueeze" => {
                let g = self.grad()?;
                self.rearrange(g)
            }
            "ReduceMean" | "ReduceSum" => {
                let g = self.grad()?;
                self.reduce(g)
            }
            "LayerNormalization" => self.layer_normalization(),
            _ => {
                let g = self.grad()?;
                self.elementwise(g)
            }
        }
    }

    /// The gradient of the only output that may have one.
    fn grad(&self) -> Result<Value, OnnxError> {
        match self.grads.as_slice() {
            [Some(g), rest @ ..] if rest.iter().all(Option::is_none) => Ok(*g),
            _ => Err(self.no_gradient_because("only its first output has one")),
        }
    }

    fn no_gradient(&self) -> OnnxError {
        self.no_gradient_because("there is no rule for it")
    }

    /// An error that names the node and says why no gradient passes it.
    fn no_gradient_because(&self, reason: impl Into<String>) -> OnnxError {
        let node = self.node.outputs.iter().flatten().next().map_or("", |v| self.b.label(*v));
        let (node, op) = (node.into(), self.node.proto.op().into());
        OnnxError::NoGradient { node, op, reason: reason.into() }
    }

    fn input(&self, index: usize) -> Result<Value, OnnxError> {
        let missing = || self.no_gradient_because(format!("it has no input {index}"));
        self.node.inputs.get(index).copied().flatten().ok_or_else(missing)
    }

    /// The elements of input `index`, an int64 constant; `None` when it is left out.
    fn ints(&self, index: usize) -> Result<Option<Vec<i64>>, OnnxError> {
        let unknown = || self.no_gradient_because(format!("its input {index} is no constant"));
        let ints = |v| self.b.info(v).and_then(|i| i.ints.clone()).ok_or_else(unknown);
        self.node.inputs.get(index).copied().flatten().map(ints).transpose()
    }

    /// The gradients of all inputs where only input 0 has one.
    fn only_first(&self, part: Value) -> Parts {
        if (1..self.node.inputs.len()).any(|i| self.needs(i)) {
            return Err(self.no_gradient_because("only its first input has one"));
        }
        Ok(vec![Some(part)])
    }

    fn output(&self) -> Result<Value, OnnxError> {
        self.node.outputs.first().copied().flatten().ok_or_else(|| self.no_gradient())
    }

    /// Whether input `index` needs a gradient.
    fn needs(&self, index: usize) -> bool {
        self.node.inputs.get(index).copied().flatten().is_some_and(|v| self.active.contains(&v))
    }

    /// The sizes of a value's axes, all of them fixed.
    fn sizes(&self, value: Value) -> Result<Vec<i64>, OnnxError> {
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n as i64) } else { None };
        let sizes: Option<Vec<i64>> =
            self.b.dims(value).and_then(|dims| dims.iter().map(fixed).collect());
        sizes.ok_or_else(|| {
            let found = format!("{:?}", self.b.dims(value));
            OnnxError::invalid(
                format!("value `{}`", self.b.label(value)),
                "a shape fixed before differentiation",
                found,
            )
        })
    }

    /// Sums `g` over the axes along which `value` was broadcast.
    fn reduce_to(&mut self, g: Value, value: Value) -> Result<Value, OnnxError> {
        let (from, to) = (self.sizes(g)?, self.sizes(value)?);
        if from == to {
            return Ok(g);
        }
        // A product with a row of ones is the fastest sum over leading axes.
        let inner: Vec<i64> = to.iter().copied().skip_while(|n| *n == 1).collect();
        if !inner.is_empty() && from.ends_with(&inner) {
            let width: i64 = inner.iter().product();
            let rows: i64 = from.iter().product::<i64>() / width;
            let g = if from.len() == 2 { g } else { self.b.reshape(g, &[rows, width]) };
            let ones = vec![1.0; usize::try_from(rows).unwrap_or(0)];
            let ones = self.b.constant(Tensor { dims: vec![1, ones.len()], data: ones });
            let sum = self.b.matmul(ones, g);
            return Ok(if to == [1, width] { sum } else { self.b.reshape(sum, &to) });
        }
        let lead = from.len().saturating_sub(to.len());
        let aligned = std::iter::repeat_n(&1, lead).chain(&to);
        let axes = from
            .iter()
            .zip(aligned)
            .enumerate()
            .filter(|(_, (f, t))| f != t)
            .map(|(i, _)| i as i64);
        let axes: Vec<i64> = axes
            .chain(0..lead as i64)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let sum = self.b.reduce_sum(g, &axes, true);
        Ok(if lead > 0 { self.b.reshape(sum, &to) } else { sum })
    }

    /// Axes counted from 0.
    fn axes(&self, axes: &[i64], rank: usize) -> Vec<i64> {
        debug_assert!(rank <= MAX_RANK);
        axes.iter().map(|a| if *a < 0 { a + rank as i64 } else { *a }).collect()
    }
}
