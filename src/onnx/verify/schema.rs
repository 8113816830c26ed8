//! Whether a node's operator is one of its graph's operator set, and has the attributes it must.

use crate::onnx::proto::NodeProto;
use crate::onnx::{Attribute, OnnxError, Operator};

/// Checks that a node's operator is one of the graph's operator set, that it has the attributes it
/// needs, and no others.
///
/// # Errors
/// The first that is wrong, with what the operator has.
pub(super) fn check(node: &NodeProto, opset: i64) -> Result<(), OnnxError> {
    let operator = Operator::of(node)?;
    let at = || format!("node `{}` ({})", node.label(), node.op());
    if opset < operator.since {
        let expected = format!("opset {} or newer, which has this operator", operator.since);
        return Err(OnnxError::invalid(at(), expected, opset));
    }
    let known: Vec<Attribute> = operator.attributes().filter(|a| a.is_in(opset)).collect();
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
