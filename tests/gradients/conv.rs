//! Convolution, pooling and the normalisations that go with them.

use std::collections::HashMap;

use prost::Message as _;
use regoal::onnx::proto::{AttributeProto, ModelProto};
use regoal::onnx::{Builder, Dim, Graph, Tensor, Value, Verified, expand, grad};

use crate::check::{differentiated, exported, node, random, worst_error};
use crate::common::engines;

/// An operator's name, attributes, the dims of its inputs `a`, `b`, `c` and those of its output.
struct Case {
    op: &'static str,
    ints: &'static [(&'static str, &'static [i64])],
    text: &'static [(&'static str, &'static str)],
    inputs: &'static [&'static [usize]],
    output: &'static [usize],
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Case {
    fn name(&self) -> String {
        format!("{} {:?} {:?} of {:?}", self.op, self.ints, self.text, self.inputs)
    }

    fn wrt(&self) -> &[&'static str] {
        &NAMES[..self.inputs.len()]
    }

    /// The sum of the squares of the output, each with its own weight.
    fn loss(&self, opset: i64) -> Graph {
        let single = ["group", "count_include_pad", "ceil_mode", "blocksize", "num_groups", "axis"];
        let attribute = |(name, values): &(&str, &[i64])| match single.contains(name) {
            true => AttributeProto::int(name, values[0]),
            false => AttributeProto::ints(name, values),
        };
        let text = self.text.iter().map(|(name, value)| AttributeProto::string(name, value));
        let attributes = self.ints.iter().map(attribute).chain(text).collect();
        let mut parameters: Vec<(&str, &[usize])> =
            NAMES.into_iter().zip(self.inputs.iter().copied()).collect();
        parameters.push(("weights", self.output));
        let nodes = vec![
            node(self.op, self.wrt(), "y", attributes),
            node("Mul", &["y", "weights"], "weighted", vec![]),
            node("Mul", &["weighted", "y"], "square", vec![]),
            node("ReduceSum", &["square"], "loss", vec![AttributeProto::int("keepdims", 0)]),
        ];
        exported(opset, nodes, &parameters)
    }
}

const fn conv(
    ints: &'static [(&'static str, &'static [i64])],
    inputs: &'static [&'static [usize]],
    output: &'static [usize],
) -> Case {
    Case { op: "Conv", ints, text: &[], inputs, output }
}

