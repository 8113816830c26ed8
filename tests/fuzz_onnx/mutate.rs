//! Damage to a model: to its structure, where a random bit would rarely hit, and to its bytes.

use prost::Message as _;
use rand::RngExt as _;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _};
use regoal::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto,
    TensorProto, ValueInfoProto, attribute_type, data_type,
};
use regoal::rng::Rng;

/// Numbers that break assumptions.
const ABSURD: [i64; 18] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    -8,
    8,
    255,
    65_537,
    1 << 20,
    1 << 31,
    -(1 << 31),
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

const OPS: [&str; 40] = [
    "Add",
    "Mul",
    "Div",
    "Mod",
    "Pow",
    "Gemm",
    "MatMul",
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "GRU",
    "LSTM",
    "LayerNormalization",
    "InstanceNormalization",
    "Softmax",
    "Gather",
    "Concat",
    "Slice",
    "Split",
    "Reshape",
    "Expand",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Pad",
    "Tile",
    "Resize",
    "Range",
    "Where",
    "Cast",
    "Clip",
    "ReduceSum",
    "ReduceMax",
    "ConstantOfShape",
    "Einsum",
    "CumSum",
    "If",
    "Loop",
    "Scan",
];

const ATTRIBUTES: [&str; 20] = [
    "axis",
    "axes",
    "perm",
    "keepdims",
    "group",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "output_padding",
    "hidden_size",
    "to",
    "alpha",
    "epsilon",
    "transA",
    "transB",
    "allowzero",
    "num_outputs",
    "ceil_mode",
    "fmod",
];

/// The bytes of a damaged model.
pub fn damaged(rng: &mut Rng, seed: &ModelProto, other: &ModelProto) -> Vec<u8> {
    let mut model = seed.clone();
    if rng.random_range(0..5) > 0 {
        for _ in 0..*[1, 1, 1, 2, 3, 6].choose(rng).unwrap() {
            structure(rng, &mut model, other);
        }
    }
    let mut bytes = model.encode_to_vec();
    if model == *seed || rng.random_range(0..10) == 0 {
        bytes_of(rng, &mut bytes, other);
    }
    bytes
}

fn structure(rng: &mut Rng, model: &mut ModelProto, other: &ModelProto) {
    if rng.random_range(0..20) == 0 {
        return file(rng, model);
    }
    let Some(graph) = &mut model.graph else { return };
    match rng.random_range(0..10) {
        0 => tensors(rng, graph),
        1 => contents(rng, graph),
        2 => edges(rng, graph),
        3 => nodes(rng, graph, other),
        4 | 5 => attributes(rng, graph),
        6 => {
            let lists = [&mut graph.input, &mut graph.output, &mut graph.value_info];
            lists.into_iter().for_each(|list| values(rng, list));
        }
        7 => bomb(rng, graph),
        8 => nesting(rng, graph),
        _ => swap_operator(rng, graph),
    }
}

fn absurd(rng: &mut Rng) -> i64 {
    match rng.random_range(0..3) {
        0 | 1 => rng.random_range(-2..6),
        _ => *ABSURD.choose(rng).unwrap(),
    }
}

fn file(rng: &mut Rng, model: &mut ModelProto) {
    let version = rng.random_range(-1..30);
    match rng.random_range(0..5) {
        0 => model.ir_version = Some(version),
        1 => model.opset_import.clear(),
        2 => model.opset_import.extend(model.opset_import.first().cloned()),
        3 => model.functions.push(Default::default()),
        _ => model.opset_import.iter_mut().for_each(|i| i.version = Some(version)),
    }
}

