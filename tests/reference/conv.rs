//! Convolution, pooling and the normalisations that go with them.

use regoal::onnx::proto::NodeProto;

use super::{Array, broadcast, reduce, reshape, unravel};

/// The outputs of a node of this family.
pub fn evaluate(node: &NodeProto, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    let x = inputs.first().copied().flatten();
    let input = |i: usize| inputs[i].unwrap();
    let one = match node.op() {
        "Conv" => convolution(node, input(0), input(1), inputs.get(2).copied().flatten()),
        "ConvTranspose" => spread(node, input(0), input(1), inputs.get(2).copied().flatten()),
        "MaxPool" | "AveragePool" => pool(node, x?),
        "GlobalAveragePool" => reduce(x?, &spatial_axes(x?), true, true),
        "GlobalMaxPool" => {
            let [n, c, ..] = x?.dims[..] else { panic!("{:?}", x?.dims) };
            let ones = x?.dims.iter().skip(2).map(|_| 1);
            let dims: Vec<usize> = [n, c].into_iter().chain(ones).collect();
            let plane = x?.data.len() / (n * c);
            let largest = |p: &[f64]| p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            Array::new(&dims, x?.data.chunks(plane).map(largest).collect())
        }
        "InstanceNormalization" | "GroupNormalization" => groups(node, x?, input(1), input(2)),
        "BatchNormalization" => {
            let along = |v: &Array| column(v, x.unwrap().dims.len());
            let (scale, bias, mean, variance) =
                (along(input(1)), along(input(2)), along(input(3)), along(input(4)));
            let epsilon = epsilon(node);
            broadcast(&[x?, &scale, &bias, &mean, &variance], |v| {
                (v[0] - v[3]) / (v[4] + epsilon).sqrt() * v[1] + v[2]
            })
        }
        "DepthToSpace" => depth_to_space(node, x?),
        "SpaceToDepth" => {
            let b = node.int("blocksize").unwrap() as usize;
            let [n, c, h, w] = x?.dims[..] else { panic!("{:?}", x?.dims) };
            Array::build(&[n, c * b * b, h / b, w / b], |i| {
                let (block, channel) = (i[1] / c, i[1] % c);
                x.unwrap().at(&[i[0], channel, i[2] * b + block / b, i[3] * b + block % b])
            })
        }
        _ => return None,
    };
    Some(vec![one])
}

fn epsilon(node: &NodeProto) -> f64 {
    f64::from(node.float("epsilon").unwrap_or(1e-5))
}

fn spatial_axes(x: &Array) -> Vec<i64> {
    (2..x.dims.len() as i64).collect()
}

/// A vector along axis 1 of `rank` axes.
fn column(v: &Array, rank: usize) -> Array {
    let mut dims = vec![1; rank];
    dims[1] = v.data.len();
    Array::new(&dims, v.data.clone())
}

/// The element at `index`, `None` outside.
fn inside(x: &Array, index: &[i64]) -> Option<f64> {
    let within = index.iter().zip(&x.dims).all(|(i, n)| (0..*n as i64).contains(i));
    within.then(|| x.at(&index.iter().map(|i| *i as usize).collect::<Vec<_>>()))
}

/// Strides, dilations, and padding before and after each axis.
struct Slide {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    before: Vec<i64>,
    after: Vec<i64>,
}

impl Slide {
    fn of(node: &NodeProto, kernel: &[usize], sizes: &[usize]) -> Self {
        let rank = kernel.len();
        let list = |name, n, default| node.ints(name).map_or(vec![default; n], <[i64]>::to_vec);
        let (strides, dilations) = (list("strides", rank, 1), list("dilations", rank, 1));
        let pads = list("pads", 2 * rank, 0);
        let (mut before, mut after) = (pads[..rank].to_vec(), pads[rank..].to_vec());
        let auto = node.string("auto_pad").unwrap_or("NOTSET");
        if auto.starts_with("SAME") {
            for i in 0..rank {
                let (n, s) = (sizes[i] as i64, strides[i]);
                let windows = n / s + i64::from(n % s != 0);
                let all = (windows - 1) * s + (kernel[i] as i64 - 1) * dilations[i] + 1 - n;
                let (less, more) = (all.max(0) / 2, all.max(0) - all.max(0) / 2);
                (before[i], after[i]) =
                    if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
        }
        Self { strides, dilations, before, after }
    }

    /// Where element `k` of window `o` stands in the image.
    fn at(&self, axis: usize, o: usize, k: usize) -> i64 {
        o as i64 * self.strides[axis] + k as i64 * self.dilations[axis] - self.before[axis]
    }

    /// The windows that fit; with `over` also one that hangs over the end but starts before it.
    fn counts(&self, kernel: &[usize], sizes: &[usize], over: bool) -> Vec<usize> {
        let count = |i: usize| {
            let fits = |o: usize| {
                let (first, last) = (self.at(i, o, 0), self.at(i, o, kernel[i] - 1));
                let end = sizes[i] as i64 + self.after[i];
                let leaves_some = last - self.strides[i] < end - 1;
                last < end || (over && leaves_some && first < sizes[i] as i64)
            };
            (0..).take_while(|o| fits(*o)).count()
        };
        (0..kernel.len()).map(count).collect()
    }
}

fn every(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..dims.iter().product()).map(|flat| unravel(flat, dims))
}

