//! Random graphs: whatever stands beside whatever, gradients are right. `REGOAL_GRAPHS` is how many,
//! `REGOAL_SEED` the first one's seed; a failure names its seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regoal::engine::Engine;
use regoal::onnx::proto::{AttributeProto, NodeProto};
use regoal::onnx::{Graph, Tensor};
use regoal::rng::{Rng, Stream, normal, seed_from, stream};

use crate::activation::REDUCTIONS;
use crate::check::{differentiated, exported, int, ints, node};
use crate::common::engines;
use crate::reference::{self, Array};

const NODES: u64 = 30;
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 2e-3;

#[test]
fn gradients_of_random_graphs_match_central_differences() {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let count: u64 = number("REGOAL_GRAPHS", 1_000);
    let first: u64 = number("REGOAL_SEED", 1);
    println!("{count} graphs from REGOAL_SEED={first}");
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let share = |job| {
            scope.spawn(move || Tally::of((first + job..first + count).step_by(jobs as usize)))
        };
        let running: Vec<_> = (0..jobs).map(share).collect();
        running.into_iter().map(|job| job.join().unwrap()).collect()
    });
    let worst = tallies.iter().fold(0.0f64, |worst, tally| worst.max(tally.worst));
    let bent: u64 = tallies.iter().map(|tally| tally.bent).sum();
    let mut used = BTreeMap::<&str, u64>::new();
    for (op, times) in tallies.iter().flat_map(|tally| &tally.used) {
        *used.entry(op).or_default() += times;
    }
    println!("worst relative error {worst:.1e}; {bent} graphs at a kink left out; {used:?}");
    assert!(4 * bent <= count + 4, "too many graphs are at a kink: {bent}");
}

#[derive(Default)]
struct Tally {
    worst: f64,
    /// Graphs at a kink.
    bent: u64,
    /// Nodes of each operator.
    used: BTreeMap<String, u64>,
}

impl Tally {
    fn of(seeds: impl Iterator<Item = u64>) -> Self {
        let (mut tally, engines) = (Self::default(), engines());
        for seed in seeds {
            let graph = Draft::new(seed).graph();
            match Slopes::of(&graph) {
                Some(slopes) => {
                    tally.worst = tally.worst.max(slopes.worst_error(seed, &graph, &engines));
                }
                None => tally.bent += 1,
            }
            for node in graph.nodes() {
                *tally.used.entry(node.op().into()).or_default() += 1;
            }
        }
        tally
    }
}

/// Central differences by every parameter.
struct Slopes(BTreeMap<String, Vec<f64>>);

impl Slopes {
    /// `None` at a kink, where the slopes from both sides differ: by half of that their mean is off.
    fn of(graph: &Graph) -> Option<Self> {
        let mut all = BTreeMap::new();
        for (name, tensor) in graph.parameters().unwrap() {
            let base =
                Array::new(&tensor.dims, tensor.data.iter().map(|x| f64::from(*x)).collect());
            let at = |i: usize, step: f64| {
                let mut moved = base.clone();
                moved.data[i] += step;
                reference::run(graph, &HashMap::from([(name.clone(), moved)]))["loss"].data[0]
            };
            let middle = at(0, 0.0);
            let sides = (0..base.data.len())
                .map(|i| ((at(i, STEP) - middle) / STEP, (middle - at(i, -STEP)) / STEP));
            let sides: Vec<(f64, f64)> = sides.collect();
            let scale = sides.iter().fold(1e-2f64, |m, (r, l)| m.max(r.abs()).max(l.abs()));
            if sides.iter().any(|(right, left)| (right - left).abs() > TOLERANCE * scale) {
                return None;
            }
            all.insert(name, sides.iter().map(|(right, left)| (right + left) / 2.0).collect());
        }
        Some(Self(all))
    }

    fn worst_error(&self, seed: u64, graph: &Graph, engines: &[Engine]) -> f64 {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let gradients = differentiated(graph, &names);
        let mut worst: f64 = 0.0;
        for engine in engines {
            let found = engine.load(&gradients).unwrap().run(&[]);
            let found = found.unwrap_or_else(|e| panic!("REGOAL_SEED={seed}: {engine}: {e}"));
            for ((name, want), found) in self.0.iter().zip(found) {
                let scale = want.iter().fold(1e-2f64, |m, x| m.max(x.abs()));
                let error = want
                    .iter()
                    .zip(&found.data)
                    .fold(0.0f64, |worst, (w, f)| worst.max((w - f64::from(*f)).abs() / scale));
                assert!(
                    error <= TOLERANCE,
                    "REGOAL_SEED={seed}: {engine}: gradient of {name} is off by {error:.1e}: {want:?} and {:?} in\n{}",
                    found.data,
                    graph.nodes().iter().map(|n| format!("{n:?}\n")).collect::<String>(),
                );
                worst = worst.max(error);
            }
        }
        worst
    }
}

const UNARY: [&str; 36] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Trilu",
];
const BINARY: [&str; 11] =
    ["Add", "Sub", "Mul", "Div", "LayerNormalization", "Max", "Min", "Mean", "Pow", "PRelu", "Sum"];
