//! The two forms of a training step: plain nodes, and with operators of our own.

use std::ops::Range;

use super::{ParameterSlice, StateTensor, TrainStep, fixed, pick, relu};
use crate::onnx::optimiser::{AVERAGE, DOMAIN};
use crate::onnx::proto::{NodeProto, OperatorSetIdProto};
use crate::onnx::{
    Builder, Dim, ElementType, Graph, OnnxError, Optimiser, Tensor, Value, ValueInfo, grad,
};

/// Loss and gradients as a graph whose parameters are inputs, each a piece of its own. The step's
/// other inputs are declared too, so that no name of the loss collides with them.
pub(super) struct Front {
    pub graph: Graph,
    /// Inputs: the rate, the optimiser's state, the parameters.
    pub names: Vec<String>,
}

/// What the fused form calls the parameters.
pub(super) const PIECE: &str = "parameter/";

impl Front {
    pub fn new(
        loss: &Graph,
        output: &str,
        slices: &[ParameterSlice],
        state: &[(&str, Tensor)],
    ) -> Result<Self, OnnxError> {
        let mut b = Builder::with_opset(loss.opset());
        let mut names = vec!["lr".to_owned()];
        b.input("lr", &[]);
        for (name, tensor) in state {
            b.input(name, &fixed(&tensor.dims));
            names.push((*name).to_owned());
        }
        let pieces = slices.iter().enumerate().map(|(i, slice)| {
            names.push(format!("{PIECE}{i}"));
            b.input(&format!("{PIECE}{i}"), &fixed(&slice.dims))
        });
        let pieces: Vec<Value> = pieces.collect();
        let bind: Vec<(&str, Value)> =
            slices.iter().map(|s| s.name.as_str()).zip(pieces.iter().copied()).collect();
        let outputs = b.append(loss, &bind)?;
        let value = pick(loss, output, &outputs)?;
        let gradients = grad::gradients(&mut b, value, &pieces)?;
        b.output("loss", value);
        for (i, gradient) in gradients.into_iter().flatten().enumerate() {
            b.output(&format!("gradient/{i}"), gradient);
        }
        Ok(Self { graph: b.finish()?, names })
    }

    /// The whole step with the update, and each gradient of a `Relu`, as one node of domain `regoal`, and
    /// the functions that these stand for.
    pub fn fuse(self, optimiser: &Optimiser, pieces: &[Vec<usize>]) -> Result<Graph, OnnxError> {
        let Self { mut graph, names } = self;
        relu::join(&mut graph)?;
        let taken = |name: &str| {
            let mut values = graph.graph.node.iter().flat_map(|node: &NodeProto| &node.output);
            values.any(|value| value == name)
        };
        let given = graph.graph.input.iter().filter_map(|input| {
            let name = input.name.as_deref()?;
            let place = names.iter().position(|n| n == name)?;
            (place > 0).then(|| (next_of(name), input.clone()))
        });
        let next: Vec<_> = given.collect();
        let norm = std::iter::once("gradient_norm".to_owned());
        let results: Vec<String> = norm.chain(next.iter().map(|(name, _)| name.clone())).collect();
        if let Some(name) = results.iter().find(|name| taken(name)) {
            return Err(OnnxError::Duplicate { name: name.clone() });
        }
        let gradients = graph.graph.output.iter().skip(1).filter_map(|g| g.name.clone());
        let inputs = names.into_iter().chain(gradients).collect();
        let scalar = ValueInfo {
            name: "gradient_norm".into(),
            element: ElementType::F32,
            dims: Vec::<Dim>::new(),
        };
        graph.graph.output.truncate(1);
        graph.graph.output.push(scalar.to_proto());
        let renamed = next.into_iter().map(|(name, mut info)| {
            info.name = Some(name);
            info
        });
        graph.graph.output.extend(renamed);
        graph.graph.node.push(optimiser.node(inputs, results));
        graph.model.functions.push(optimiser.function(graph.opset(), pieces)?);
        let ours = OperatorSetIdProto { domain: Some(DOMAIN.into()), version: Some(1) };
        graph.model.opset_import.push(ours);
        Ok(graph)
    }
}

fn next_of(name: &str) -> String {
    format!("next_{name}")
}

/// A training step as an engine runs it. Only [`TrainStep`] makes one: its graph is verified, or
/// joined from verified parts.
pub(crate) struct Form<'a> {
    graph: &'a Graph,
    state: Vec<Carried<'a>>,
    parameters: Range<usize>,
}

/// What goes from one step to the next, its first value where the [`TrainStep`] has it.
pub(crate) struct Carried<'a> {
    pub input: String,
    pub output: String,
    pub dims: &'a [usize],
    pub initial: &'a [f32],
}

impl<'a> Carried<'a> {
    fn of(state: &'a StateTensor) -> Self {
        let StateTensor { input, output, initial } = state;
        let (input, output) = (input.clone(), output.clone());
        Self { input, output, dims: &initial.dims, initial: &initial.data }
    }
}

impl<'a> Form<'a> {
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// What goes from one step to the next.
    pub fn state(&self) -> &[Carried<'a>] {
        &self.state
    }

    /// Where the parameters stand among the state: one flat vector, or one tensor each; joined
    /// they are the flat vector.
    pub fn parameters(&self) -> Range<usize> {
        self.parameters.clone()
    }

    /// Where the averaged parameters stand among the state, one flat vector.
    pub fn average(&self) -> Option<usize> {
        self.state.iter().position(|s| s.input == AVERAGE)
    }
}

impl TrainStep {
    /// Plain nodes over one flat vector: for every engine.
    pub(crate) fn plain(&self) -> Form<'_> {
        let state = self.state.iter().map(Carried::of).collect();
        Form { graph: &self.graph, state, parameters: 0..1 }
    }

    /// With operators of our own, over parameters in pieces: for engines that have them.
    pub(crate) fn fused(&self) -> Form<'_> {
        let mut state: Vec<Carried<'_>> = self.state.iter().skip(1).map(Carried::of).collect();
        let start = state.len();
        let flat = self.state.first().map_or(&[][..], |flat| flat.initial.data.as_slice());
        state.extend(self.parameters.iter().enumerate().map(|(i, slice)| Carried {
            input: format!("{PIECE}{i}"),
            output: next_of(&format!("{PIECE}{i}")),
            dims: &slice.dims,
            initial: slice.of(flat),
        }));
        let parameters = start..state.len();
        Form { graph: &self.fused, state, parameters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{AdamW, Verified};

    #[test]
    fn only_a_training_step_may_contain_the_update_as_one_node() {
        let mut b = Builder::new();
        let p = b.parameter("p", Tensor::zeros([2]));
        let x = b.input("x", &[Dim::Fixed(2)]);
        let y = b.mul(p, x);
        let loss = b.reduce_sum(y, &[], false);
        b.output("loss", loss);
        let loss = b.finish().unwrap();
        let step = TrainStep::new(&loss, "loss", &["p".into()], AdamW::default()).unwrap();
        let refusal = |graph: Graph| Verified::try_from(graph).unwrap_err().to_string();
        let file = Graph::from_bytes(&step.to_bytes()).unwrap();
        assert!(refusal(file.clone()).contains("no functions"));
        let mut bare = file;
        bare.model.functions.clear();
        assert!(refusal(bare).contains("operator `regoal::AdamW` is not supported"));
    }
}
