//! A training step as one ONNX graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adapter::Adapted;
use super::proto::TensorProto;
use super::selection::{Fate, ParameterReport};
use super::{
    Builder, Dim, Graph, OnnxError, Optimiser, Tensor, Value, ValueInfo, Verified, grad, simplify,
};

mod form;
mod relu;
mod resident;

pub(crate) use form::{Carried, Form};
pub(crate) use relu::RELU_GRADIENT;
pub(crate) use resident::{INDEX, data_of};

/// One step of an optimiser as a graph that every engine runs.
///
/// Inputs: the loss's own (a batch), `lr` (a scalar), and the state. Outputs: `loss` and
/// `gradient_norm` (scalars), and the new state, which is the next step's input. The trained
/// parameters are the first state tensor, one flat vector: an update then is a dozen nodes whatever
/// the number of layers.
#[derive(Debug, Clone)]
pub struct TrainStep {
    graph: Verified,
    /// The same with operators of our own.
    fused: Graph,
    batch_inputs: Vec<ValueInfo>,
    state: Vec<StateTensor>,
    parameters: Vec<ParameterSlice>,
    adapted: Vec<Adapted>,
    report: Vec<ParameterReport>,
}

/// What goes from one step to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// The graph's input that takes it.
    pub input: String,
    /// The graph's output that gives its next value.
    pub output: String,
    /// Its first value, shared between the copies of a step.
    pub initial: Arc<Tensor>,
}

/// Where a parameter stands in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSlice {
    /// The initializer's name in the policy.
    pub name: String,
    /// Its axes.
    pub dims: Vec<usize>,
    /// Its first element in the flat vector.
    pub start: usize,
}

impl TrainStep {
    /// A step that minimises output `loss` of a graph of fixed shapes over those of its f32
    /// initializers that are named; those the loss does not depend on are left as they are.
    ///
    /// # Errors
    /// When an operator has no gradient, a shape is open, or the loss depends on none of them.
    pub fn new(
        loss: &Graph,
        output: &str,
        parameters: &[String],
        optimiser: impl Into<Optimiser>,
    ) -> Result<Self, OnnxError> {
        let optimiser = optimiser.into();
        let loss = &simplify(loss)?;
        let used = used_parameters(loss, output, parameters)?;
        let (slices, flat) = flatten(loss, &used)?;
        let moments = optimiser.state(&flat);
        refuse_reserved(loss, &moments)?;
        let front = form::Front::new(loss, output, &slices, &moments)?;
        let mut state = vec![("parameters", flat)];
        state.extend(moments);

        let mut b = Builder::with_opset(loss.opset());
        let lr = b.input("lr", &[]);
        let values: Vec<Value> =
            state.iter().map(|(name, t)| b.input(name, &fixed(&t.dims))).collect();
        let (flat, moments) = values.split_first().ok_or_else(nothing_to_train)?;
        let pieces = cut(&mut b, *flat, &slices);
        let given = std::iter::once(lr).chain(moments.iter().copied()).chain(pieces);
        let bind: Vec<(&str, Value)> = front.names.iter().map(String::as_str).zip(given).collect();
        let outputs = b.append(&front.graph, &bind)?;
        let (loss_value, gradients) = outputs.split_first().ok_or_else(nothing_to_train)?;
        let gradients: Vec<Value> = gradients.iter().map(|g| b.reshape(*g, &[-1])).collect();
        let gradient = b.concat(&gradients, 0);
        let update =
            optimiser.update(&mut b, *flat, gradient, lr, moments).ok_or_else(nothing_to_train)?;
        b.output("loss", *loss_value);
        b.output("gradient_norm", update.gradient_norm);
        let new = std::iter::once(update.parameters).chain(update.state);
        let state = state.into_iter().zip(new).map(|((name, initial), value)| {
            let next = format!("next_{name}");
            b.output(&next, value);
            StateTensor { input: name.into(), output: next, initial: Arc::new(initial) }
        });
        let state = state.collect();
        let sizes: Vec<Vec<usize>> = slices.iter().map(|s| s.dims.clone()).collect();
        Ok(Self {
            graph: b.finish()?.try_into()?,
            fused: front.fuse(&optimiser, &sizes)?,
            batch_inputs: loss.inputs()?,
            state,
            adapted: Vec::new(),
            report: slices.iter().map(trained).collect(),
            parameters: slices,
        })
    }

    /// The same step with adapters to merge, and a report over all of the policy's tensors; those it
    /// calls trained that are not are said to be unreached.
    pub(super) fn with_report(
        self,
        mut report: Vec<ParameterReport>,
        adapted: Vec<Adapted>,
    ) -> Self {
        let reached = |name: &str| self.parameters.iter().any(|slice| slice.name == name);
        for line in &mut report {
            let factors = adapted.iter().find(|a| a.name == line.name);
            let found = factors.map_or(line.name.as_str(), |a| a.right.as_str());
            let learns = matches!(line.fate, Fate::Trained | Fate::Adapted { .. });
            if learns && !reached(found) {
                line.fate = Fate::Unreached;
            }
        }
        Self { adapted, report, ..self }
    }

