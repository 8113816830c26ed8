//! The network: convolutions, keypoints, dense layers.

use super::{KEYPOINTS, KeypointSettings, Pictures};
use crate::onnx::{Builder, Dim, Graph, OnnxError, Tensor, Value};
use crate::policy::tensor;
use crate::rng::{Rng, normal};

/// A new policy, its normaliser from the first `training` pictures.
pub(super) fn network(
    settings: &KeypointSettings,
    pictures: &Pictures,
    training: usize,
    rng: &mut Rng,
) -> Result<Graph, OnnxError> {
    let (size, k) = (pictures.size as i64, settings.keypoints as i64);
    let half = pictures.size.div_ceil(2);
    let mut b = Builder::new();
    let x = b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(pictures.width())]);
    let x = moving(&mut b, pictures, training, x);
    let x = b.reshape(x, &[-1, size, size, 3]);
    let x = b.transpose(x, &[0, 3, 1, 2]);
    let [w, bias] = layer(&mut b, "conv0", &[settings.maps, 3, 5, 5], rng);
    let h = b.conv(x, w, bias, 2, 2);
    let h = b.relu(h);
    let [w, bias] = layer(&mut b, "conv1", &[settings.keypoints, settings.maps, 3, 3], rng);
    let maps = b.conv(h, w, bias, 1, 1);
    let points = spatial_softmax(&mut b, maps, settings.keypoints, half);
    let points = b.reshape(points, &[-1, 2 * k]);
    let [w, bias] = layer(&mut b, "dense0", &[2 * settings.keypoints, settings.hidden], rng);
    let h = b.gemm(points, w, bias);
    let h = b.relu(h);
    let [w, bias] = layer(&mut b, "dense1", &[settings.hidden, pictures.action], rng);
    let action = b.gemm(h, w, bias);
    b.output(tensor::ACTION, action);
    b.output(KEYPOINTS, points);
    b.finish()
}

/// What differs from the mean picture, in deviations of all such differences: what never moves is
/// gone, and what moves is bright.
fn moving(b: &mut Builder, pictures: &Pictures, training: usize, x: Value) -> Value {
    let (width, n) = (pictures.width(), training as f64);
    let mut mean = vec![0.0f64; width];
    for i in 0..training {
        mean.iter_mut().zip(pictures.picture(i)).for_each(|(m, x)| *m += f64::from(*x) / n);
    }
    let squares =
        |i| pictures.picture(i).iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2));
    let variance = (0..training).flat_map(squares).sum::<f64>() / (n * width as f64);
    let mean = Tensor { dims: vec![1, width], data: mean.iter().map(|m| *m as f32).collect() };
    let mean = b.parameter("normalizer.mean", mean);
    let deviation = Tensor { dims: vec![1, 1], data: vec![variance.sqrt().max(1e-3) as f32] };
    let deviation = b.parameter("normalizer.deviation", deviation);
    let x = b.sub(x, mean);
    b.div(x, deviation)
}

/// The mean place `[N, k, 2]` of each of `k` maps `[N, k, side, side]`, which are logarithms of
/// weights up to a constant.
fn spatial_softmax(b: &mut Builder, maps: Value, k: usize, side: usize) -> Value {
    let cells = side * side;
    let flat = b.reshape(maps, &[-1, k as i64, cells as i64]);
    let weights = b.softmax(flat, -1);
    let along = |i: usize| (2 * i + 1) as f32 / side as f32 - 1.0;
    let places = (0..cells).flat_map(|i| [along(i % side), -along(i / side)]).collect();
    let places = b.constant(Tensor { dims: vec![cells, 2], data: places });
    b.matmul(weights, places)
}

/// `NAME.weight` of these axes, drawn as He et al. 2015 do, and `NAME.bias`, zero. Dense weights are
/// `[inputs, outputs]`, filters `[outputs, inputs, height, width]`.
fn layer(b: &mut Builder, name: &str, dims: &[usize], rng: &mut Rng) -> [Value; 2] {
    let (inputs, outputs) = match dims {
        [outputs, rest @ ..] if dims.len() == 4 => (rest.iter().product(), *outputs),
        _ => (dims[0], dims[1]),
    };
    let scale = (2.0 / inputs as f64).sqrt();
    let n = dims.iter().product();
    let data = (0..n).map(|_| (scale * normal(rng)) as f32).collect();
    let weight = b.parameter(&format!("{name}.weight"), Tensor { dims: dims.to_vec(), data });
    [weight, b.parameter(&format!("{name}.bias"), Tensor::zeros([outputs]))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::onnx::Verified;

    #[test]
    fn a_keypoint_is_where_its_map_is_large() {
        let mut b = Builder::new();
        let maps = b.input("maps", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)]);
        let points = spatial_softmax(&mut b, maps, 1, 4);
        b.output("points", points);
        let graph = Verified::try_from(b.finish().unwrap()).unwrap();
        let mut session = Engine::tract().load(&graph).unwrap();
        let mut map = [0.0; 16];
        let mut point = [0.0; 2];
        session.run_into(&[&map], &mut point).unwrap();
        assert!(point.iter().all(|x| x.abs() < 1e-6), "{point:?}");
        map[3] = 20.0;
        session.run_into(&[&map], &mut point).unwrap();
        assert!(point.iter().all(|x| (x - 0.75).abs() < 1e-3), "{point:?}");
    }
}
