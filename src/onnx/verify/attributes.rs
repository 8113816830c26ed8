//! Attributes: each once, of the type that the ONNX specification gives its name, and within what
//! engines can bear.

use std::ops::RangeInclusive;

use crate::onnx::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto, attribute_type as of};

/// Checks a node's attributes and that it has no sub-graph.
///
/// # Errors
/// The first attribute that is wrong, with what was expected.
pub(super) fn check(node: &NodeProto) -> Result<(), OnnxError> {
    for (i, attribute) in node.attribute.iter().enumerate() {
        let name = attribute.name.as_deref().unwrap_or("");
        let wrong = |expected: &str, found: &str| {
            let at = format!("node `{}` ({}), attribute `{name}`", node.label(), node.op());
            Err(OnnxError::invalid(at, expected, found))
        };
        if node.attribute.iter().take(i).any(|other| other.name == attribute.name) {
            return wrong("each name once", "it twice");
        }
        let found = attribute.r#type.unwrap_or(0);
        if matches!(found, of::GRAPH | of::GRAPHS) || attribute.g.is_some() {
            let expected = "no sub-graph (export the policy with its branches and loops unrolled)";
            return wrong(expected, "one");
        }
        if attribute.ref_attr_name.as_deref().is_some_and(|r| !r.is_empty()) {
            return wrong("a value", "a reference into a function");
        }
        let expected = type_of(name).unwrap_or(found);
        if found != expected || only(attribute) != Some(expected) {
            return wrong(called(expected), &holds(attribute));
        }
        if let Some(range) = range_of(name)
            && let Some(bad) =
                attribute.i.iter().chain(&attribute.ints).find(|n| !range.contains(n))
        {
            return wrong(&format!("{} to {}", range.start(), range.end()), &bad.to_string());
        }
        // Rank, receptive field and list lengths: no operator needs more.
        if attribute.ints.len().max(attribute.floats.len()) > MAX_LIST {
            return wrong("a shorter list", &format!("{} numbers", attribute.ints.len()));
        }
    }
    Ok(())
}

/// The longest list of numbers in an attribute.
const MAX_LIST: usize = 1 << 16;

/// The type of an attribute that has one meaning in all of ai.onnx, and one that we read.
fn type_of(name: &str) -> Option<i32> {
    Some(match name {
        "alpha"
        | "beta"
        | "epsilon"
        | "gamma"
        | "bias"
        | "lambd"
        | "clip"
        | "momentum"
        | "cubic_coeff_a"
        | "extrapolation_value"
        | "value_float"
        | "ratio" => of::FLOAT,
        "axis"
        | "batch_dims"
        | "keepdims"
        | "noop_with_empty_axes"
        | "transA"
        | "transB"
        | "to"
        | "saturate"
        | "allowzero"
        | "group"
        | "ceil_mode"
        | "count_include_pad"
        | "storage_order"
        | "start"
        | "end"
        | "hidden_size"
        | "linear_before_reset"
        | "layout"
        | "input_forget"
        | "num_outputs"
        | "fmod"
        | "stash_type"
        | "value_int"
        | "upper"
        | "num_groups"
        | "training_mode"
        | "exclusive"
        | "reverse"
        | "largest"
        | "sorted"
        | "select_last_index"
        | "blocksize" => of::INT,
        "perm" | "axes" | "pads" | "strides" | "dilations" | "kernel_shape" | "output_padding"
        | "output_shape" | "value_ints" => of::INTS,
        "auto_pad"
        | "mode"
        | "direction"
        | "equation"
        | "approximate"
        | "reduction"
        | "nearest_mode"
        | "coordinate_transformation_mode" => of::STRING,
        "value" => of::TENSOR,
        "activation_alpha" | "activation_beta" | "scales" | "value_floats" => of::FLOATS,
        "activations" => of::STRINGS,
        _ => return None,
    })
}