const CONVOLUTIONS: &[Case] = &[
    conv(&[], &[&[2, 2, 5, 4], &[3, 2, 3, 2], &[3]], &[2, 3, 3, 3]),
    conv(
        &[("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])],
        &[&[2, 2, 5, 6], &[3, 2, 3, 3], &[3]],
        &[2, 3, 3, 3],
    ),
    conv(
        &[("strides", &[3, 2]), ("pads", &[0, 2, 1, 0]), ("kernel_shape", &[2, 3])],
        &[&[1, 2, 7, 6], &[2, 2, 2, 3]],
        &[1, 2, 3, 3],
    ),
    conv(
        &[("dilations", &[2, 1]), ("strides", &[1, 2])],
        &[&[2, 1, 6, 5], &[2, 1, 3, 2], &[2]],
        &[2, 2, 2, 2],
    ),
    // Groups, and a group for each channel.
    conv(&[("group", &[2])], &[&[2, 4, 4, 4], &[6, 2, 3, 3], &[6]], &[2, 6, 2, 2]),
    conv(
        &[("group", &[3]), ("pads", &[1, 1, 1, 1]), ("strides", &[2, 1])],
        &[&[2, 3, 4, 4], &[3, 1, 3, 3], &[3]],
        &[2, 3, 2, 4],
    ),
    // A kernel of 1, with a stride; enough channels for a product for each element.
    conv(&[("strides", &[2, 2])], &[&[2, 2, 4, 5], &[3, 2, 1, 1], &[3]], &[2, 3, 2, 3]),
    conv(&[("pads", &[1, 1, 1, 1])], &[&[1, 16, 2, 2], &[1, 16, 3, 3], &[1]], &[1, 1, 2, 2]),
    conv(&[("group", &[2])], &[&[2, 32, 2, 2], &[2, 16, 2, 1]], &[2, 2, 1, 2]),
    // Padding on one side only; one and three axes.
    conv(&[("pads", &[4, 0])], &[&[2, 2, 6], &[3, 2, 5], &[3]], &[2, 3, 6]),
    conv(&[("strides", &[2]), ("pads", &[1, 1])], &[&[2, 2, 6], &[3, 2, 3], &[3]], &[2, 3, 3]),
    conv(
        &[("pads", &[1, 0, 0, 0, 0, 1]), ("strides", &[1, 2, 1])],
        &[&[2, 1, 3, 4, 2], &[2, 1, 2, 2, 2], &[2]],
        &[2, 2, 3, 2, 2],
    ),
    Case {
        op: "Conv",
        ints: &[("strides", &[2, 2])],
        text: &[("auto_pad", "SAME_UPPER")],
        inputs: &[&[1, 2, 5, 4], &[2, 2, 3, 3], &[2]],
        output: &[1, 2, 3, 2],
    },
    Case {
        op: "Conv",
        ints: &[],
        text: &[("auto_pad", "SAME_LOWER")],
        inputs: &[&[1, 2, 4, 4], &[2, 2, 2, 2]],
        output: &[1, 2, 4, 4],
    },
    Case {
        op: "Conv",
        ints: &[],
        text: &[("auto_pad", "VALID")],
        inputs: &[&[1, 2, 4], &[2, 2, 3]],
        output: &[1, 2, 2],
    },
];

const fn transposed(
    ints: &'static [(&'static str, &'static [i64])],
    inputs: &'static [&'static [usize]],
    output: &'static [usize],
) -> Case {
    Case { op: "ConvTranspose", ints, text: &[], inputs, output }
}

const TRANSPOSED: &[Case] = &[
    transposed(&[], &[&[2, 2, 3, 2], &[2, 3, 2, 3], &[3]], &[2, 3, 4, 4]),
    transposed(
        &[("strides", &[2, 2]), ("pads", &[1, 1, 1, 1]), ("output_padding", &[1, 1])],
        &[&[2, 2, 3, 3], &[2, 3, 3, 3], &[3]],
        &[2, 3, 6, 6],
    ),
    transposed(
        &[("strides", &[2, 3]), ("pads", &[0, 1, 1, 0]), ("output_padding", &[0, 2])],
        &[&[1, 2, 3, 2], &[2, 2, 3, 4]],
        &[1, 2, 6, 8],
    ),
    transposed(
        &[("group", &[2]), ("strides", &[2, 1]), ("dilations", &[1, 2])],
        &[&[2, 4, 2, 3], &[4, 2, 2, 2], &[4]],
        &[2, 4, 4, 5],
    ),
    transposed(
        &[("strides", &[2]), ("pads", &[1, 1])],
        &[&[2, 3, 4], &[3, 2, 4], &[2]],
        &[2, 2, 8],
    ),
];

const fn pool(
    op: &'static str,
    ints: &'static [(&'static str, &'static [i64])],
    input: &'static [&'static [usize]],
    output: &'static [usize],
) -> Case {
    Case { op, ints, text: &[], inputs: input, output }
}

