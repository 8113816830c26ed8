//! Behaviour cloning of any policy: which loss on which outputs, and which parameters it moves.

use super::adapter::Adapted;
use super::selection::{Fate, ParameterReport};
use super::{Adapter, BcLoss, Builder, Graph, OnnxError, Optimiser, Selection, TrainStep, Value};

/// How to imitate.
#[derive(Debug, Clone, PartialEq)]
pub struct BehaviourCloning {
    /// Samples in a batch.
    pub batch: usize,
    /// What is minimised.
    pub loss: BcLoss,
    /// The policy's values that the loss compares with the demonstrated actions, in the order that
    /// [`BcLoss`] says: outputs, or anything inside by its name, such as logits before an ArgMax or a
    /// stored vector of widths.
    pub outputs: Vec<String>,
    /// Which parameters are trained.
    pub selection: Selection,
    /// Low-rank adapters, trained in place of everything that `selection` does not ask for by name.
    pub adapter: Option<Adapter>,
    /// The optimiser.
    pub optimiser: Optimiser,
}

impl Default for BehaviourCloning {
    fn default() -> Self {
        Self {
            batch: 256,
            loss: BcLoss::default(),
            outputs: vec!["action".into()],
            selection: Selection::default(),
            adapter: None,
            optimiser: Optimiser::default(),
        }
    }
}

impl BehaviourCloning {
    /// As [`BcLoss::TARGET`].
    pub const TARGET: &'static str = BcLoss::TARGET;
    /// As [`BcLoss::WEIGHT`].
    pub const WEIGHT: &'static str = BcLoss::WEIGHT;

    /// The loss as a graph: the policy's inputs with this batch, `target_action`, `weight` and what
    /// else the loss asks for, to `loss`, a scalar. The policy is taken as it is, without adapters.
    ///
    /// # Errors
    /// When the policy has no such outputs or breaks a rule of [`verify`](super::verify).
    pub fn loss(&self, policy: &Graph) -> Result<Graph, OnnxError> {
        let b = Builder::with_opset(policy.opset());
        self.loss_with(b, policy, &[])
    }

    /// The step, and what it does with each stored tensor.
    pub(super) fn step(&self, policy: &Graph) -> Result<TrainStep, OnnxError> {
        let mut fates = self.selection.fates(policy)?;
        let mut b = Builder::with_opset(policy.opset());
        let adapted = self.adapt(&mut b, policy, &mut fates)?;
        let bind: Vec<(&str, Value)> = adapted.iter().map(|(a, v)| (a.name.as_str(), *v)).collect();
        let loss = self.loss_with(b, policy, &bind)?;
        let trained = fates.iter().filter(|line| line.fate == Fate::Trained);
        let mut names: Vec<String> = trained.map(|line| line.name.clone()).collect();
        names.extend(adapted.iter().flat_map(|(a, _)| [a.left.clone(), a.right.clone()]));
        let step = TrainStep::new(&loss, "loss", &names, self.optimiser)?;
        Ok(step.with_report(fates, adapted.into_iter().map(|(adapted, _)| adapted).collect()))
    }

    /// Adds the adapters that were asked for, on what could be trained.
    fn adapt(
        &self,
        b: &mut Builder,
        policy: &Graph,
        fates: &mut [ParameterReport],
    ) -> Result<Vec<(Adapted, Value)>, OnnxError> {
        let Some(adapter) = &self.adapter else { return Ok(Vec::new()) };
        let mut layers = adapter.layers(policy)?;
        let asked = !self.selection.only.is_empty();
        layers.retain(|name, _| {
            let line = fates.iter().find(|line| line.name == *name);
            line.is_some_and(|line| match line.fate {
                Fate::Trained => !asked,
                Fate::NotAsked => true,
                _ => false,
            })
        });
        for line in fates {
            if layers.contains_key(&line.name) {
                line.fate = Fate::Adapted { rank: adapter.rank };
            } else if line.fate == Fate::Trained && !asked {
                line.fate = Fate::NotAsked;
            }
        }
        adapter.bind(b, policy, &layers)
    }

    fn loss_with(
        &self,
        mut b: Builder,
        policy: &Graph,
        bind: &[(&str, Value)],
    ) -> Result<Graph, OnnxError> {
        let policy = policy.with_batch(self.batch).with_floats()?;
        let values = b.append(&policy, bind)?;
        let outputs = policy.outputs()?;
        let find = |name: &String| {
            let output = outputs.iter().zip(&values).find(|(output, _)| output.name == *name);
            output.map(|(_, value)| *value).or_else(|| b.value(name)).ok_or_else(|| {
                let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
                OnnxError::invalid("policy", format!("an output `{name}`"), format!("{names:?}"))
            })
        };
        let chosen = self.outputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let loss = self.loss.append(&mut b, &chosen, self.batch)?;
        b.output("loss", loss);
        b.finish()
    }
}

impl TrainStep {
    /// A step of behaviour cloning: inputs are the policy's with a fixed batch and those of
    /// [`BehaviourCloning::loss`].
    ///
    /// # Errors
    /// When the policy cannot be differentiated, a pattern matches nothing, or nothing of the policy
    /// can be trained.
    pub fn behaviour_cloning(policy: &Graph, how: &BehaviourCloning) -> Result<Self, OnnxError> {
        how.step(policy)
    }
}
