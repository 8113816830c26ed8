//! A training step as one ONNX graph.

use std::collections::BTreeMap;

use super::{
    AdamW, Builder, Dim, Graph, OnnxError, Optimiser, Tensor, Value, ValueInfo, Verified, grad,
};

mod form;
mod resident;

pub(crate) use form::Form;
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
    /// The same with the update as one node.
    fused: Graph,
    batch_inputs: Vec<ValueInfo>,
    state: Vec<StateTensor>,
    parameters: Vec<ParameterSlice>,
}

/// What goes from one step to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// The graph's input that takes it.
    pub input: String,
    /// The graph's output that gives its next value.
    pub output: String,
    /// Its first value.
    pub initial: Tensor,
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

/// How to imitate.
#[derive(Debug, Clone, PartialEq)]
pub struct BehaviourCloning {
    /// Samples in a batch.
    pub batch: usize,
    /// Initializers whose name starts with one of these are not trained; scalars never are.
    pub frozen: Vec<String>,
    /// The optimiser.
    pub adam: AdamW,
    /// The policy's output that is compared with the demonstrated actions.
    pub action: String,
}

impl Default for BehaviourCloning {
    fn default() -> Self {
        Self {
            batch: 256,
            frozen: vec!["normalizer.".into()],
            adam: AdamW::default(),
            action: "action".into(),
        }
    }
}

impl BehaviourCloning {
    /// The step's input for the demonstrated actions, `[B, a]`.
    pub const TARGET: &'static str = "target_action";
    /// The step's input for the samples' weights, `[B]`.
    pub const WEIGHT: &'static str = "weight";

    /// The loss as a graph: the policy's inputs with this batch, `target_action` (batch, actions) and
    /// `weight` (batch) to `loss`, the weighted mean of the samples' mean squared errors,
    /// `sum_i w_i mean_j (a_ij - target_ij)^2 / sum_i w_i`.
    ///
    /// # Errors
    /// When the policy has no such output or breaks a rule of [`verify`](super::verify).
    pub fn loss(&self, policy: &Graph) -> Result<Graph, OnnxError> {
        let policy = policy.with_batch(self.batch);
        let mut b = Builder::with_opset(policy.opset());
        let values = b.append(&policy, &[])?;
        let outputs = policy.outputs()?;
        let found = outputs.iter().zip(values).find(|(output, _)| output.name == self.action);
        let (output, action) = found.ok_or_else(|| {
            let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
            OnnxError::invalid(
                "policy",
                format!("an output `{}`", self.action),
                format!("{names:?}"),
            )
        })?;
        let target = b.input(Self::TARGET, &output.dims);
        let weight = b.input(Self::WEIGHT, &[Dim::Fixed(self.batch)]);
        let loss = weighted_mse(&mut b, action, target, weight);
        b.output("loss", loss);
        b.finish()
    }

    /// The policy's initializers that may be trained: f32, not frozen, and not scalars, which
    /// exporters use for limits and small constants.
    fn trainable(&self, policy: &Graph) -> Result<Vec<String>, OnnxError> {
        let frozen =
            |name: &str| self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let parameters = policy.parameters()?.into_iter();
        let trained = parameters.filter(|(name, tensor)| !frozen(name) && !tensor.dims.is_empty());
        Ok(trained.map(|(name, _)| name).collect())
    }
}

/// `sum_i w_i mean_j (a_ij - b_ij)^2 / sum_i w_i` of two matrices and a vector.
fn weighted_mse(b: &mut Builder, action: Value, target: Value, weight: Value) -> Value {
    let error = b.sub(action, target);
    let square = b.mul(error, error);
    let each = b.reduce_mean(square, &[1], false);
    let each = b.mul(each, weight);
    let sum = b.reduce_sum(each, &[], false);
    let weights = b.reduce_sum(weight, &[], false);
    b.div(sum, weights)
}

impl TrainStep {
    /// A step of behaviour cloning: inputs are the policy's with a fixed batch, `target_action`
    /// (batch, actions) and `weight` (batch).
    ///
    /// # Errors
    /// When the policy cannot be differentiated or nothing of it can be trained.
    pub fn behaviour_cloning(policy: &Graph, how: &BehaviourCloning) -> Result<Self, OnnxError> {
        let loss = how.loss(policy)?;
        Self::new(&loss, "loss", &how.trainable(policy)?, how.adam)
    }

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
        let used = used_parameters(loss, output, parameters)?;
        let stored = loss.parameters()?;
        let tensors = used.iter().filter_map(|name| Some((name.clone(), stored.get(name)?)));
        let (slices, flat) = flatten(tensors);
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
            StateTensor { input: name.into(), output: next, initial }
        });
        let state = state.collect();
        let sizes: Vec<Vec<usize>> = slices.iter().map(|s| s.dims.clone()).collect();
        Ok(Self {
            graph: b.finish()?.try_into()?,
            fused: front.fuse(&optimiser, &sizes)?,
            batch_inputs: loss.inputs()?,
            state,
            parameters: slices,
        })
    }

    /// The whole step.
    pub fn graph(&self) -> &Verified {
        &self.graph
    }

    /// The step as an ONNX file whose update is one node of domain `regoal`; what that node computes
    /// stands beside it as a function of plain nodes, which any engine runs that knows ONNX's
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

    /// Cuts the first state tensor into the trained parameters by name.
    pub fn unflatten(&self, flat: &[f32]) -> BTreeMap<String, Tensor> {
        self.parameters.iter().map(|s| (s.name.clone(), s.tensor(flat))).collect()
    }
}

impl ParameterSlice {
    fn tensor(&self, flat: &[f32]) -> Tensor {
        let end = self.start + self.dims.iter().product::<usize>();
        let data = flat.get(self.start..end).unwrap_or(&[]).to_vec();
        Tensor { dims: self.dims.clone(), data }
    }
}

/// The flat vector's pieces with their own axes.
fn cut(b: &mut Builder, flat: Value, slices: &[ParameterSlice]) -> Vec<Value> {
    let sizes: Vec<i64> = slices.iter().map(|s| s.dims.iter().product::<usize>() as i64).collect();
    let pieces = b.split(flat, 0, &sizes);
    let shape = |s: &ParameterSlice| s.dims.iter().map(|n| *n as i64).collect::<Vec<_>>();
    pieces.iter().zip(slices).map(|(v, s)| b.reshape(*v, &shape(s))).collect()
}

fn flatten<'a>(
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
) -> (Vec<ParameterSlice>, Tensor) {
    let (mut slices, mut data) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        slices.push(ParameterSlice { name, dims: tensor.dims.clone(), start: data.len() });
        data.extend_from_slice(&tensor.data);
    }
    (slices, Tensor { dims: vec![data.len()], data })
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
    use crate::onnx::proto::ModelProto;

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
        let found = refusal(BehaviourCloning { action: "torque".into(), ..base.clone() });
        assert_eq!(found, "policy: expected an output `torque`, found [\"action\"]");
        let found = refusal(BehaviourCloning { frozen: vec![String::new()], ..base });
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