const PARAMETERS: &[(&str, &[usize])] = &[("a", &[2, 3]), ("b", &[3]), ("c", &[2, 1, 3])];

fn below(rng: &mut Rng, n: usize) -> usize {
    (seed_from(rng) % n as u64) as usize
}

/// A graph that grows by nodes whose values stay tame.
struct Draft {
    rng: Rng,
    opset: i64,
    nodes: Vec<NodeProto>,
    parameters: BTreeMap<String, Tensor>,
    /// Floats to draw from, with their values.
    values: Vec<(String, Array)>,
}

impl Draft {
    fn new(seed: u64) -> Self {
        let mut rng = stream(seed, Stream::Weights);
        let opset = [13, 15, 16, 17, 18, 20, 22][below(&mut rng, 7)];
        let mut draft = |dims: &[usize]| {
            let count = dims.iter().product();
            let data: Vec<f32> = (0..count).map(|_| normal(&mut rng) as f32).collect();
            Tensor::new(dims, data).unwrap()
        };
        let parameters: BTreeMap<String, Tensor> =
            PARAMETERS.iter().map(|(name, dims)| ((*name).to_owned(), draft(dims))).collect();
        let array = |t: &Tensor| Array::new(&t.dims, t.data.iter().map(|x| (*x).into()).collect());
        let values = parameters.iter().map(|(n, t)| (n.clone(), array(t))).collect();
        Self { rng, opset, nodes: Vec::new(), parameters, values }
    }

    /// The graph: its loss is the sum of the mean squares of all that nothing uses.
    fn graph(mut self) -> Graph {
        let wanted = PARAMETERS.len() + 1 + self.pick(NODES) as usize;
        for _ in 0..4 * NODES {
            if self.values.len() < wanted {
                self.grow();
            }
        }
        let used: BTreeSet<String> = self.nodes.iter().flat_map(|n| n.input.clone()).collect();
        let mut sums = Vec::new();
        for (name, _) in self.values.iter().filter(|(name, _)| !used.contains(name)) {
            let (square, mean) = (format!("{name}_square"), format!("{name}_mean"));
            let flat = vec![AttributeProto::int("keepdims", 0)];
            self.nodes.push(node("Mul", &[name, name], &square, vec![]));
            self.nodes.push(node("ReduceMean", &[&square], &mean, flat));
            sums.push(mean);
        }
        let sums: Vec<&str> = sums.iter().map(String::as_str).collect();
        self.nodes.push(node("Sum", &sums, "loss", vec![]));
        self.export(self.nodes.clone())
    }

    fn export(&self, nodes: Vec<NodeProto>) -> Graph {
        exported(self.opset, nodes, PARAMETERS).with_parameters(&self.parameters).unwrap()
    }

    fn pick(&mut self, n: u64) -> u64 {
        below(&mut self.rng, n as usize) as u64
    }

    /// Any value, or one of the newest, so that graphs grow deep as well as wide.
    fn value(&mut self) -> (String, Array) {
        let count = self.values.len();
        let from = if self.pick(2) == 0 { 0 } else { count - 3 };
        let i = from + below(&mut self.rng, count - from);
        self.values[i].clone()
    }

    /// Appends a node, unless its values would be wild.
    fn grow(&mut self) {
        let (name, x) = self.value();
        let y = format!("v{}", self.nodes.len());
        let candidate = match self.pick(6) {
            0 | 1 => self.unary(&name, &x, &y),
            2 | 3 => self.binary(&name, &x, &y),
            4 => self.reduction(&name, &x, &y),
            _ => self.arrangement(&name, &x, &y),
        };
        let Some(candidate) = candidate else { return };
        let nodes: Vec<NodeProto> = self.nodes.iter().cloned().chain(candidate).collect();
        let found = reference::run(&self.export(nodes.clone()), &HashMap::new());
        let value = &found[&y];
        let tame = |x: &f64| x.is_finite() && x.abs() < 6.0;
        if value.data.iter().all(tame) && value.data.len() <= 24 && value.dims.len() <= 4 {
            self.values.push((y, value.clone()));
            self.nodes = nodes;
        }
    }

    fn unary(&mut self, name: &str, x: &Array, y: &str) -> Option<Vec<NodeProto>> {
        let op = UNARY[below(&mut self.rng, UNARY.len())];
        let since = match op {
            "Gelu" => 20,
            "Mish" => 18,
            "HardSwish" | "Trilu" => 14,
            _ => 13,
        };
        let least = match op {
            "Trilu" => 2,
            "Softmax" | "LogSoftmax" => 1,
            _ => 0,
        };
        // Away from where the slope has no bound.
        let apart = match op {
            "Acos" | "Asin" | "Atanh" => x.data.iter().all(|x| x.abs() < 0.9),
            "Acosh" => x.data.iter().all(|x| *x > 1.1),
            "Log" | "Sqrt" => x.data.iter().all(|x| *x > 0.1),
            "Reciprocal" => x.data.iter().all(|x| x.abs() > 0.2),
            _ => true,
        };
        let fits = self.opset >= since && x.dims.len() >= least && apart;
        fits.then(|| vec![node(op, &[name], y, vec![])])
    }