const POOLS: &[Case] = &[
    pool(
        "MaxPool",
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])],
        &[&[2, 3, 4, 6]],
        &[2, 3, 2, 3],
    ),
    pool(
        "MaxPool",
        &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])],
        &[&[2, 3, 5, 6]],
        &[2, 3, 3, 3],
    ),
    pool("MaxPool", &[("kernel_shape", &[3, 2])], &[&[1, 2, 5, 4]], &[1, 2, 3, 3]),
    pool(
        "MaxPool",
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])],
        &[&[2, 2, 5, 5]],
        &[2, 2, 2, 2],
    ),
    pool(
        "MaxPool",
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("ceil_mode", &[1])],
        &[&[2, 2, 5, 5]],
        &[2, 2, 3, 3],
    ),
    pool("MaxPool", &[("kernel_shape", &[2]), ("dilations", &[2])], &[&[2, 2, 6]], &[2, 2, 4]),
    pool("MaxPool", &[("kernel_shape", &[3]), ("strides", &[3])], &[&[2, 2, 6]], &[2, 2, 2]),
    pool(
        "AveragePool",
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])],
        &[&[2, 2, 4, 6]],
        &[2, 2, 2, 3],
    ),
    pool(
        "AveragePool",
        &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])],
        &[&[2, 2, 5, 6]],
        &[2, 2, 3, 3],
    ),
    pool(
        "AveragePool",
        &[
            ("kernel_shape", &[3, 3]),
            ("strides", &[2, 2]),
            ("pads", &[1, 1, 1, 1]),
            ("count_include_pad", &[1]),
        ],
        &[&[2, 2, 5, 6]],
        &[2, 2, 3, 3],
    ),
    pool("AveragePool", &[("kernel_shape", &[3])], &[&[2, 2, 6]], &[2, 2, 4]),
    pool(
        "AveragePool",
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("ceil_mode", &[1])],
        &[&[2, 2, 5, 5]],
        &[2, 2, 3, 3],
    ),
    pool("GlobalAveragePool", &[], &[&[2, 3, 3, 2]], &[2, 3, 1, 1]),
    pool("GlobalMaxPool", &[], &[&[2, 3, 3, 2]], &[2, 3, 1, 1]),
    pool("GlobalAveragePool", &[], &[&[2, 3, 4]], &[2, 3, 1]),
];

const NORMALISATIONS: &[Case] = &[
    pool("InstanceNormalization", &[], &[&[2, 3, 2, 4], &[3], &[3]], &[2, 3, 2, 4]),
    pool("InstanceNormalization", &[], &[&[2, 3, 5], &[3], &[3]], &[2, 3, 5]),
];

const BLOCKS: &[Case] = &[
    pool("DepthToSpace", &[("blocksize", &[2])], &[&[2, 8, 2, 3]], &[2, 2, 4, 6]),
    Case {
        op: "DepthToSpace",
        ints: &[("blocksize", &[2])],
        text: &[("mode", "CRD")],
        inputs: &[&[2, 8, 2, 3]],
        output: &[2, 2, 4, 6],
    },
    pool("SpaceToDepth", &[("blocksize", &[2])], &[&[2, 2, 4, 6]], &[2, 8, 2, 3]),
];

/// Checks the cases, and that the parameters being inputs, as in training, changes nothing.
fn check(family: &str, opsets: &[i64], cases: &[Case]) {
    let mut worst: f64 = 0.0;
    for opset in opsets {
        for case in cases {
            let loss = case.loss(*opset);
            worst = worst.max(worst_error(&case.name(), &loss, case.wrt(), &HashMap::new()));
            same_with_inputs(&case.name(), &loss, case.wrt());
        }
    }
    println!("{family}: {} cases, worst relative error of a gradient {worst:.1e}", cases.len());
}

fn same_with_inputs(name: &str, loss: &Graph, wrt: &[&str]) {
    let stored = loss.parameters().unwrap();
    let mut b = Builder::with_opset(loss.opset());
    let values: Vec<Value> = wrt
        .iter()
        .map(|n| {
            let dims: Vec<Dim> = stored[*n].dims.iter().map(|d| Dim::Fixed(*d)).collect();
            b.input(n, &dims)
        })
        .collect();
    let bound: Vec<(&str, Value)> = wrt.iter().copied().zip(values.iter().copied()).collect();
    let out = b.append(loss, &bound).unwrap()[0];
    let gradients = grad::gradients(&mut b, out, &values).unwrap();
    for (n, gradient) in wrt.iter().zip(gradients) {
        b.output(&format!("d_{n}"), gradient.unwrap());
    }
    let fed = Verified::try_from(b.finish().unwrap()).unwrap();
    let feed: Vec<(&str, &[usize], &[f32])> =
        wrt.iter().map(|n| (*n, stored[*n].dims.as_slice(), stored[*n].data.as_slice())).collect();
    for engine in engines() {
        let want = engine.load(&differentiated(loss, wrt)).unwrap().run(&[]).unwrap();
        let found = engine.load(&fed).unwrap().run(&feed).unwrap();
        for (want, found) in want.iter().zip(&found) {
            let scale = want.data.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            let off = want.data.iter().zip(&found.data).map(|(w, f)| (w - f).abs() / scale);
            let off = off.fold(0.0, f32::max);
            assert!(off <= 1e-5, "{engine}: {name}: off by {off:.1e} with inputs");
        }
    }
}