/// Dims, type, length and place of a stored tensor.
fn tensors(rng: &mut Rng, graph: &mut GraphProto) {
    let copy = graph.initializer.choose(rng).cloned();
    let size = absurd(rng);
    let Some(tensor) = graph.initializer.choose_mut(rng) else { return };
    match rng.random_range(0..10) {
        0 => tensor.dims.push(size),
        1 => drop(tensor.dims.pop()),
        2 => tensor.dims = vec![1 << 31; 8],
        3 => tensor.dims.iter_mut().for_each(|d| *d = size),
        4 => tensor.data_type = Some(rng.random_range(-1..25)),
        5 => {
            let mut raw = tensor.raw_data.take().unwrap_or_default().to_vec();
            raw.resize(rng.random_range(0..64), 7);
            tensor.raw_data = Some(raw.into());
        }
        6 => (tensor.raw_data, tensor.int64_data) = (None, vec![size; 3]),
        7 => external(tensor),
        8 => tensor.dims = vec![1 << 14; 2],
        _ => graph.initializer.extend(copy),
    }
}

fn external(tensor: &mut TensorProto) {
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    tensor.data_location = Some(1);
    tensor.external_data = vec![entry("location", "../../etc/passwd"), entry("offset", "0")];
}

/// The numbers in an integer constant: sizes, axes, indices.
fn contents(rng: &mut Rng, graph: &mut GraphProto) {
    let ints: Vec<usize> = (0..graph.initializer.len())
        .filter(|i| graph.initializer[*i].data_type == Some(data_type::INT64))
        .collect();
    let Some(at) = ints.choose(rng) else { return };
    let value = absurd(rng).to_le_bytes();
    if let Some(stored) = graph.initializer[*at].raw_data.as_mut().filter(|raw| raw.len() >= 8) {
        let start = 8 * rng.random_range(0..stored.len() / 8);
        let mut raw = stored.to_vec();
        raw[start..start + 8].copy_from_slice(&value);
        *stored = raw.into();
    }
}

/// Names: operands that are missing, given twice, unknown, or come from later nodes.
fn edges(rng: &mut Rng, graph: &mut GraphProto) {
    let mut names: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
    names.extend(graph.initializer.iter().filter_map(|t| t.name.clone()));
    names.extend([String::new(), "x".into(), "nobody".into()]);
    let name = names.choose(rng).cloned().unwrap();
    let Some(node) = graph.node.choose_mut(rng) else { return };
    match rng.random_range(0..7) {
        0 => drop(node.input.pop()),
        1 => node.input.push(name),
        2 => drop(node.output.pop()),
        3 => node.output.push(name),
        4 => node.output.iter_mut().for_each(|o| o.clone_from(&name)),
        _ => {
            if let Some(input) = node.input.choose_mut(rng) {
                *input = name;
            }
        }
    }
}

fn nodes(rng: &mut Rng, graph: &mut GraphProto, other: &ModelProto) {
    let (a, b) = (rng.random_range(0..graph.node.len().max(1)), rng.random_range(0..4));
    match b {
        0 if a < graph.node.len() => drop(graph.node.remove(a)),
        1 => graph.node.reverse(),
        2 => {
            let foreign = other.graph.as_ref().and_then(|g| g.node.choose(rng));
            graph.node.extend(foreign.cloned());
        }
        _ => {
            if let Some(node) = graph.node.get_mut(a) {
                node.domain = Some(["com.microsoft", "ai.onnx", "ai.onnx.ml"][b % 3].into());
            }
        }
    }
}

fn swap_operator(rng: &mut Rng, graph: &mut GraphProto) {
    let op = *OPS.choose(rng).unwrap();
    if let Some(node) = graph.node.choose_mut(rng) {
        node.op_type = Some(op.into());
    }
}

