//! One action of common policies, from the observation's numbers to the action's.

use regoal::engine::Engine;
use regoal::onnx::{Tensor, Verified};
use regoal::rng::{Stream, stream};

use super::learning::{MLP, figures, mlp, normals};
use super::measure::{Contender, Figure, Unit, in_turns, latency_us, pinned};
use super::{Setup, peers};

/// A policy at batch 1 on one thread: the median against PyTorch's, and for the MLP the 99th percentile
/// against the time that its weights alone take to come out of the L2 cache.
pub fn act(setup: &Setup, model: &str) -> Vec<Figure> {
    let name = format!("act/{model}");
    let policy = match model {
        "mlp" => Some(mlp(&mut stream(1, Stream::Weights))),
        _ => peers::exported(model, 1),
    };
    let policy = match policy.map(Verified::try_from) {
        Some(Ok(policy)) => policy,
        Some(Err(error)) => {
            eprintln!("no {name}: {error}");
            return Vec::new();
        }
        None => {
            eprintln!("no {name}: the peers export the policy; run `tools/bench/run --setup`");
            return Vec::new();
        }
    };
    let engines: Vec<&Engine> = setup.engines().collect();
    let (peers, floor): (&[&'static str], _) = (&["torch-eager"], model == "mlp");
    let values = pinned(1, || {
        let ours = engines.iter().map(|engine| contender(engine, &policy));
        let theirs = peers.iter().map(|peer| peers::contender(peer, &name, 1));
        let floor = floor.then(l2_floor);
        in_turns(&mut ours.chain(theirs).chain(floor).collect::<Vec<_>>())
    });
    let of = |i: usize| values.iter().map(move |v| v.map(|v| v[i])).collect::<Vec<_>>();
    let typical = figures(&name, &engines, peers, &of(0)[..engines.len() + 1], Unit::Microseconds);
    if !floor {
        return typical;
    }
    // The 99th percentile of ours against the median of the floor.
    let mut rare = of(1);
    rare.truncate(engines.len());
    rare.push(of(0)[engines.len() + 1]);
    let name = format!("{name}/p99");
    let rare = figures(&name, &engines, &["floor"], &rare, Unit::Microseconds);
    typical.into_iter().chain(rare).collect()
}

fn contender<'a>(engine: &Engine, policy: &Verified) -> Contender<'a, 2> {
    let mut session = engine.load(policy).unwrap();
    let mut rng = stream(2, Stream::Training);
    let count = |dims: Vec<usize>| dims.iter().product::<usize>();
    let inputs: Vec<Vec<f32>> = session
        .inputs()
        .iter()
        .map(|input| normals(&mut rng, count(input.dims_at(1)), 1.0))
        .collect();
    let mut action = vec![0.0; count(session.outputs()[0].dims_at(1))];
    Box::new(move || {
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        Some(latency_us(|| session.run_into(&inputs, &mut action).unwrap()))
    })
}

/// Reading as many numbers as the MLP has weights, which the L2 cache holds and the L1 does not.
fn l2_floor() -> Contender<'static, 2> {
    let count = MLP.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum::<usize>();
    let weights = Tensor::zeros([count]).data;
    Box::new(move || {
        let read = || {
            let bits = std::hint::black_box(&weights).iter().map(|x| x.to_bits());
            std::hint::black_box(bits.fold(0, |a, b| a | b));
        };
        Some(latency_us(read))
    })
}
