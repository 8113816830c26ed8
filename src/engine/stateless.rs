//! tract's recurrent operators go on with the state of the run before, for streams of sound. In ONNX
//! each run starts from the initial state that the graph gives.

use tract_onnx::prelude::TypedModel;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::scan::Scan;

/// Makes every run of a model start anew, before it is optimised.
pub(super) fn forget_between_runs(model: &mut TypedModel) {
    for node in &mut model.nodes {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
        } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
            gru.reset_every_turn = true;
        }
    }
}
