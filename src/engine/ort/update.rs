//! The optimiser's update as an operator of ONNX Runtime.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;

use crate::engine::update::update;
use crate::onnx::{DOMAIN, Optimiser};

/// Our operators on the processor. Only training steps may contain them: verification refuses them
/// in files.
pub(super) fn operators() -> ort::Result<OperatorDomain> {
    let none = OperatorDomain::new(DOMAIN)?;
    Optimiser::OPERATORS.into_iter().try_fold(none, |domain, name| domain.add(Update { name }))
}

struct Update {
    name: &'static str,
}

impl Operator for Update {
    type Kernel<'attr> = Step;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(1).homogenous(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::variadic(1).homogenous(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Step> {
        let optimiser = Optimiser::from_node(self.name, |name| context.get::<f32>(name));
        let missing = || ort::Error::new(format!("{} lacks an attribute", self.name));
        Ok(Step { optimiser: optimiser.ok_or_else(missing)? })
    }
}

struct Step {
    optimiser: Optimiser,
}

impl Kernel for Step {
    /// Output `i` is shaped like input `i`.
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || ort::Error::new("an input or output is missing");
        let inputs = (0..context.num_inputs()?).map(|i| context.input(i)?.ok_or_else(missing));
        let inputs = inputs.collect::<ort::Result<Vec<_>>>()?;
        let inputs = inputs.iter().map(|value| value.try_extract_tensor::<f32>());
        let inputs = inputs.collect::<ort::Result<Vec<_>>>()?;
        let like = |(i, (shape, _)): (usize, &(&ort::value::Shape, &[f32]))| {
            context.output(i, (*shape).clone())?.ok_or_else(missing)
        };
        let outputs = inputs.iter().enumerate().take(context.num_outputs()?).map(like);
        let mut outputs = outputs.collect::<ort::Result<Vec<_>>>()?;
        let output = outputs.iter_mut().map(|value| Ok(value.try_extract_tensor_mut::<f32>()?.1));
        let mut output = output.collect::<ort::Result<Vec<_>>>()?;
        let input: Vec<&[f32]> = inputs.iter().map(|(_, data)| *data).collect();
        let wrong = || ort::Error::new("inputs that do not fit each other");
        update(&self.optimiser, &input, &mut output).ok_or_else(wrong)
    }
}