#[test]
fn gradients_of_convolutions_match_central_differences() {
    check("Conv", &[13], CONVOLUTIONS);
    check("Conv", &[22], &CONVOLUTIONS[..2]);
}

#[test]
fn gradients_of_transposed_convolutions_match_central_differences() {
    check("ConvTranspose", &[18], TRANSPOSED);
}

#[test]
fn gradients_of_pools_match_central_differences() {
    check("pools", &[18], POOLS);
}

#[test]
fn gradients_of_blocks_match_central_differences() {
    check("blocks", &[13], BLOCKS);
}

#[test]
fn gradients_of_normalisations_over_channels_match_central_differences() {
    check("InstanceNormalization", &[13, 18], NORMALISATIONS);
    let groups = |scales: &'static [&'static [usize]]| {
        pool("GroupNormalization", &[("num_groups", &[2])], scales, &[2, 4, 3, 2])
    };
    check("GroupNormalization", &[18], &[groups(&[&[2, 4, 3, 2], &[2], &[2]])]);
    check("GroupNormalization", &[21], &[groups(&[&[2, 4, 3, 2], &[4], &[4]])]);
}

#[test]
fn gradients_of_frozen_batch_normalisation_match_central_differences() {
    let nodes = vec![
        node("Exp", &["d"], "variance", vec![]),
        node("BatchNormalization", &["a", "b", "c", "mean", "variance"], "y", vec![]),
        node("Mul", &["y", "weights"], "weighted", vec![]),
        node("Mul", &["weighted", "y"], "square", vec![]),
        node("ReduceSum", &["square"], "loss", vec![AttributeProto::int("keepdims", 0)]),
    ];
    let image: &[usize] = &[2, 3, 2, 2];
    let parameters: &[(&str, &[usize])] =
        &[("a", image), ("b", &[3]), ("c", &[3]), ("mean", &[3]), ("d", &[3]), ("weights", image)];
    let loss = exported(17, nodes, parameters);
    let worst = worst_error("BatchNormalization", &loss, &["a", "b", "c"], &HashMap::new());
    println!("BatchNormalization: worst relative error of a gradient {worst:.1e}");

    // As it is trained: with scale and bias as inputs.
    let expanded = expand(&loss).unwrap();
    assert_eq!(expand(&expanded).unwrap(), expanded);
    let worst = worst_error("expanded", &expanded, &["a", "b", "c"], &HashMap::new());
    println!("BatchNormalization, expanded: worst relative error of a gradient {worst:.1e}");
    same_with_inputs("BatchNormalization", &expanded, &["a", "b", "c"]);

    let mut b = Builder::with_opset(17);
    let out = b.append(&loss, &[]).unwrap()[0];
    let mean = b.value("mean").unwrap();
    let refusal = grad::gradients(&mut b, out, &[mean]).unwrap_err().to_string();
    assert!(
        refusal.starts_with("value `mean`: expected running mean and variance frozen"),
        "{refusal}"
    );
}

#[test]
fn equal_largest_elements_share_the_gradient_of_a_max_pool() {
    // Windows (3 3) and (1 2); with a stride of 1 also (3 1) between them.
    for (stride, want) in [(2, [0.5, 0.5, 0.0, 1.0]), (1, [0.5, 1.5, 0.0, 1.0])] {
        let image = Tensor::new([1, 1, 4], [3.0, 3.0, 1.0, 2.0]).unwrap();
        let mut nodes = vec![node(
            "MaxPool",
            &["a"],
            "y",
            vec![
                AttributeProto::ints("kernel_shape", &[2]),
                AttributeProto::ints("strides", &[stride]),
            ],
        )];
        nodes.push(node("ReduceSum", &["y"], "loss", vec![AttributeProto::int("keepdims", 0)]));
        let loss = exported(18, nodes, &[("a", &[1, 1, 4])]);
        let loss = loss.with_parameters(&[("a".to_owned(), image)].into()).unwrap();
        for engine in engines() {
            let found = engine.load(&differentiated(&loss, &["a"])).unwrap().run(&[]).unwrap();
            assert_eq!(found[0].data, want, "{engine}");
        }
    }
}