    fn binary(&mut self, name: &str, x: &Array, y: &str) -> Option<Vec<NodeProto>> {
        let (other, z) = self.value();
        if self.pick(5) == 0 {
            let inner = x.dims.len() >= 2 && z.dims.len() == 2 && x.dims.last() == z.dims.first();
            return inner.then(|| vec![node("MatMul", &[name, &other], y, vec![])]);
        }
        let same = |(a, b): (&usize, &usize)| a == b || *a == 1 || *b == 1;
        let fits = x.dims.iter().rev().zip(z.dims.iter().rev()).all(same);
        let op = BINARY[below(&mut self.rng, BINARY.len())];
        let apart = match op {
            "Div" => z.data.iter().all(|x| x.abs() > 0.2),
            "Pow" => x.data.iter().all(|x| *x > 0.1),
            // One row for the last axis; a row of 2 is always normalised to -1 and 1.
            "LayerNormalization" => {
                let row = x.dims.last().is_some_and(|n| *n > 2 && z.dims == [*n]);
                row && self.opset >= 17
            }
            "PRelu" => x.dims.ends_with(&z.dims),
            _ => true,
        };
        (fits && apart).then(|| vec![node(op, &[name, &other], y, vec![])])
    }

    fn reduction(&mut self, name: &str, x: &Array, y: &str) -> Option<Vec<NodeProto>> {
        let op = REDUCTIONS[below(&mut self.rng, REDUCTIONS.len())];
        let rank = x.dims.len() as u64;
        if rank == 0 || (op == "ReduceLogSum" && x.data.iter().any(|x| *x < 0.1)) {
            return None;
        }
        let axes = [self.pick(2 * rank) as i64 - rank as i64];
        let mut attributes = vec![AttributeProto::int("keepdims", self.pick(2) as i64)];
        if op == "ReduceSum" || self.opset >= 18 {
            let list = format!("{y}_axes");
            return Some(vec![ints(&list, &axes), node(op, &[name, &list], y, attributes)]);
        }
        attributes.push(AttributeProto::ints("axes", &axes));
        Some(vec![node(op, &[name], y, attributes)])
    }

    fn arrangement(&mut self, name: &str, x: &Array, y: &str) -> Option<Vec<NodeProto>> {
        let rank = x.dims.len();
        if rank == 0 {
            return None;
        }
        let axis = self.pick(rank as u64) as usize;
        let on_axis = vec![AttributeProto::int("axis", axis as i64)];
        let list = |what: &str| format!("{y}_{what}");
        let ones = |value: i64| (0..rank).map(move |i| if i == axis { value } else { 1 });
        Some(match self.pick(9) {
            0 => {
                let order: Vec<i64> = (0..rank as i64).rev().collect();
                vec![node("Transpose", &[name], y, vec![AttributeProto::ints("perm", &order)])]
            }
            1 => vec![
                ints(&list("shape"), &[-1, x.dims[axis] as i64]),
                node("Reshape", &[name, &list("shape")], y, vec![]),
            ],
            2 => {
                let step = [1, 2, -1, -2][self.pick(4) as usize];
                let (start, end) = if step > 0 { (0, i64::MAX) } else { (-1, i64::MIN) };
                let inputs = [name, &list("start"), &list("end"), &list("axis"), &list("step")];
                vec![
                    ints(&list("start"), &[start]),
                    ints(&list("end"), &[end]),
                    ints(&list("axis"), &[axis as i64]),
                    ints(&list("step"), &[step]),
                    node("Slice", &inputs, y, vec![]),
                ]
            }
            3 => {
                let n = x.dims[axis] as u64;
                let picked: Vec<i64> = (0..3).map(|_| self.pick(n) as i64).collect();
                vec![
                    ints(&list("indices"), &picked),
                    node("Gather", &[name, &list("indices")], y, on_axis),
                ]
            }
            4 => {
                let copies: Vec<i64> = ones(2).collect();
                vec![
                    ints(&list("copies"), &copies),
                    node("Tile", &[name, &list("copies")], y, vec![]),
                ]
            }
            5 => {
                let pads: Vec<i64> = ones(2).map(|n| n - 1).chain(vec![0; rank]).collect();
                vec![ints(&list("pads"), &pads), node("Pad", &[name, &list("pads")], y, vec![])]
            }
            6 => vec![node("Concat", &[name, name], y, on_axis)],
            7 => {
                let flags = ["exclusive", "reverse"]
                    .map(|name| AttributeProto::int(name, self.pick(2) as i64));
                let inputs = [name, &list("axis")];
                vec![int(&list("axis"), axis as i64), node("CumSum", &inputs, y, flags.to_vec())]
            }
            _ => vec![
                ints(&list("axis"), &[0]),
                node("Unsqueeze", &[name, &list("axis")], y, vec![]),
            ],
        })
    }
}