fn convolution(node: &NodeProto, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let (kernel, sizes) = (&w.dims[2..], &x.dims[2..]);
    let slide = Slide::of(node, kernel, sizes);
    let groups = node.int("group").unwrap_or(1) as usize;
    let (maps, each) = (w.dims[0], w.dims[1]);
    let mut dims = vec![x.dims[0], maps];
    dims.extend(slide.counts(kernel, sizes, false));
    Array::build(&dims, |o| {
        let first = o[1] / (maps / groups) * each;
        let mut sum = bias.map_or(0.0, |b| b.data[o[1]]);
        for c in 0..each {
            for k in every(kernel) {
                let mut from = vec![o[0] as i64, (first + c) as i64];
                from.extend((0..k.len()).map(|i| slide.at(i, o[2 + i], k[i])));
                let weight: Vec<usize> = [o[1], c].into_iter().chain(k).collect();
                sum += inside(x, &from).unwrap_or(0.0) * w.at(&weight);
            }
        }
        sum
    })
}

/// The transposed convolution: each element of `x` is spread over its window.
fn spread(node: &NodeProto, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let (kernel, sizes) = (&w.dims[2..], &x.dims[2..]);
    let slide = Slide::of(node, kernel, sizes);
    let groups = node.int("group").unwrap_or(1) as usize;
    let (channels, each) = (w.dims[0], w.dims[1]);
    let more = node.ints("output_padding").map_or(vec![0; kernel.len()], <[i64]>::to_vec);
    let mut dims = vec![x.dims[0], each * groups];
    dims.extend((0..kernel.len()).map(|i| {
        (slide.at(i, sizes[i] - 1, kernel[i] - 1) + 1 + more[i] - slide.after[i]) as usize
    }));
    let mut y = Array::build(&dims, |o| bias.map_or(0.0, |b| b.data[o[1]]));
    for from in every(&x.dims) {
        let group = from[1] / (channels / groups);
        for m in 0..each {
            for k in every(kernel) {
                let mut to = vec![from[0] as i64, (group * each + m) as i64];
                to.extend((0..k.len()).map(|i| slide.at(i, from[2 + i], k[i])));
                if inside(&y, &to).is_some() {
                    let flat = to.iter().zip(&dims).fold(0, |f, (i, n)| f * n + *i as usize);
                    let weight: Vec<usize> = [from[1], m].into_iter().chain(k).collect();
                    y.data[flat] += x.at(&from) * w.at(&weight);
                }
            }
        }
    }
    y
}

fn pool(node: &NodeProto, x: &Array) -> Array {
    let kernel: Vec<usize> =
        node.ints("kernel_shape").unwrap().iter().map(|k| *k as usize).collect();
    let sizes = &x.dims[2..];
    let slide = Slide::of(node, &kernel, sizes);
    let flag = |name| node.int(name).unwrap_or(0) != 0;
    let mut dims = x.dims[..2].to_vec();
    dims.extend(slide.counts(&kernel, sizes, flag("ceil_mode")));
    Array::build(&dims, |o| {
        let (mut sum, mut largest, mut count) = (0.0, f64::NEG_INFINITY, 0);
        for k in every(&kernel) {
            let place: Vec<i64> = (0..k.len()).map(|i| slide.at(i, o[2 + i], k[i])).collect();
            let from: Vec<i64> =
                [o[0] as i64, o[1] as i64].into_iter().chain(place.iter().copied()).collect();
            let padded = (0..k.len()).all(|i| place[i] < sizes[i] as i64 + slide.after[i]);
            match inside(x, &from) {
                Some(value) => {
                    (sum, largest, count) = (sum + value, value.max(largest), count + 1);
                }
                None => count += usize::from(padded && flag("count_include_pad")),
            }
        }
        if node.op() == "MaxPool" { largest } else { sum / count as f64 }
    })
}

fn groups(node: &NodeProto, x: &Array, scale: &Array, bias: &Array) -> Array {
    let (n, channels) = (x.dims[0] as i64, x.dims[1] as i64);
    let groups = node.int("num_groups").unwrap_or(channels);
    let grouped = reshape(x, &[n, groups, -1]);
    let centred = broadcast(&[&grouped, &reduce(&grouped, &[2], true, true)], |v| v[0] - v[1]);
    let variance = reduce(&centred.map(|x| x * x), &[2], true, true);
    let epsilon = epsilon(node);
    let normal = broadcast(&[&centred, &variance], |v| v[0] / (v[1] + epsilon).sqrt());
    let normal = reshape(&normal, &[n, scale.data.len() as i64, -1]);
    let y = broadcast(&[&normal, &column(scale, 3), &column(bias, 3)], |v| v[0] * v[1] + v[2]);
    Array::new(&x.dims, y.data)
}

fn depth_to_space(node: &NodeProto, x: &Array) -> Array {
    let b = node.int("blocksize").unwrap() as usize;
    let [n, channels, h, w] = x.dims[..] else { panic!("{:?}", x.dims) };
    let c = channels / (b * b);
    Array::build(&[n, c, h * b, w * b], |i| {
        let block = i[2] % b * b + i[3] % b;
        let channel = match node.string("mode") {
            Some("CRD") => i[1] * b * b + block,
            _ => block * c + i[1],
        };
        x.at(&[i[0], channel, i[2] / b, i[3] / b])
    })
}
