//! Convolution, pooling and the normalisations that go with them.

use regoal::onnx::proto::NodeProto;

use super::Array;

/// The outputs of a node of this family.
pub fn evaluate(node: &NodeProto, _inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    match node.op() {
        _ => None,
    }
}
