//! What an ONNX file may hold, for people and for programs: read off the verification's own tables.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::onnx::{IR_VERSIONS, Limits, OPSETS, Operator, operators};

/// What holds for every file, and then a line for each operator.
pub(super) fn list() -> String {
    let (opsets, ir, limits) = (OPSETS, IR_VERSIONS, Limits::default());
    let mut text = format!(
        "opset {} to {} of domain ai.onnx, IR version {} to {}; functions of the file are inlined\n\
         float, double, int32, int64 and bool tensors, their data in the file; no sub-graphs\n\
         at most {} MiB, {} nodes, {} million elements a value with a batch of 1\n\n\
         {:<24}{:<9}{:<9}{:<9}attributes\n",
        opsets.start(),
        opsets.end(),
        ir.start(),
        ir.end(),
        limits.max_bytes >> 20,
        limits.max_nodes,
        limits.max_elements / 1_000_000,
        "operator",
        "opset",
        "inputs",
        "outputs",
    );
    for operator in operators() {
        let Operator { name, since, inputs, outputs, .. } = operator;
        let attributes: Vec<String> = operator.attributes().map(|a| a.to_string()).collect();
        let opsets = format!("{since}-{}", opsets.end());
        let (inputs, outputs) = (span(inputs[0], inputs[1]), span(1, outputs));
        let line = format!("{name:<24}{opsets:<9}{inputs:<9}{outputs:<9}{}", attributes.join(", "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.trim_end().to_owned()
}

/// The same for programs.
pub(super) fn json() -> Value {
    let limits = Limits::default();
    let operators = operators().map(|operator| {
        let attributes: Vec<String> = operator.attributes().map(|a| a.to_string()).collect();
        json!({
            "operator": operator.name,
            "opsets": [operator.since, OPSETS.end()],
            "inputs": operator.inputs,
            "outputs": operator.outputs,
            "attributes": attributes,
        })
    });
    json!({
        "opsets": [OPSETS.start(), OPSETS.end()],
        "ir_versions": [IR_VERSIONS.start(), IR_VERSIONS.end()],
        "max_bytes": limits.max_bytes,
        "max_nodes": limits.max_nodes,
        "max_elements": limits.max_elements,
        "operators": operators.collect::<Vec<_>>(),
    })
}

/// More than this is said as `any`.
const MANY: usize = 64;

fn span(fewest: usize, most: usize) -> String {
    match most {
        MANY.. => format!("{fewest}-any"),
        _ if most == fewest => most.to_string(),
        _ => format!("{fewest}-{most}"),
    }
}
