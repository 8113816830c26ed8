//! Shapes of a family: activations, softmax and reductions.

use super::{Call, Info};
use crate::onnx::{ElementType, OnnxError};

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    const MANY: usize = 1024;
    Some(match op {
        "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "Celu" | "Cosh" | "HardSwish"
        | "Selu" | "Sinh" | "Softsign" | "Tan" | "ThresholdedRelu" => (1, 1, 1),
        "IsInf" | "IsNaN" | "Round" => (1, 1, 1),
        "CumSum" | "PRelu" | "Xor" => (2, 2, 1),
        "Mean" | "Sum" => (1, MANY, 1),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceProd"
        | "ReduceSumSquare" => (1, 2, 1),
        _ => return None,
    })
}

impl Call<'_> {
    pub(super) fn activation(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        let info = match self.node.op() {
            // tract leaves out a factor with any other.
            "Celu" if self.node.float("alpha").unwrap_or(1.0) != 1.0 => {
                let alpha = self.node.float("alpha").unwrap_or(1.0);
                return Err(self.wrong("alpha 1 (write alpha Elu(x / alpha))", alpha));
            }
            "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "Celu" | "Cosh" | "Elu"
            | "Erf" | "Gelu" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Mish" | "Round"
            | "Selu" | "Sinh" | "Softplus" | "Softsign" | "Tan" | "ThresholdedRelu" => {
                self.float()?;
                self.like(0)?
            }
            "IsInf" | "IsNaN" => {
                self.float()?;
                Info { element: ElementType::Bool, ..self.like(0)? }
            }
            "And" | "Not" | "Or" | "Xor" => {
                self.all_of(ElementType::Bool)?;
                self.broadcast()?
            }
            "PRelu" => self.prelu()?,
            "CumSum" => self.cumulative_sum()?,
            "Mean" | "Sum" => {
                self.float()?;
                self.same_elements()?;
                self.broadcast()?
            }
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceProd"
            | "ReduceSumSquare" => self.reduce()?,
            _ => return Ok(None),
        };
        Ok(Some(vec![info]))
    }

    /// The first input is of floats.
    fn float(&self) -> Result<(), OnnxError> {
        match self.input(0)?.element {
            ElementType::F32 | ElementType::F64 => Ok(()),
            other => Err(self.wrong("an input of floats", format!("{other:?}"))),
        }
    }

    fn all_of(&self, element: ElementType) -> Result<(), OnnxError> {
        match self.inputs.iter().flatten().find(|i| i.element != element) {
            Some(i) => Err(self.wrong(format!("{element:?} inputs"), format!("{:?}", i.element))),
            None => Ok(()),
        }
    }

    /// The slope broadcasts to the input, never the other way round.
    fn prelu(&self) -> Result<Info, OnnxError> {
        self.float()?;
        self.same_elements()?;
        if let (Some(x), Some(slope)) = (self.dims(0)?, self.dims(1)?)
            && self.broadcast_two(x, slope)? != x
        {
            return Err(
                self.wrong(format!("a slope that broadcasts to {x:?}"), format!("{slope:?}"))
            );
        }
        self.like(0)
    }

    fn cumulative_sum(&self) -> Result<Info, OnnxError> {
        match self.input(1)?.ints.as_deref() {
            Some([axis]) => {
                self.axis(*axis, self.rank(0)?)?;
            }
            Some(other) => return Err(self.wrong("one axis", format!("{other:?}"))),
            None => {}
        }
        self.like(0)
    }
}
