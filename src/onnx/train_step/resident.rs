//! Batches that are drawn from a data set inside the engine.

use super::TrainStep;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::{Dim, ElementType, Graph, OnnxError, ValueInfo};

/// The input with the rows of a batch, `[B]`, int64.
pub(crate) const INDEX: &str = "index";

/// What the step calls the whole data set of a batch input.
pub(crate) fn data_of(name: &str) -> String {
    format!("data.{name}")
}

impl TrainStep {
    /// The same step over a data set of `rows` samples: in place of each batch input `[B, ...]`
    /// stands an input `data.NAME` `[rows, ...]`, whose rows `index` `[B]` are the batch.
    ///
    /// # Errors
    /// When a batch input has no axes, or the inputs differ in their number of samples.
    pub(crate) fn over_rows(&self, rows: usize) -> Result<Self, OnnxError> {
        let mut step = self.clone();
        let mut plain = step.graph.into_graph();
        let batch = samples(&self.batch_inputs)?;
        for graph in [&mut plain, &mut step.fused] {
            draw(graph, &self.batch_inputs, batch, rows);
        }
        Ok(Self { graph: plain.try_into()?, ..step })
    }

    /// Samples in a batch.
    ///
    /// # Errors
    /// When a batch input has no axes, or the inputs differ in their number of samples.
    pub(crate) fn batch(&self) -> Result<usize, OnnxError> {
        samples(&self.batch_inputs)
    }
}

fn samples(inputs: &[ValueInfo]) -> Result<usize, OnnxError> {
    let mut sizes = inputs.iter().map(|info| (info, info.dims_at(1).first().copied()));
    let wrong = |info: &ValueInfo, expected: String| {
        OnnxError::invalid(format!("input `{}`", info.name), expected, format!("{:?}", info.dims))
    };
    let Some((first, size)) = sizes.next() else {
        return Err(OnnxError::invalid("training step", "a batch input", "none"));
    };
    let batch = size.ok_or_else(|| wrong(first, "a first axis of samples".into()))?;
    match sizes.find(|(_, size)| *size != Some(batch)) {
        Some((other, _)) => Err(wrong(other, format!("{batch} samples"))),
        None => Ok(batch),
    }
}

fn draw(graph: &mut Graph, inputs: &[ValueInfo], batch: usize, rows: usize) {
    let declared = &mut graph.graph.input;
    declared.retain(|value| inputs.iter().all(|info| value.name.as_deref() != Some(&info.name)));
    let index =
        ValueInfo { name: INDEX.into(), element: ElementType::I64, dims: vec![Dim::Fixed(batch)] };
    declared.push(index.to_proto());
    for info in inputs {
        let rest = info.dims.iter().skip(1).copied();
        let dims = std::iter::once(Dim::Fixed(rows)).chain(rest).collect();
        let data = ValueInfo { name: data_of(&info.name), element: info.element, dims };
        declared.push(data.to_proto());
    }
    let gather = |info: &ValueInfo| NodeProto {
        input: vec![data_of(&info.name), INDEX.into()],
        output: vec![info.name.clone()],
        op_type: Some("Gather".into()),
        attribute: vec![AttributeProto::int("axis", 0)],
        ..NodeProto::default()
    };
    graph.graph.node.splice(0..0, inputs.iter().map(gather));
}