#[test]
fn gradients_of_a_gradient_through_convolutions_match_central_differences() {
    // A gradient penalty on images: the sum of the squares of d score / d x.
    let mut b = Builder::new();
    let x = b.parameter("x", random(&[2, 1, 4, 4], 1));
    let (w, c) = (b.parameter("w", random(&[2, 1, 3, 3], 2)), b.parameter("c", random(&[2], 3)));
    let v = b.parameter("v", random(&[8, 1], 4));
    let policy = exported(
        Builder::OPSET,
        vec![
            node(
                "Conv",
                &["a", "b", "c"],
                "h",
                vec![
                    AttributeProto::ints("strides", &[2, 2]),
                    AttributeProto::ints("pads", &[1, 1, 1, 1]),
                ],
            ),
            node("Tanh", &["h"], "t", vec![]),
            node("ReduceSum", &["t"], "score", vec![AttributeProto::int("keepdims", 0)]),
        ],
        &[("a", &[2, 1, 4, 4]), ("b", &[2, 1, 3, 3]), ("c", &[2])],
    );
    let mut policy = ModelProto::decode(policy.to_bytes().as_slice()).unwrap();
    policy.graph.as_mut().unwrap().output[0].name = Some("score".into());
    let policy = Graph::from_bytes(&policy.encode_to_vec()).unwrap();
    let score = b.append(&policy, &[("a", x), ("b", w), ("c", c)]).unwrap()[0];
    let slope = grad::gradients(&mut b, score, &[x]).unwrap()[0].unwrap();
    let slope = b.reshape(slope, &[4, 8]);
    let norm = b.matmul(slope, v);
    let square = b.mul(norm, norm);
    let loss = b.reduce_sum(square, &[], false);
    b.output("loss", loss);
    let wrt = ["x", "w", "c", "v"];
    let worst = worst_error("penalty", &b.finish().unwrap(), &wrt, &HashMap::new());
    println!("second derivatives through Conv: worst relative error {worst:.1e}");
}

#[test]
fn what_no_window_and_no_training_can_be_is_refused_with_the_reason() {
    let refusal = |op: &str, attributes: Vec<AttributeProto>, shapes: &[&[usize]]| {
        let names = ["a", "b", "c", "d", "e"];
        let parameters: Vec<(&str, &[usize])> =
            names.into_iter().zip(shapes.iter().copied()).collect();
        let loss =
            exported(18, vec![node(op, &names[..shapes.len()], "loss", attributes)], &parameters);
        Verified::try_from(loss).unwrap_err().to_string()
    };
    let ints = AttributeProto::ints;
    let image: &[usize] = &[1, 2, 4, 4];
    let cases = [
        (
            refusal("Conv", vec![ints("strides", &[0, 1])], &[image, &[2, 2, 3, 3]]),
            "attribute `strides`: expected 1 to 4096, found 0",
        ),
        (
            refusal("Conv", vec![ints("dilations", &[i64::MAX; 2])], &[image, &[2, 2, 3, 3]]),
            "attribute `dilations`: expected 1 to 4096",
        ),
        (refusal("Conv", vec![], &[image, &[2, 2, 5, 5]]), "expected a window that fits the image"),
        (refusal("Conv", vec![], &[image, &[2, 3, 3, 3]]), "channels a group and 1 groups"),
        (
            refusal("ConvTranspose", vec![ints("output_shape", &[9, 9])], &[image, &[2, 2, 3, 3]]),
            "expected pads and output_padding, found output_shape or auto_pad",
        ),
        (
            refusal(
                "MaxPool",
                vec![ints("kernel_shape", &[2, 2]), ints("pads", &[2; 4])],
                &[image],
            ),
            "expected padding less than the window of 2, found 2",
        ),
        (
            refusal(
                "BatchNormalization",
                vec![AttributeProto::int("training_mode", 1)],
                &[image, &[2], &[2], &[2], &[2]],
            ),
            "export the policy after model.eval(), found 1",
        ),
        (
            refusal("DepthToSpace", vec![AttributeProto::int("blocksize", 0)], &[image]),
            "attribute `blocksize`: expected 1 to 65536, found 0",
        ),
    ];
    for (found, says) in cases {
        assert!(found.contains(says), "{found}\nshould say\n{says}");
    }
}
