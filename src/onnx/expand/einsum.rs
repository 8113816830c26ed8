//! Einsum of one or two operands as sums, transpositions and one product.

use std::collections::BTreeMap;

use super::Call;
use crate::onnx::infer::{Equation, Label};
use crate::onnx::{Builder, Dim, OnnxError, Value};

/// A value whose axes have labels.
#[derive(Debug, Clone)]
struct Operand {
    value: Value,
    labels: Vec<Label>,
}

/// The size of each label.
struct Sizes(BTreeMap<Label, i64>);

impl Call<'_> {
    /// The result of the node's equation.
    pub(super) fn einsum(
        &self,
        b: &mut Builder,
        inputs: &[Option<Value>],
    ) -> Result<Value, OnnxError> {
        let text = self.node.string("equation").unwrap_or("");
        let refuse =
            |expected: &str, found: String| self.wrong(expected, format!("`{text}`{found}"));
        let dims: Vec<Vec<i64>> =
            (0..inputs.len()).map(|i| self.sizes(i)).collect::<Result<_, _>>()?;
        let ranks: Vec<usize> = dims.iter().map(Vec::len).collect();
        let equation = Equation::parse(text, &ranks)
            .map_err(|reason| refuse("a valid equation", format!(": {reason}")))?;
        let fixed: Vec<Vec<Dim>> =
            dims.iter().map(|d| d.iter().map(|n| Dim::Fixed(*n as usize)).collect()).collect();
        let fixed: Vec<&[Dim]> = fixed.iter().map(Vec::as_slice).collect();
        let sizes = equation
            .sizes(&fixed)
            .map_err(|reason| refuse("a valid equation", format!(": {reason}")))?;
        let sizes = Sizes(sizes.into_iter().map(|(l, d)| (l, d.at(1) as i64)).collect());
        let mut operands = Vec::new();
        for (index, (labels, dims)) in equation.inputs.iter().zip(&dims).enumerate() {
            operands.push(sizes.operand(b, self.input(inputs, index)?, labels, dims));
        }
        let result = match operands.as_slice() {
            [x] => x.sum(b, |label| equation.output.contains(label)),
            [x, y] => sizes.product(b, x, y, &equation.output),
            more => return Err(refuse("one or two operands", format!(" of {}", more.len()))),
        };
        Ok(result.ordered(b, &equation.output))
    }
}

impl Operand {
    /// Summed over the labels that are not kept.
    fn sum(&self, b: &mut Builder, keep: impl Fn(&Label) -> bool) -> Self {
        let gone = self.labels.iter().enumerate().filter(|(_, label)| !keep(label));
        let axes: Vec<i64> = gone.map(|(axis, _)| axis as i64).collect();
        if axes.is_empty() {
            return self.clone();
        }
        let labels = self.labels.iter().copied().filter(keep).collect();
        Self { value: b.reduce_sum(self.value, &axes, false), labels }
    }

    /// With its axes in the order of `labels`, which are its own.
    fn ordered(&self, b: &mut Builder, labels: &[Label]) -> Value {
        if self.labels == labels {
            return self.value;
        }
        let axis = |label: &Label| self.labels.iter().position(|l| l == label).unwrap_or(0) as i64;
        let order: Vec<i64> = labels.iter().map(axis).collect();
        b.transpose(self.value, &order)
    }

    fn has(&self, label: &Label) -> bool {
        self.labels.contains(label)
    }
}

impl Sizes {
    fn of(&self, labels: &[Label]) -> Vec<i64> {
        labels.iter().map(|label| self.0.get(label).copied().unwrap_or(1)).collect()
    }

    /// An operand without the axes of its ellipsis that broadcast.
    fn operand(&self, b: &mut Builder, value: Value, labels: &[Label], dims: &[i64]) -> Operand {
        let full = |(label, n): &(&Label, &i64)| self.0.get(label) == Some(n);
        let labels: Vec<Label> =
            labels.iter().zip(dims).filter(full).map(|(label, _)| *label).collect();
        let value = match labels.len() == dims.len() {
            true => value,
            false => b.reshape(value, &self.of(&labels)),
        };
        Operand { value, labels }
    }

    /// The product of two operands: axes of both that stay are a batch, those that do not are
    /// contracted.
    fn product(&self, b: &mut Builder, x: &Operand, y: &Operand, output: &[Label]) -> Operand {
        let x = x.sum(b, |label| y.has(label) || output.contains(label));
        let y = y.sum(b, |label| x.has(label) || output.contains(label));
        let batch: Vec<Label> =
            output.iter().copied().filter(|label| x.has(label) && y.has(label)).collect();
        let inner: Vec<Label> =
            x.labels.iter().copied().filter(|l| y.has(l) && !batch.contains(l)).collect();
        let left: Vec<Label> = output.iter().copied().filter(|l| !y.has(l)).collect();
        let right: Vec<Label> = output.iter().copied().filter(|l| !x.has(l)).collect();

        let a = x.ordered(b, &[&batch[..], &left, &inner].concat());
        let c = y.ordered(b, &[&batch[..], &inner, &right].concat());
        let (batch_sizes, ones) = (self.of(&batch), |labels: &[Label]| vec![1; labels.len()]);
        let value = if inner.is_empty() {
            let a = reshaped(b, a, &[&batch_sizes[..], &self.of(&left), &ones(&right)].concat());
            let c = reshaped(b, c, &[&batch_sizes[..], &ones(&left), &self.of(&right)].concat());
            b.mul(a, c)
        } else {
            let count = |labels: &[Label]| self.of(labels).iter().product::<i64>();
            let (m, k, n) = (count(&left), count(&inner), count(&right));
            let a = reshaped(b, a, &[&batch_sizes[..], &[m, k]].concat());
            let c = reshaped(b, c, &[&batch_sizes[..], &[k, n]].concat());
            let y = b.matmul(a, c);
            reshaped(b, y, &[&batch_sizes[..], &self.of(&left), &self.of(&right)].concat())
        };
        Operand { value, labels: [batch, left, right].concat() }
    }
}

fn reshaped(b: &mut Builder, x: Value, shape: &[i64]) -> Value {
    let same =
        b.dims(x).is_some_and(|dims| dims.iter().map(|d| d.at(1) as i64).eq(shape.iter().copied()));
    if same { x } else { b.reshape(x, shape) }
}