/// The numbers that an integer attribute may hold, where engines would divide by others or ask for
/// memory by them. Axes are checked with the shapes.
fn range_of(name: &str) -> Option<RangeInclusive<i64>> {
    Some(match name {
        "kernel_shape" | "strides" | "dilations" => 1..=1 << 12,
        "group" | "hidden_size" | "num_outputs" | "num_groups" | "blocksize" => 1..=1 << 16,
        "output_padding" => 0..=1 << 12,
        "output_shape" => 0..=1 << 16,
        "pads" => -(1 << 12)..=1 << 12,
        "keepdims"
        | "noop_with_empty_axes"
        | "transA"
        | "transB"
        | "allowzero"
        | "ceil_mode"
        | "count_include_pad"
        | "storage_order"
        | "linear_before_reset"
        | "layout"
        | "input_forget"
        | "fmod"
        | "saturate"
        | "upper"
        | "exclusive"
        | "reverse" => 0..=1,
        _ => return None,
    })
}

/// The one type of value that an attribute holds; an empty list is any list.
fn only(attribute: &AttributeProto) -> Option<i32> {
    let held: Vec<i32> =
        kinds(attribute).filter_map(|(kind, there)| there.then_some(kind)).collect();
    match (held.as_slice(), attribute.r#type) {
        ([one], _) => Some(*one),
        ([], Some(list @ (of::FLOATS | of::INTS | of::STRINGS))) => Some(list),
        _ => None,
    }
}

fn kinds(a: &AttributeProto) -> impl Iterator<Item = (i32, bool)> {
    [
        (of::FLOAT, a.f.is_some()),
        (of::INT, a.i.is_some()),
        (of::STRING, a.s.is_some()),
        (of::TENSOR, a.t.is_some()),
        (of::FLOATS, !a.floats.is_empty()),
        (of::INTS, !a.ints.is_empty()),
        (of::STRINGS, !a.strings.is_empty()),
        (of::GRAPHS, !a.graphs.is_empty()),
        (0, !a.tensors.is_empty() || a.tp.is_some() || !a.type_protos.is_empty()),
        (0, a.sparse_tensor.is_some() || !a.sparse_tensors.is_empty()),
    ]
    .into_iter()
}

fn holds(attribute: &AttributeProto) -> String {
    let held: Vec<&str> =
        kinds(attribute).filter(|(_, there)| *there).map(|(kind, _)| called(kind)).collect();
    let declared = called(attribute.r#type.unwrap_or(0));
    format!("[{}] declared as {declared}", held.join(", "))
}

fn called(kind: i32) -> &'static str {
    match kind {
        of::FLOAT => "a float",
        of::INT => "an integer",
        of::STRING => "a text",
        of::TENSOR => "a tensor",
        of::FLOATS => "floats",
        of::INTS => "integers",
        of::STRINGS => "texts",
        _ => "another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::GraphProto;

    fn refusal(attributes: Vec<AttributeProto>) -> String {
        let node = NodeProto {
            op_type: Some("Conv".into()),
            name: Some("c".into()),
            attribute: attributes,
            ..NodeProto::default()
        };
        check(&node).map_err(|e| e.to_string()).unwrap_err()
    }

    #[test]
    fn each_wrong_attribute_is_named_with_its_node() {
        let int = AttributeProto::int;
        let both = AttributeProto { f: Some(1.0), ..int("group", 1) };
        let branch = AttributeProto {
            name: Some("body".into()),
            g: Some(GraphProto::default()),
            r#type: Some(of::GRAPH),
            ..AttributeProto::default()
        };
        let cases = [
            (vec![int("alpha", 1)], "`alpha`: expected a float, found [an integer] declared as an"),
            (vec![both], "`group`: expected an integer, found [a float, an integer] declared as"),
            (vec![int("group", 0)], "attribute `group`: expected 1 to 65536, found 0"),
            (
                vec![AttributeProto::ints("strides", &[1, 0])],
                "`strides`: expected 1 to 4096, found",
            ),
            (vec![int("group", 1), int("group", 1)], "expected each name once, found it twice"),
            (vec![branch], "attribute `body`: expected no sub-graph"),
            (
                vec![AttributeProto { r#type: None, ..int("x", 1) }],
                "found [an integer] declared as",
            ),
        ];
        for (attributes, says) in cases {
            let found = refusal(attributes);
            assert!(found.starts_with("node `c` (Conv), attribute `"), "{found}");
            assert!(found.contains(says), "{found}\nshould say\n{says}");
        }
    }
}