    /// What happens to each of the policy's stored tensors, by name, and why.
    pub fn report(&self) -> &[ParameterReport] {
        &self.report
    }

    /// The whole step.
    pub fn graph(&self) -> &Verified {
        &self.graph
    }

    /// The step as an ONNX file with nodes of domain `regoal`: its update, and the gradients of its `Relu`s;
    /// what each computes stands beside it as a function of plain nodes, which any engine runs that knows ONNX's
    /// model-local functions.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.fused.to_bytes()
    }

    /// The batch's inputs, in the loss graph's order.
    pub fn batch_inputs(&self) -> &[ValueInfo] {
        &self.batch_inputs
    }

    /// What goes from one step to the next; the parameters first.
    pub fn state(&self) -> &[StateTensor] {
        &self.state
    }

    /// Where each trained parameter stands in the first state tensor.
    pub fn parameters(&self) -> &[ParameterSlice] {
        &self.parameters
    }

    /// Cuts the first state tensor into the trained parameters by name, adapters merged into the
    /// weights they go on.
    pub fn unflatten(&self, flat: &[f32]) -> BTreeMap<String, Tensor> {
        let mut parameters =
            self.parameters.iter().map(|s| (s.name.clone(), s.tensor(flat))).collect();
        self.adapted.iter().for_each(|adapted| adapted.merge(&mut parameters));
        parameters
    }
}

fn trained(slice: &ParameterSlice) -> ParameterReport {
    ParameterReport { name: slice.name.clone(), dims: slice.dims.clone(), fate: Fate::Trained }
}

impl ParameterSlice {
    fn tensor(&self, flat: &[f32]) -> Tensor {
        Tensor { dims: self.dims.clone(), data: self.of(flat).to_vec() }
    }

    /// Its part of the flat vector.
    fn of<'a>(&self, flat: &'a [f32]) -> &'a [f32] {
        let end = self.start + self.dims.iter().product::<usize>();
        flat.get(self.start..end).unwrap_or(&[])
    }
}

/// The flat vector's pieces with their own axes.
fn cut(b: &mut Builder, flat: Value, slices: &[ParameterSlice]) -> Vec<Value> {
    let sizes: Vec<i64> = slices.iter().map(|s| s.dims.iter().product::<usize>() as i64).collect();
    let pieces = b.split(flat, 0, &sizes);
    let shape = |s: &ParameterSlice| s.dims.iter().map(|n| *n as i64).collect::<Vec<_>>();
    pieces.iter().zip(slices).map(|(v, s)| b.reshape(*v, &shape(s))).collect()
}

/// The named initializers behind each other.
fn flatten(loss: &Graph, names: &[String]) -> Result<(Vec<ParameterSlice>, Tensor), OnnxError> {
    let initializers = loss.graph.initializer.iter();
    let stored: BTreeMap<&str, &TensorProto> =
        initializers.filter_map(|t| Some((t.name.as_deref()?, t))).collect();
    let chosen: Vec<_> = names.iter().filter_map(|name| stored.get(name.as_str())).collect();
    let mut slices = Vec::new();
    // One allocation: what a vector outgrows stays with the process.
    let bytes = |t: &&&TensorProto| t.raw_data.as_ref().map_or(0, |raw| raw.len());
    let mut data = Vec::with_capacity(chosen.iter().map(bytes).sum::<usize>() / 4);
    for proto in chosen {
        let Tensor { dims, data: elements } = Tensor::from_proto(proto)?;
        let name = proto.name.clone().unwrap_or_default();
        slices.push(ParameterSlice { name, dims, start: data.len() });
        data.extend(elements);
    }
    Ok((slices, Tensor { dims: vec![data.len()], data }))
}

/// Those of `names` that the loss depends on.
fn used_parameters(loss: &Graph, output: &str, names: &[String]) -> Result<Vec<String>, OnnxError> {
    let mut b = Builder::with_opset(loss.opset());
    let outputs = b.append(loss, &[])?;
    let value = pick(loss, output, &outputs)?;
    let find = |name: &String| {
        let missing = || {
            OnnxError::invalid(format!("parameter `{name}`"), "an initializer of the loss", "none")
        };
        b.value(name).ok_or_else(missing)
    };
    let values = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let gradients = grad::gradients(&mut b, value, &values)?;
    let used: Vec<String> =
        names.iter().zip(gradients).filter(|(_, g)| g.is_some()).map(|(n, _)| n.clone()).collect();
    if used.is_empty() { Err(nothing_to_train()) } else { Ok(used) }
}

