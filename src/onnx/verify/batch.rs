//! The one size that may be open: the batch.

use crate::onnx::proto::{DimensionProto, ValueInfoProto};
use crate::onnx::{Graph, OnnxError};

/// Checks that the inputs leave at most one size open, and says whether one is. Open sizes are the
/// same when they have one name; without a name of its own, the first axis is the batch.
pub(super) fn check(graph: &Graph) -> Result<bool, OnnxError> {
    let mut seen: Option<(&str, String)> = None;
    let mut open = false;
    for input in &graph.graph.input {
        for (axis, dim) in dims(input).iter().enumerate().filter(|(_, d)| d.dim_value.is_none()) {
            open = true;
            let at = || format!("input `{}`, axis {axis}", input.name.as_deref().unwrap_or(""));
            match (name(dim), &seen) {
                (None, _) if axis == 0 => {}
                (None, _) => {
                    let expected = "a fixed size (only the batch may be open; name it alike on \
                                    every axis, or export this one with a fixed size)";
                    return Err(OnnxError::invalid(at(), expected, "an open one without a name"));
                }
                (Some(name), None) => seen = Some((name, at())),
                (Some(name), Some((first, _))) if name == *first => {}
                (Some(name), Some((first, place))) => {
                    let expected = format!(
                        "the open size `{first}` of {place}, as only the batch may be open \
                         (export the others with a fixed size)"
                    );
                    return Err(OnnxError::invalid(at(), expected, format!("`{name}`")));
                }
            }
        }
    }
    Ok(open)
}

fn dims(value: &ValueInfoProto) -> &[DimensionProto] {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    tensor.and_then(|t| t.shape.as_ref()).map_or(&[], |shape| &shape.dim)
}

/// The name that its author gave an open size. PyTorch's exporter makes up others, one an input:
/// `observation_dynamic_axes_1`.
fn name(dim: &DimensionProto) -> Option<&str> {
    dim.dim_param.as_deref().filter(|name| !name.is_empty() && !name.contains("_dynamic_axes_"))
}

#[cfg(test)]
mod tests {
    use crate::onnx::{Builder, Dim, Graph, Verified};

    /// The sum of two inputs of these shapes; a text is an open size.
    fn sum(shapes: [&[&str]; 2]) -> Result<Verified, String> {
        let mut b = Builder::new();
        let open = |dims: &[&str]| -> Vec<Dim> {
            dims.iter().map(|d| d.parse().map_or(Dim::Batch, Dim::Fixed)).collect()
        };
        let (x, y) = (b.input("x", &open(shapes[0])), b.input("y", &open(shapes[1])));
        let z = b.add(x, y);
        b.output("z", z);
        let mut graph: Graph = b.finish().unwrap();
        for (input, names) in graph.graph.input.iter_mut().zip(shapes) {
            let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
            for (dim, name) in tensor.shape.as_mut().unwrap().dim.iter_mut().zip(names) {
                if dim.dim_value.is_none() {
                    dim.dim_param = Some((*name).to_owned()).filter(|n| !n.is_empty());
                }
            }
        }
        Verified::try_from(graph).map_err(|e| e.to_string())
    }

    #[test]
    fn one_open_size_may_stand_on_several_inputs() {
        sum([&["batch", "3"], &["batch", "3"]]).unwrap();
        sum([&["", "3"], &["batch", "3"]]).unwrap();
        sum([&["x_dynamic_axes_1", "3"], &["y_dynamic_axes_1", "3"]]).unwrap();
        sum([&["2", "s0"], &["s0"]]).unwrap();
        sum([&["2", "3"], &["2", "3"]]).unwrap();
    }

    #[test]
    fn several_open_sizes_are_refused_with_their_names() {
        assert_eq!(
            sum([&["batch", "3"], &["time", "3"]]).unwrap_err(),
            "input `y`, axis 0: expected the open size `batch` of input `x`, axis 0, as only the \
             batch may be open (export the others with a fixed size), found `time`"
        );
        let error = sum([&["batch", ""], &["batch", "batch"]]).unwrap_err();
        assert!(error.starts_with("input `x`, axis 1: expected a fixed size"), "{error}");
    }
}
