//! Which tensor of a graph carries what.

use serde::{Deserialize, Serialize};

use super::{MAX_TENSORS, PolicyError, PolicySpec, tensor};
use crate::onnx::{ElementType, Graph, ValueInfo};

/// The names of a policy's tensors; exporters choose their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tensors {
    /// Input `[N, o]`: see [`PolicySpec::observation`].
    pub observation: String,
    /// Input `[N, g]`: the goal achieved at the observation; none when the policy takes no such
    /// input.
    pub achieved_goal: Option<String>,
    /// Input `[N, g]`: the goal wished for; none when the policy takes no such input.
    pub desired_goal: Option<String>,
    /// Output `[N, a]`, or `[N, k, a]` of a policy that answers in chunks.
    pub action: String,
}

impl Default for Tensors {
    fn default() -> Self {
        Self {
            observation: tensor::OBSERVATION.into(),
            achieved_goal: Some(tensor::ACHIEVED_GOAL.into()),
            desired_goal: Some(tensor::DESIRED_GOAL.into()),
            action: tensor::ACTION.into(),
        }
    }
}

/// A tensor that goes from one tick to the next: zero at the begin of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateTensor {
    /// The input that takes it.
    pub input: String,
    /// The output that gives its next value.
    pub output: String,
    /// Its dims with a batch of 1.
    pub dims: Vec<usize>,
}

impl StateTensor {
    /// Numbers in it.
    pub fn size(&self) -> usize {
        self.dims.iter().product()
    }
}

/// What an input of the graph is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Observation,
    AchievedGoal,
    DesiredGoal,
    State(usize),
}

/// Where an output of the graph goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    Action,
    State(usize),
    /// Exporters leave values and log-probabilities beside the action.
    Nowhere,
}

/// A graph's inputs and outputs, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) inputs: Vec<Source>,
    pub(super) outputs: Vec<Sink>,
}

/// A tensor that the description asks for: its name, its numbers in a row, what it is for.
type Wanted<'a, T> = (&'a str, usize, T);

impl Binding {
    /// Finds the description's tensors in the graph.
    ///
    /// # Errors
    /// One is missing or has another size, or the graph has an input that nothing is known for.
    pub(super) fn of(spec: &PolicySpec, graph: &Graph) -> Result<Self, PolicyError> {
        let tensors = &spec.tensors;
        let goal = spec.goal_size();
        let goals = [
            (&tensors.achieved_goal, Source::AchievedGoal),
            (&tensors.desired_goal, Source::DesiredGoal),
        ];
        let named =
            goals.iter().filter_map(|(name, source)| Some((name.as_deref()?, goal, *source)));
        let state = |of: fn(&StateTensor) -> &String| {
            spec.state.iter().enumerate().map(move |(i, s)| (of(s).as_str(), s.size(), i))
        };
        let inputs: Vec<Wanted<'_, Source>> =
            [(tensors.observation.as_str(), spec.observation_size(), Source::Observation)]
                .into_iter()
                .chain(named.filter(|_| goal > 0))
                .chain(state(|s| &s.input).map(|(name, size, i)| (name, size, Source::State(i))))
                .collect();
        let width = spec.chunk().horizon * spec.joints.len();
        let outputs: Vec<Wanted<'_, Sink>> = [(tensors.action.as_str(), width, Sink::Action)]
            .into_iter()
            .chain(state(|s| &s.output).map(|(name, size, i)| (name, size, Sink::State(i))))
            .collect();
        let binding = Self {
            inputs: matched("inputs", &inputs, &graph.inputs()?, None)?,
            outputs: matched("outputs", &outputs, &graph.outputs()?, Some(Sink::Nowhere))?,
        };
        let most = binding.inputs.len().max(binding.outputs.len());
        if most > MAX_TENSORS {
            let expected = format!("at most {MAX_TENSORS} inputs and as many outputs");
            return Err(PolicyError::BadTensors { expected, found: most.to_string() });
        }
        Ok(binding)
    }
}

/// What each of the graph's tensors is for; `rest` is for those that are not in the description.
fn matched<T: Copy + PartialEq>(
    what: &str,
    wanted: &[Wanted<'_, T>],
    found: &[ValueInfo],
    rest: Option<T>,
) -> Result<Vec<T>, PolicyError> {
    let fits = |info: &ValueInfo, (name, size, _): &Wanted<'_, T>| {
        info.name == *name && info.element == ElementType::F32 && row_of(info) == *size
    };
    let uses: Option<Vec<T>> = found
        .iter()
        .map(|info| wanted.iter().find(|w| fits(info, w)).map(|w| w.2).or(rest))
        .collect();
    let all = |uses: &Vec<T>| wanted.iter().all(|(.., wanted)| uses.contains(wanted));
    uses.filter(all).ok_or_else(|| {
        let wish = |(name, size, _): &Wanted<'_, T>| format!("`{name}` of {size}");
        let fact = |info: &ValueInfo| format!("`{}` of {}", info.name, row_of(info));
        PolicyError::BadTensors {
            expected: format!("{what} {}", wanted.iter().map(wish).collect::<Vec<_>>().join(", ")),
            found: found.iter().map(fact).collect::<Vec<_>>().join(", "),
        }
    })
}

/// The numbers in a tensor with a batch of 1.
pub(crate) fn row_of(info: &ValueInfo) -> usize {
    info.dims_at(1).iter().product()
}