fn pick(graph: &Graph, output: &str, values: &[Value]) -> Result<Value, OnnxError> {
    let outputs = graph.outputs()?;
    let found = outputs.iter().zip(values).find(|(o, _)| o.name == output).map(|(_, v)| *v);
    found.ok_or_else(|| OnnxError::invalid("loss graph", format!("an output `{output}`"), "none"))
}

/// A loss's inputs keep their names, so they must leave the step's own alone.
fn refuse_reserved(loss: &Graph, state: &[(&str, Tensor)]) -> Result<(), OnnxError> {
    let taken = |name: &str| {
        matches!(name, "lr" | "parameters")
            || name.starts_with(form::PIECE)
            || state.iter().any(|(own, _)| *own == name)
    };
    match loss.inputs()?.into_iter().find(|input| taken(&input.name)) {
        Some(input) => Err(OnnxError::Duplicate { name: input.name }),
        None => Ok(()),
    }
}

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

fn nothing_to_train() -> OnnxError {
    OnnxError::invalid(
        "loss",
        "at least one parameter that it depends on and that is not frozen",
        "none",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message as _;

    use super::*;
    use crate::onnx::AdamW;
    use crate::onnx::proto::ModelProto;
    use crate::onnx::{BehaviourCloning, Selection};

    fn policy() -> Graph {
        let mut b = Builder::new();
        let x = b.input("observation", &[Dim::Batch, Dim::Fixed(3)]);
        let mean = b.parameter("normalizer.mean", Tensor::zeros([3]));
        let gain = b.parameter("gain", Tensor::scalar(2.0));
        let w = b.parameter("w", Tensor::new([3, 2], [0.5; 6]).unwrap());
        let bias = b.parameter("b", Tensor::zeros([2]));
        b.parameter("unused", Tensor::zeros([4]));
        let x = b.sub(x, mean);
        let x = b.mul(x, gain);
        let y = b.gemm(x, w, bias);
        b.output("action", y);
        b.finish().unwrap()
    }

    #[test]
    fn a_step_computes_nothing_that_nobody_uses() {
        let step = TrainStep::behaviour_cloning(&policy(), &BehaviourCloning::default()).unwrap();
        let model = ModelProto::decode(step.graph().to_bytes().as_slice()).unwrap();
        let graph = model.graph.unwrap();
        let outputs = graph.output.iter().filter_map(|o| o.name.as_ref());
        let used: HashSet<&String> =
            graph.node.iter().flat_map(|n| &n.input).chain(outputs).collect();
        for node in &graph.node {
            assert!(node.output.iter().any(|o| used.contains(o)), "{:?}", node.name);
        }
    }

    #[test]
    fn only_used_unfrozen_tensors_are_trained() {
        let step = TrainStep::behaviour_cloning(&policy(), &BehaviourCloning::default()).unwrap();
        let names: Vec<&str> = step.parameters().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["b", "w"]);
        let flat = &step.state()[0].initial;
        assert_eq!(step.unflatten(&flat.data)["w"], policy().parameters().unwrap()["w"]);
    }

    #[test]
    fn the_batch_is_fixed_and_targets_and_weights_join_it() {
        let how = BehaviourCloning { batch: 16, ..BehaviourCloning::default() };
        let step = TrainStep::behaviour_cloning(&policy(), &how).unwrap();
        let inputs = step.batch_inputs().iter();
        let shapes: Vec<_> = inputs.map(|i| (i.name.as_str(), i.dims_at(1))).collect();
        let expected =
            [("observation", vec![16, 3]), ("target_action", vec![16, 2]), ("weight", vec![16])];
        assert_eq!(shapes, expected);
    }

    #[test]
    fn wishes_that_cannot_be_met_are_named() {
        let refusal = |how: BehaviourCloning| {
            TrainStep::behaviour_cloning(&policy(), &how).unwrap_err().to_string()
        };
        let base = BehaviourCloning::default();
        let found = refusal(BehaviourCloning { outputs: vec!["torque".into()], ..base.clone() });
        assert_eq!(found, "policy: expected an output `torque`, found [\"action\"]");
        let selection = Selection { freeze: vec!["*".into()], ..Selection::default() };
        let found = refusal(BehaviourCloning { selection, ..base });
        assert!(found.starts_with("loss: expected at least one parameter"), "{found}");
    }

    #[test]
    fn a_loss_may_not_take_the_names_of_the_steps_own_inputs() {
        let mut b = Builder::new();
        let p = b.parameter("p", Tensor::zeros([2]));
        let x = b.input("mean", &[Dim::Fixed(2)]);
        let y = b.mul(p, x);
        let loss = b.reduce_sum(y, &[], false);
        b.output("loss", loss);
        let loss = b.finish().unwrap();
        let error = TrainStep::new(&loss, "loss", &["p".into()], AdamW::default()).unwrap_err();
        assert_eq!(error, OnnxError::Duplicate { name: "mean".into() });
    }
}
