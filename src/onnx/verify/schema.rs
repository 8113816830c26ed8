//! Which attributes each operator has, and since which operator set there is the operator, as the
//! ONNX specification lists them for operator sets 13 to 22.

use crate::onnx::OnnxError;
use crate::onnx::proto::NodeProto;

/// Checks that a node's operator is one of the graph's operator set, that it has the attributes it
/// needs, and no others. Operators that are not in the table are left to shape inference.
///
/// # Errors
/// The first that is wrong, with what the operator has.
pub(super) fn check(node: &NodeProto, opset: i64) -> Result<(), OnnxError> {
    let found = OPERATORS.binary_search_by_key(&node.op(), |(op, ..)| op);
    let Some((_, since, attributes)) = found.ok().and_then(|row| OPERATORS.get(row)) else {
        return Ok(());
    };
    let at = || format!("node `{}` ({})", node.label(), node.op());
    if opset < *since {
        let expected = format!("opset {since} or newer, which has this operator");
        return Err(OnnxError::invalid(at(), expected, opset));
    }
    let known: Vec<Attribute> =
        attributes.split_whitespace().map(Attribute::read).filter(|a| a.is_in(opset)).collect();
    let given = |name: &str| node.attribute.iter().any(|a| a.name.as_deref() == Some(name));
    if let Some(missing) = known.iter().find(|a| a.required && !given(a.name)) {
        let expected = format!("an attribute `{}`", missing.name);
        return Err(OnnxError::invalid(at(), expected, "none"));
    }
    let names = || node.attribute.iter().map(|a| a.name.as_deref().unwrap_or(""));
    if let Some(foreign) = names().find(|name| known.iter().all(|a| a.name != *name)) {
        let list: Vec<&str> = known.iter().map(|a| a.name).collect();
        let expected = match list.as_slice() {
            [] => format!("no attributes in opset {opset}"),
            list => format!("only the attributes {} in opset {opset}", list.join(", ")),
        };
        return Err(OnnxError::invalid(at(), expected, format!("`{foreign}`")));
    }
    Ok(())
}

/// An attribute as [`OPERATORS`] writes it.
struct Attribute {
    name: &'static str,
    required: bool,
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

    fn is_in(&self, opset: i64) -> bool {
        self.after < opset && opset < self.before
    }
}

/// Operator, the first operator set that has it, and its attributes: `!` marks one that must be
/// given, `>17` one of operator sets above 17, `<18` one of those below 18.
#[rustfmt::skip]
const OPERATORS: &[(&str, i64, &str)] = &[
    ("Abs", 1, ""),
    ("Acos", 7, ""),
    ("Add", 1, ""),
    ("And", 1, ""),
    ("ArgMax", 1, "axis keepdims select_last_index"),
    ("ArgMin", 1, "axis keepdims select_last_index"),
    ("Asin", 7, ""),
    ("Atan", 7, ""),
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
    use crate::onnx::proto::AttributeProto;

    fn said(op: &str, opset: i64, attributes: &[&str]) -> String {
        let node = NodeProto {
            op_type: Some(op.into()),
            name: Some("n".into()),
            attribute: attributes.iter().map(|name| AttributeProto::int(name, 1)).collect(),
            ..NodeProto::default()
        };
        check(&node, opset).err().map(|e| e.to_string()).unwrap_or_default()
    }

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
    fn attributes_belong_to_their_operator_and_operator_set() {
        assert_eq!(said("ReduceMean", 13, &["axes", "keepdims"]), "");
        assert_eq!(
            said("ReduceMean", 18, &["axes"]),
            "node `n` (ReduceMean): expected only the attributes keepdims, noop_with_empty_axes in \
             opset 18, found `axes`"
        );
        assert_eq!(
            said("Relu", 18, &["alpha"]),
            "node `n` (Relu): expected no attributes in opset 18, found `alpha`"
        );
        assert_eq!(
            said("Concat", 18, &[]),
            "node `n` (Concat): expected an attribute `axis`, found none"
        );
        assert_eq!(
            said("Gelu", 18, &[]),
            "node `n` (Gelu): expected opset 20 or newer, which has this operator, found 18"
        );
    }
}
