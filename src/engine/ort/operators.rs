//! Our operators in ONNX Runtime: an optimiser's update, and the gradient of `Relu`.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;

use crate::engine::relu::relu_gradient;
use crate::engine::update::update;
use crate::onnx::{DOMAIN, Optimiser, RELU_GRADIENT};

/// Our operators on the processor. Only training steps may contain them: verification refuses them
/// in files.
pub(super) fn operators() -> ort::Result<OperatorDomain> {
    let relu = OperatorDomain::new(DOMAIN)?.add(ReluGradient)?;
    Optimiser::OPERATORS.into_iter().try_fold(relu, |domain, name| domain.add(Update { name }))
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
        update(&self.optimiser, &input, &mut output).ok_or_else(unfit)
    }
}

/// The gradient of `Relu`, and its sum.
struct ReluGradient;

impl Operator for ReluGradient {
    type Kernel<'attr> = Self;

    fn name(&self) -> &str {
        RELU_GRADIENT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 2].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let float = TensorElementType::Float32;
        [OperatorOutput::required(float), OperatorOutput::optional(float)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<Self> {
        Ok(Self)
    }
}

impl Kernel for ReluGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let g = context.input(0)?.ok_or_else(missing)?;
        let y = context.input(1)?.ok_or_else(missing)?;
        let ((shape, g), (_, y)) = (g.try_extract_tensor::<f32>()?, y.try_extract_tensor::<f32>()?);
        let mut gradient = context.output(0, shape.clone())?.ok_or_else(missing)?;
        let gradient = gradient.try_extract_tensor_mut::<f32>()?.1;
        let mut sum = match context.num_outputs()? {
            2 => {
                let inner = shape.iter().skip(1);
                let one = std::iter::once(1).chain(inner.copied());
                context.output(1, one.collect::<Vec<i64>>())?
            }
            _ => None,
        };
        let sum = sum.as_mut().map(|sum| sum.try_extract_tensor_mut::<f32>()).transpose()?;
        relu_gradient((g, y), gradient, sum.map(|(_, sum)| sum)).ok_or_else(unfit)
    }
}

fn missing() -> ort::Error {
    ort::Error::new("an input or output is missing")
}

fn unfit() -> ort::Error {
    ort::Error::new("inputs that do not fit each other")
}
