//! The operators of ONNX that a graph may hold: since which operator set there is each and which
//! attributes it has, as the ONNX specification lists them for operator sets 13 to 22.

use super::OnnxError;
use super::infer::arity;
use super::proto::NodeProto;
use super::verify::OPSETS;

/// An operator that every engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// Its name in ONNX.
    pub name: &'static str,
    /// The first operator set of those we read that has it.
    pub since: i64,
    /// The fewest and the most inputs.
    pub inputs: [usize; 2],
    /// The most outputs.
    pub outputs: usize,
    /// As the table has them.
    attributes: &'static str,
}

impl Operator {
    fn read(&(name, since, attributes): &Row) -> Option<Self> {
        let (fewest, most, outputs) = arity(name)?;
        Some(Self {
            name,
            since: since.max(*OPSETS.start()),
            inputs: [fewest, most],
            outputs,
            attributes,
        })
    }

    /// What may be said at a node.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute> + use<> {
        self.attributes.split_whitespace().map(Attribute::read)
    }

    /// The operator of a node.
    ///
    /// # Errors
    /// When it is not supported, with one that is and has nearly its name.
    pub(super) fn of(node: &NodeProto) -> Result<Self, OnnxError> {
        let domain = node.domain.as_deref().unwrap_or("");
        let ours = matches!(domain, "" | "ai.onnx");
        let row = OPERATORS.binary_search_by_key(&node.op(), |(name, ..)| name);
        let row = row.ok().and_then(|row| OPERATORS.get(row)).filter(|_| ours);
        row.and_then(Self::read).ok_or_else(|| OnnxError::UnknownOp {
            node: node.label().into(),
            op: if ours { node.op().into() } else { format!("{domain}::{}", node.op()) },
            nearest: nearest(node.op()),
        })
    }
}

/// All operators that a graph may hold, by name.
pub fn operators() -> impl Iterator<Item = Operator> {
    OPERATORS.iter().filter_map(Operator::read)
}

/// The operator with nearly this name, in whatever case.
fn nearest(op: &str) -> Option<&'static str> {
    // Comparing takes the product of the lengths, and a file may hold any name.
    let op = (op.len() <= LONGEST).then(|| op.to_lowercase())?;
    let likeness = |name: &str| strsim::jaro_winkler(&op, &name.to_lowercase());
    let scored = operators().map(|o| (likeness(o.name), o.name));
    let close = scored.filter(|(score, _)| *score > CLOSE);
    close.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Bytes of a name that may be meant.
const LONGEST: usize = 64;

/// The least similarity of a name that may be meant: above what short names have by chance.
const CLOSE: f64 = 0.84;

/// An attribute of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// The operator sets just outside those that have it.
    after: i64,
    before: i64,
}

impl Attribute {
    fn read(word: &'static str) -> Self {
        let (word, before) = word.split_once('<').unwrap_or((word, "99"));
        let (word, after) = word.split_once('>').unwrap_or((word, "0"));
        let name = word.trim_end_matches('!');
        let number = |text: &str| text.parse().unwrap_or(0);
        Self { name, required: name != word, after: number(after), before: number(before) }
    }

    pub(super) fn is_in(&self, opset: i64) -> bool {
        self.after < opset && opset < self.before
    }
}

/// `axis`, `kernel_shape (needed)`, `axes (to opset 17)`, `dilations (from opset 19)`.
impl std::fmt::Display for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        if self.required {
            f.write_str(" (needed)")?;
        }
        if self.after >= *OPSETS.start() {
            write!(f, " (from opset {})", self.after + 1)?;
        }
        if self.before <= *OPSETS.end() {
            write!(f, " (to opset {})", self.before - 1)?;
        }
        Ok(())
    }
}

/// Operator, the first operator set that has it, and its attributes.
type Row = (&'static str, i64, &'static str);

