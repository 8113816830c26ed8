//! Small graphs of every family of operators, and the files of `tests/corpus` and `tests/data`:
//! what the campaign damages.

use prost::Message as _;
use regoal::onnx::Verified;
use regoal::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
    data_type,
};

/// Files larger than this are mostly weights: damage would hit nothing else.
const LARGEST: u64 = 64 << 10;

pub struct Seed {
    pub name: String,
    pub model: ModelProto,
}

/// All seeds that verify. What this program cannot read yet is said and left out.
pub fn all() -> Vec<Seed> {
    let mut seeds = built();
    for folder in ["tests/data", "tests/corpus", "models/reach"] {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = files.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
            if path.metadata().unwrap().len() <= LARGEST {
                let model = ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
                seeds.push(Seed { name: path.display().to_string(), model });
            }
        }
    }
    seeds.retain(|seed| match Verified::from_bytes(&seed.model.encode_to_vec()) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("not a seed: {}: {error}", seed.name);
            false
        }
    });
    seeds
}

/// A graph of one input `x`, the last value of which is the output.
struct Draft {
    graph: GraphProto,
    opset: i64,
}

impl Draft {
    fn new(opset: i64, dims: &[i64]) -> Self {
        let graph = GraphProto { input: vec![value("x", dims)], ..GraphProto::default() };
        Self { graph, opset }
    }

    /// An f32 initializer with elements around 0.5.
    fn weight(mut self, name: &str, dims: &[i64]) -> Self {
        let count = dims.iter().product::<i64>();
        let data = (0..count).flat_map(|i| (0.5 - (i % 7) as f32 / 10.0).to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, data_type::FLOAT, dims, data));
        self
    }

    fn ints(mut self, name: &str, values: &[i64]) -> Self {
        let data = values.iter().flat_map(|n| n.to_le_bytes()).collect();
        let dims = [values.len() as i64];
        self.graph.initializer.push(tensor(name, data_type::INT64, &dims, data));
        self
    }

    /// A node: `"y z = Op a b"`.
    fn node(mut self, text: &str, attribute: Vec<AttributeProto>) -> Self {
        let (outputs, rest) = text.split_once(" = ").unwrap();
        let words = |text: &str| -> Vec<String> {
            text.split(' ').map(|w| if w == "_" { String::new() } else { w.to_owned() }).collect()
        };
        let mut rest = words(rest).into_iter();
        self.graph.node.push(NodeProto {
            op_type: rest.next(),
            input: rest.collect(),
            output: words(outputs),
            attribute,
            ..NodeProto::default()
        });
        self
    }

    /// The graph with the output `y` of these dims.
    fn output(mut self, name: &str, dims: &[i64]) -> Seed {
        self.graph.output = vec![value("y", dims)];
        self.graph.name = Some(name.into());
        let opset = OperatorSetIdProto { domain: None, version: Some(self.opset) };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Seed { name: name.into(), model }
    }
}

fn tensor(name: &str, kind: i32, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(kind),
        dims: dims.to_vec(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// An f32 value; -1 is the batch.
fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| match d {
        -1 => DimensionProto { dim_param: Some("batch".into()), ..DimensionProto::default() },
        n => DimensionProto { dim_value: Some(*n), ..DimensionProto::default() },
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(data_type::FLOAT), shape });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto::int(name, value)
}

fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto::ints(name, values)
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        s: Some(value.into()),
        r#type: Some(attribute_type::STRING),
        ..AttributeProto::default()
    }
}

fn built() -> Vec<Seed> {
    let mut seeds = activations();
    seeds.extend([mlp(), attention(), arrangement(), dynamic_batch(), reductions(), selection()]);
    seeds.extend([convolution(), transposed_convolution(), gru(), lstm(), einsum()]);
    seeds
}

fn activations() -> Vec<Seed> {
    let ops = [
        "Relu",
        "Elu",
        "LeakyRelu",
        "Gelu",
        "Mish",
        "Tanh",
        "Softplus",
        "Sigmoid",
        "Softmax",
        "LogSoftmax",
        "Clip",
        "HardSigmoid",
        "Erf",
        "Exp",
        "Neg",
        "Abs",
        "Sqrt",
    ];
    let chain = |op: &&str| {
        let draft = Draft::new(20, &[-1, 3]).node(&format!("h = {op} x"), vec![]);
        draft.node("y = Add h x", vec![]).output(op, &[-1, 3])
    };
    ops.iter().map(chain).collect()
}

fn mlp() -> Seed {
    Draft::new(18, &[-1, 3])
        .weight("w0", &[4, 3])
        .weight("b0", &[4])
        .weight("scale", &[4])
        .weight("w1", &[4, 2])
        .node("h0 = Gemm x w0 b0", vec![int("transB", 1), AttributeProto::float("alpha", 0.5)])
        .node("h1 = LayerNormalization h0 scale b0", vec![int("axis", -1)])
        .node("h2 = Tanh h1", vec![])
        .node("y = MatMul h2 w1", vec![])
        .output("mlp", &[-1, 2])
}