fn attributes(rng: &mut Rng, graph: &mut GraphProto) {
    let (number, name) = (absurd(rng), *ATTRIBUTES.choose(rng).unwrap());
    let Some(node) = graph.node.choose_mut(rng) else { return };
    let new = match rng.random_range(0..3) {
        0 => AttributeProto::int(name, number),
        1 => AttributeProto::float(
            name,
            [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45][number.rem_euclid(5) as usize],
        ),
        _ => AttributeProto::ints(name, &vec![number; rng.random_range(0..6)]),
    };
    match (rng.random_range(0..6), node.attribute.choose_mut(rng)) {
        (0, Some(old)) => old.i = Some(number),
        (1, Some(old)) => {
            let longest = *[0, 1, 3, 4, 9].choose(rng).unwrap();
            old.ints = vec![number; longest];
        }
        (2, Some(old)) => old.r#type = Some(rng.random_range(0..15)),
        (3, Some(old)) if !old.ints.is_empty() => {
            let at = rng.random_range(0..old.ints.len());
            old.ints[at] = number;
        }
        _ => node.attribute.push(new),
    }
}

fn values(rng: &mut Rng, list: &mut [ValueInfoProto]) {
    let size = absurd(rng);
    let Some(value) = list.choose_mut(rng) else { return };
    let Some(tensor) = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) else { return };
    match rng.random_range(0..5) {
        0 => tensor.elem_type = Some(rng.random_range(0..20)),
        1 => tensor.shape = None,
        _ => {
            let Some(shape) = &mut tensor.shape else { return };
            match rng.random_range(0..4) {
                0 => shape.dim.push(DimensionProto::default()),
                1 => drop(shape.dim.pop()),
                2 => shape.dim.iter_mut().for_each(|d| d.dim_param = Some(format!("s{size}"))),
                _ => shape.dim.iter_mut().for_each(|d| d.dim_value = Some(size)),
            }
        }
    }
}

/// A few nodes whose constants fold to more than there is memory.
fn bomb(rng: &mut Rng, graph: &mut GraphProto) {
    let size: Vec<u8> = [absurd(rng), absurd(rng)].iter().flat_map(|n| n.to_le_bytes()).collect();
    graph.initializer.push(TensorProto {
        name: Some("bomb".into()),
        data_type: Some(data_type::INT64),
        dims: vec![2],
        raw_data: Some(size.into()),
        ..TensorProto::default()
    });
    let node = |op: &str, inputs: &[&str], output: &str, attribute| NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    };
    let mut fuse = vec![node("ConstantOfShape", &["bomb"], "bang0", vec![])];
    for i in 0..rng.random_range(0..40) {
        let (from, to) = (format!("bang{i}"), format!("bang{}", i + 1));
        let axis = vec![AttributeProto::int("axis", i % 2)];
        fuse.push(match rng.random_range(0..4) {
            0 => node("Expand", &[&from, "bomb"], &to, vec![]),
            1 => node("Tile", &[&from, "bomb"], &to, vec![]),
            _ => node("Concat", &[&from, &from], &to, axis),
        });
    }
    graph.node.splice(0..0, fuse);
}

/// Graphs in graphs.
fn nesting(rng: &mut Rng, graph: &mut GraphProto) {
    let mut inner = GraphProto::default();
    for _ in 0..*[1, 3, 12, 200].choose(rng).unwrap() {
        let body = AttributeProto {
            name: Some("body".into()),
            g: Some(inner),
            r#type: Some(attribute_type::GRAPH),
            ..AttributeProto::default()
        };
        let node = NodeProto {
            op_type: Some("Loop".into()),
            attribute: vec![body],
            ..NodeProto::default()
        };
        inner = GraphProto { node: vec![node], ..GraphProto::default() };
    }
    graph.node.append(&mut inner.node);
}

/// Damage that knows nothing of ONNX.
fn bytes_of(rng: &mut Rng, bytes: &mut Vec<u8>, other: &ModelProto) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let count = rng.random_range(1..16).min(bytes.len() - at);
        match rng.random_range(0..10) {
            0 => bytes.truncate(at),
            1 => bytes[at] = 0xff,
            2 => drop(bytes.splice(at..at, vec![1; count])),
            3 => drop(bytes.drain(at..at + count)),
            4 => bytes.extend_from_within(at..at + count),
            5 => bytes.extend(other.encode_to_vec()),
            6 => {
                let again = bytes[at..at + count].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => bytes[at] ^= 1 << (count % 8),
        }
    }
}