/// Sorted by name. Of attributes, `!` marks one that must be given, `>17` one of operator sets above
/// 17, `<18` one of those below 18. Rows of operators without an [`arity`] wait for their shapes.
#[rustfmt::skip]
const OPERATORS: &[Row] = &[
    ("Abs", 1, ""),
    ("Acos", 7, ""),
    ("Acosh", 9, ""),
    ("Add", 1, ""),
    ("And", 1, ""),
    ("ArgMax", 1, "axis keepdims select_last_index"),
    ("ArgMin", 1, "axis keepdims select_last_index"),
    ("Asin", 7, ""),
    ("Asinh", 9, ""),
    ("Atan", 7, ""),
    ("Atanh", 9, ""),
    ("AveragePool", 1, "auto_pad ceil_mode count_include_pad dilations>18 kernel_shape! pads strides"),
    ("BatchNormalization", 1, "epsilon momentum training_mode>13"),
    ("Cast", 1, "saturate>18 to!"),
    ("CastLike", 15, "saturate>18"),
    ("Ceil", 1, ""),
    ("Celu", 12, "alpha"),
    ("Clip", 1, ""),
    ("Concat", 1, "axis!"),
    ("Constant", 1, "sparse_value value value_float value_floats value_int value_ints value_string value_strings"),
    ("ConstantOfShape", 9, "value"),
    ("Conv", 1, "auto_pad dilations group kernel_shape pads strides"),
    ("ConvTranspose", 1, "auto_pad dilations group kernel_shape output_padding output_shape pads strides"),
    ("Cos", 7, ""),
    ("Cosh", 9, ""),
    ("CumSum", 11, "exclusive reverse"),
    ("DepthToSpace", 1, "blocksize! mode"),
    ("Div", 1, ""),
    ("Dropout", 1, "seed"),
    ("Einsum", 12, "equation!"),
    ("Elu", 1, "alpha"),
    ("Equal", 1, ""),
    ("Erf", 9, ""),
    ("Exp", 1, ""),
    ("Expand", 8, ""),
    ("EyeLike", 9, "dtype k"),
    ("Flatten", 1, "axis"),
    ("Floor", 1, ""),
    ("GRU", 1, "activation_alpha activation_beta activations clip direction hidden_size layout>13 linear_before_reset"),
    ("Gather", 1, "axis"),
    ("GatherElements", 11, "axis"),
    ("GatherND", 11, "batch_dims"),
    ("Gelu", 20, "approximate"),
    ("Gemm", 1, "alpha beta transA transB"),
    ("GlobalAveragePool", 1, ""),
    ("GlobalMaxPool", 1, ""),
    ("Greater", 1, ""),
    ("GreaterOrEqual", 12, ""),
    ("GroupNormalization", 18, "epsilon num_groups! stash_type>20"),
    ("HardSigmoid", 1, "alpha beta"),
    ("HardSwish", 14, ""),
    ("Hardmax", 1, "axis"),
    ("Identity", 1, ""),
    ("InstanceNormalization", 1, "epsilon"),
    ("IsInf", 10, "detect_negative detect_positive"),
    ("IsNaN", 9, ""),
    ("LSTM", 1, "activation_alpha activation_beta activations clip direction hidden_size input_forget layout>13"),
    ("LayerNormalization", 17, "axis epsilon stash_type"),
    ("LeakyRelu", 1, "alpha"),
    ("Less", 1, ""),
    ("LessOrEqual", 12, ""),
    ("Log", 1, ""),
    ("LogSoftmax", 1, "axis"),
    ("LpNormalization", 1, "axis p"),
    ("LpPool", 1, "auto_pad ceil_mode>17 dilations>17 kernel_shape! p pads strides"),
    ("MatMul", 1, ""),
    ("Max", 1, ""),
    ("MaxPool", 1, "auto_pad ceil_mode dilations kernel_shape! pads storage_order strides"),
    ("Mean", 1, ""),
    ("MeanVarianceNormalization", 9, "axes"),
    ("Min", 1, ""),
    ("Mish", 18, ""),
    ("Mod", 10, "fmod"),
    ("Mul", 1, ""),
    ("Neg", 1, ""),
    ("Not", 1, ""),
    ("OneHot", 9, "axis"),
    ("Or", 1, ""),
    ("PRelu", 1, ""),
    ("Pad", 1, "mode"),
    ("Pow", 1, ""),
    ("RNN", 1, "activation_alpha activation_beta activations clip direction hidden_size layout>13"),
    ("Range", 11, ""),
    ("Reciprocal", 1, ""),
    ("ReduceL1", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceL2", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceLogSum", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceLogSumExp", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceMax", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceMean", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceMin", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceProd", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("ReduceSum", 1, "keepdims noop_with_empty_axes"),
    ("ReduceSumSquare", 1, "axes<18 keepdims noop_with_empty_axes>17"),
    ("Relu", 1, ""),
    ("Reshape", 1, "allowzero>13"),
    ("Resize", 10, "antialias>17 axes>17 coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy>17 mode nearest_mode"),
    ("Round", 11, ""),
    ("ScatterElements", 11, "axis reduction>15"),
    ("ScatterND", 11, "reduction>15"),
    ("Selu", 1, "alpha gamma"),
    ("Shape", 1, "end>14 start>14"),
    ("Shrink", 9, "bias lambd"),
    ("Sigmoid", 1, ""),
    ("Sign", 9, ""),
    ("Sin", 7, ""),
    ("Sinh", 9, ""),
    ("Size", 1, ""),
    ("Slice", 1, ""),
    ("Softmax", 1, "axis"),
    ("Softplus", 1, ""),
    ("Softsign", 1, ""),
    ("SpaceToDepth", 1, "blocksize!"),
    ("Split", 1, "axis num_outputs>17"),
    ("Sqrt", 1, ""),
    ("Squeeze", 1, ""),
    ("Sub", 1, ""),
    ("Sum", 1, ""),
    ("Tan", 7, ""),
    ("Tanh", 1, ""),
    ("ThresholdedRelu", 10, "alpha"),
    ("Tile", 1, ""),
    ("TopK", 1, "axis largest sorted"),
    ("Transpose", 1, "perm"),
    ("Trilu", 14, "upper"),
    ("Unsqueeze", 1, ""),
    ("Where", 9, ""),
    ("Xor", 1, ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_word_of_it_is_read() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        for (_, since, attributes) in OPERATORS {
            assert!((1..=22).contains(since));
            for attribute in attributes.split_whitespace().map(Attribute::read) {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                assert!(attribute.name.chars().all(plain), "{}", attribute.name);
                assert!((0..22).contains(&attribute.after) && attribute.before > 13);
            }
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_finds_its_operator_and_others_find_none() {
        let cases = [
            ("Relu6", Some("Relu")),
            ("TanH", Some("Tanh")),
            ("Conv2d", Some("Conv")),
            ("MatMull", Some("MatMul")),
            ("Loop", None),
            ("If", None),
            ("SequenceAt", None),
            ("", None),
            (&"Relu".repeat(1 << 20), None),
        ];
        for (op, expected) in cases {
            assert_eq!(nearest(op), expected, "{op}");
        }
    }

    #[test]
    fn attributes_say_in_which_operator_sets_they_are() {
        let said = |word| Attribute::read(word).to_string();
        assert_eq!(said("axis"), "axis");
        assert_eq!(said("kernel_shape!"), "kernel_shape (needed)");
        assert_eq!(said("axes<18"), "axes (to opset 17)");
        assert_eq!(said("dilations>18"), "dilations (from opset 19)");
    }
}
