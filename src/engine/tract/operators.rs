//! Our operators in tract: an optimiser's update, and the gradient of `Relu`.

use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use crate::engine::relu::relu_gradient;
use crate::engine::update::update;
use crate::onnx::{Optimiser, RELU_GRADIENT};

/// tract with our operators. Only training steps may contain them: verification refuses them in
/// files.
pub(super) fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for operator in Optimiser::OPERATORS {
        onnx.op_register.insert(operator, parse);
    }
    onnx.op_register.insert(RELU_GRADIENT, |_, node| {
        let summed = node.output.len() == 2;
        Ok((expand(ReluGradient { summed }), vec![]))
    });
    onnx
}

fn parse(
    _: &tract_onnx::model::ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attribute = |name: &str| node.get_attr_opt::<f32>(name).ok().flatten();
    let optimiser = Optimiser::from_node(&node.op_type, attribute);
    let optimiser = optimiser.with_context(|| format!("{} lacks an attribute", node.op_type))?;
    let inputs = node.input.len();
    let states = optimiser.states();
    let pieces = inputs.checked_sub(1 + states).context("an input is missing")? / 2;
    ensure!(inputs == 1 + states + 2 * pieces, "a gradient is missing");
    Ok((expand(Update { optimiser, outputs: 1 + states + pieces }), vec![]))
}

/// The optimiser's update; output `i` is shaped like input `i`.
#[derive(Debug, Clone, PartialEq)]
struct Update {
    optimiser: Optimiser,
    outputs: usize,
}

/// Single-precision numbers of the optimiser are finite, so that equality is reflexive.
impl Eq for Update {}

impl Expansion for Update {
    fn name(&self) -> StaticName {
        self.optimiser.operator().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs)?;
        for (input, output) in inputs.iter().zip(outputs) {
            s.equals(&input.datum_type, &output.datum_type)?;
            s.equals(&input.shape, &output.shape)?;
        }
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Update {
    fn name(&self) -> StaticName {
        self.optimiser.operator().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Update {
    not_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(Buffers::default())))
    }
}

impl TypedOp for Update {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= self.outputs, "an input is missing");
        Ok(inputs.iter().take(self.outputs).map(|fact| fact.without_value()).collect())
    }

    as_op!();
}

/// What the operator has given out. The trainer lets go of each set when the next one is there, so
/// that two sets are used in turn and nothing is allocated.
#[derive(Debug, Clone, Default)]
struct Buffers {
    sets: [Vec<Arc<Tensor>>; 2],
    second: bool,
}

impl OpState for Buffers {
    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        Ok(())
    }

    fn eval(
        &mut self,
        _: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let op = op.downcast_ref::<Update>().context("another operator's state")?;
        let [first, second] = &mut self.sets;
        let set = if self.second { second } else { first };
        if set.iter_mut().any(|kept| Arc::get_mut(kept).is_none()) {
            set.clear();
        }
        if set.is_empty() {
            let like = |value: &TValue| Tensor::zero::<f32>(value.shape()).map(Arc::new);
            *set = inputs.iter().take(op.outputs).map(like).collect::<TractResult<_>>()?;
        }
        let plain = inputs.iter().map(|value| value.try_as_plain_ram()?.as_slice::<f32>());
        let plain = plain.collect::<TractResult<TVec<&[f32]>>>()?;
        let mut views = TVec::new();
        for kept in set.iter_mut() {
            views.push(Arc::get_mut(kept).context("an output is in use")?.try_as_plain_ram_mut()?);
        }
        let mut out = TVec::new();
        for view in &mut views {
            out.push(view.as_slice_mut::<f32>()?);
        }
        update(&op.optimiser, &plain, &mut out).context("inputs that do not fit each other")?;
        drop(out);
        drop(views);
        self.second = !self.second;
        Ok(set.iter().map(|kept| kept.clone().into_tvalue()).collect())
    }
}

/// The gradient of `Relu`, and its sum over the first axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReluGradient {
    summed: bool,
}

impl ReluGradient {
    fn outputs(&self) -> usize {
        1 + usize::from(self.summed)
    }
}

impl Expansion for ReluGradient {
    fn name(&self) -> StaticName {
        RELU_GRADIENT.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, self.outputs())?;
        let (Some(g), [gradient, sums @ ..]) = (inputs.first(), outputs) else {
            bail!("an input or output is missing");
        };
        s.equals(&g.datum_type, &gradient.datum_type)?;
        s.equals(&g.shape, &gradient.shape)?;
        for sum in sums {
            s.equals(&g.datum_type, &sum.datum_type)?;
            s.equals(&g.rank, &sum.rank)?;
            s.given(&g.shape, |s, shape| s.equals(&sum.shape, summed(&shape)))?;
        }
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

/// A shape whose first axis has length 1.
fn summed<D: Clone + From<usize>>(shape: &[D]) -> TVec<D> {
    std::iter::once(D::from(1)).chain(shape.iter().skip(1).cloned()).collect()
}

impl Op for ReluGradient {
    fn name(&self) -> StaticName {
        RELU_GRADIENT.into()
    }

    op_as_typed_op!();
}

impl EvalOp for ReluGradient {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (g, y) = args_2!(inputs);
        let mut gradient = Tensor::zero::<f32>(g.shape())?;
        let mut sum = self.summed.then(|| Tensor::zero::<f32>(&summed(g.shape()))).transpose()?;
        {
            let (g, y) = (g.try_as_plain_ram()?, y.try_as_plain_ram()?);
            let mut gradient = gradient.try_as_plain_ram_mut()?;
            let mut sum = sum.as_mut().map(|sum| sum.try_as_plain_ram_mut()).transpose()?;
            let sum = sum.as_mut().map(|sum| sum.as_slice_mut::<f32>()).transpose()?;
            relu_gradient((g.as_slice()?, y.as_slice()?), gradient.as_slice_mut()?, sum)
                .context("inputs that do not fit each other")?;
        }
        Ok(std::iter::once(gradient).chain(sum).map(IntoTValue::into_tvalue).collect())
    }
}

impl TypedOp for ReluGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let g = inputs.first().context("an input is missing")?;
        let sum = self.summed.then(|| f32::fact(summed::<TDim>(&g.shape)));
        Ok(std::iter::once(g.without_value()).chain(sum).collect())
    }

    as_op!();
}