fn attention() -> Seed {
    Draft::new(18, &[-1, 4, 6])
        .weight("w", &[6, 6])
        .ints("split", &[0, 0, 2, 3])
        .ints("whole", &[0, 0, 6])
        .node("p = MatMul x w", vec![])
        .node("r = Reshape p split", vec![])
        .node("q = Transpose r", vec![list("perm", &[0, 2, 1, 3])])
        .node("k = Transpose r", vec![list("perm", &[0, 2, 3, 1])])
        .node("s = MatMul q k", vec![])
        .node("a = Softmax s", vec![int("axis", -1)])
        .node("o = MatMul a q", vec![])
        .node("t = Transpose o", vec![list("perm", &[0, 2, 1, 3])])
        .node("y = Reshape t whole", vec![])
        .output("attention", &[-1, 4, 6])
}

fn arrangement() -> Seed {
    Draft::new(18, &[-1, 6])
        .ints("sizes", &[2, 4])
        .ints("zero", &[0])
        .ints("one", &[1])
        .ints("three", &[3])
        .node("a b = Split x sizes", vec![int("axis", 1)])
        .node("c = Concat b a", vec![int("axis", 1)])
        .node("d = Slice c zero three one one", vec![])
        .node("e = Unsqueeze d one", vec![])
        .node("f = Squeeze e one", vec![])
        .node("g = Flatten f", vec![])
        .node("y = Gather g zero", vec![int("axis", 1)])
        .output("arrangement", &[-1, 1])
}

fn dynamic_batch() -> Seed {
    Draft::new(17, &[-1, 4])
        .ints("zero", &[0])
        .ints("two", &[2])
        .node("shape = Shape x", vec![])
        .node("n = Gather shape zero", vec![])
        .node("twice = Mul two two", vec![])
        .node("half = Div twice two", vec![])
        .node("size = Concat n half half", vec![int("axis", 0)])
        .node("r = Reshape x size", vec![])
        .node("z = ConstantOfShape size", vec![])
        .node("s = Add r z", vec![])
        .node("e = Expand s size", vec![])
        .node("y = Reshape e shape", vec![])
        .output("dynamic batch", &[-1, 4])
}

fn reductions() -> Seed {
    Draft::new(13, &[-1, 3, 4])
        .ints("last", &[2])
        .node("m = ReduceMean x", vec![list("axes", &[1])])
        .node("d = Sub x m", vec![])
        .node("v = Mul d d", vec![])
        .node("s = ReduceSum v last", vec![int("keepdims", 0)])
        .node("y = ReduceMax s", vec![list("axes", &[1]), int("keepdims", 0)])
        .output("reductions", &[-1])
}

fn selection() -> Seed {
    Draft::new(18, &[-1, 4])
        .weight("zero", &[1])
        .weight("table", &[5, 4])
        .ints("which", &[1, -1])
        .ints("first", &[0])
        .node("p = Greater x zero", vec![])
        .node("n = Neg x", vec![])
        .node("w = Where p x n", vec![])
        .node("c = Cast p", vec![int("to", 1)])
        .node("e = Gather table which", vec![])
        .node("r = ReduceMean e first", vec![])
        .node("m = Max w c", vec![])
        .node("y = Add m r", vec![])
        .output("selection", &[-1, 4])
}

fn convolution() -> Seed {
    Draft::new(18, &[-1, 2, 6, 6])
        .weight("w", &[4, 1, 3, 3])
        .weight("b", &[4])
        .node(
            "c = Conv x w b",
            vec![int("group", 2), list("pads", &[1, 1, 1, 1]), list("strides", &[2, 2])],
        )
        .node("n = InstanceNormalization c b b", vec![])
        .node("p = MaxPool n", vec![list("kernel_shape", &[2, 2])])
        .node("a = AveragePool p", vec![list("kernel_shape", &[2, 2])])
        .node("g = GlobalAveragePool a", vec![])
        .node("y = Flatten g", vec![])
        .output("convolution", &[-1, 4])
}

fn transposed_convolution() -> Seed {
    Draft::new(18, &[-1, 2, 4])
        .weight("w", &[2, 3, 3])
        .node("y = ConvTranspose x w", vec![list("strides", &[2]), list("output_padding", &[1])])
        .output("transposed convolution", &[-1, 3, 10])
}

fn gru() -> Seed {
    Draft::new(18, &[3, -1, 2])
        .weight("w", &[1, 12, 2])
        .weight("r", &[1, 12, 4])
        .weight("b", &[1, 24])
        .node("y _ = GRU x w r b", vec![int("hidden_size", 4), int("linear_before_reset", 1)])
        .output("gru", &[3, 1, -1, 4])
}

fn lstm() -> Seed {
    Draft::new(18, &[3, -1, 2])
        .weight("w", &[1, 16, 2])
        .weight("r", &[1, 16, 4])
        .node("y _ _ = LSTM x w r", vec![int("hidden_size", 4), text("direction", "forward")])
        .output("lstm", &[3, 1, -1, 4])
}

fn einsum() -> Seed {
    Draft::new(18, &[-1, 3])
        .weight("w", &[3, 2])
        .node("y = Einsum x w", vec![text("equation", "bi,ij->bj")])
        .output("einsum", &[-1, 2])
}
