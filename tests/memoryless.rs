//! A graph has no memory of its own: what a recurrent layer knows at the end of one run is not there
//! at the begin of the next, on any engine.

mod common;

use prost::Message as _;
use regoal::onnx::proto::{AttributeProto, ModelProto, NodeProto, ValueInfoProto};
use regoal::onnx::{Builder, Dim, Graph, Tensor, Verified};

/// Steps, inputs, hidden size: long enough for tract's fused GRU.
const T: usize = 6;
const I: usize = 3;
const H: usize = 4;

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

/// `op` over `x` `[T, 1, I]` to its last state `[1, 1, H]`.
fn layer(op: &str, gates: usize, attributes: Vec<AttributeProto>) -> Verified {
    let wave = |dims: &[usize]| {
        let n = dims.iter().product::<usize>();
        Tensor::new(dims.to_vec(), (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>())
            .unwrap()
    };
    let mut b = Builder::new();
    b.input("x", &fixed(&[T, 1, I]));
    b.parameter("w", wave(&[1, gates * H, I]));
    b.parameter("r", wave(&[1, gates * H, H]));
    // A stand-in of the right shape, whose node is replaced.
    let h = b.parameter("h0", Tensor::zeros([1, 1, H]));
    let h = b.relu(h);
    b.output("h", h);
    let mut model = ModelProto::decode(b.finish().unwrap().to_bytes().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let name = |v: &ValueInfoProto| v.name.clone().unwrap();
    let last = name(&graph.output[0]);
    let mut attribute = attributes;
    attribute.push(AttributeProto::int("hidden_size", H as i64));
    let node = NodeProto {
        op_type: Some(op.into()),
        input: ["x", "w", "r"].map(String::from).to_vec(),
        output: vec!["y".into(), last.clone()],
        attribute,
        ..NodeProto::default()
    };
    let stand_in = graph.node.iter().position(|n| n.output.contains(&last)).unwrap();
    graph.node[stand_in] = node;
    Graph::from_bytes(&model.encode_to_vec()).unwrap().try_into().unwrap()
}

#[test]
fn a_recurrent_layer_starts_every_run_from_its_initial_state() {
    let before = |on| vec![AttributeProto::int("linear_before_reset", on)];
    let layers = [("LSTM", 4, vec![]), ("GRU", 3, before(0)), ("GRU", 3, before(1))];
    for (op, gates, attributes) in layers {
        let graph = layer(op, gates, attributes);
        for engine in common::engines() {
            let mut session = engine.load(&graph).unwrap();
            let mut run = |x: f32| {
                let mut h = [0.0; H];
                session.run_into(&[&[x; T * I]], &mut h).unwrap();
                h
            };
            let first = run(0.3);
            assert_ne!(run(-0.8), first, "{op} on {engine}");
            assert_eq!(run(0.3), first, "{op} on {engine}");
        }
    }
}
