//! Gathering, padding and other selections.

use regoal::onnx::proto::NodeProto;

use super::{Array, axis, broadcast, unravel};

/// The outputs of a node of this family.
pub fn evaluate(node: &NodeProto, inputs: &[Option<&Array>]) -> Option<Vec<Array>> {
    let x = || inputs.first().copied().flatten().unwrap();
    let input = |i: usize| inputs.get(i).copied().flatten();
    let ints = |i: usize| input(i).map(Array::ints);
    Some(vec![match node.op() {
        "CastLike" | "Dropout" => x().clone(),
        "Gather" => gather(node, x(), input(1)?),
        "GatherElements" => {
            let (x, indices) = (x(), input(1)?);
            let axis = axis(node, x);
            Array::build(&indices.dims, |index| x.at(&moved(index, axis, indices, x)))
        }
        "Mod" => broadcast(&[x(), input(1)?], |v| v[0] % v[1]),
        "OneHot" => one_hot(node, x(), ints(1)?[0] as usize, input(2)?),
        "Pad" => pad(x(), &ints(1)?, input(2).map_or(0.0, |fill| fill.data[0]), ints(3)),
        "ScatterElements" => scatter_elements(node, x(), input(1)?, input(2)?),
        "Slice" => {
            let starts = ints(1)?;
            let axes = ints(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
            let steps = ints(4).unwrap_or_else(|| vec![1; starts.len()]);
            let cuts = starts.into_iter().zip(ints(2)?).zip(axes).zip(steps);
            cuts.fold(x().clone(), |x, (((start, end), axis), step)| {
                cut(&x, axis, start, end, step)
            })
        }
        "Tile" => {
            let dims: Vec<usize> =
                x().dims.iter().zip(ints(1)?).map(|(n, c)| n * c as usize).collect();
            Array::build(&dims, |index| {
                let inner: Vec<usize> = index.iter().zip(&x().dims).map(|(i, n)| i % n).collect();
                x().at(&inner)
            })
        }
        "TopK" => return Some(top_k(node, x(), ints(1)?[0] as usize)),
        "Trilu" => {
            let (upper, k) = (node.int("upper").unwrap_or(1) != 0, ints(1).map_or(0, |k| k[0]));
            Array::build(&x().dims, |index| {
                let over = index[index.len() - 1] as i64 - index[index.len() - 2] as i64 - k;
                if (upper && over >= 0) || (!upper && over <= 0) { x().at(index) } else { 0.0 }
            })
        }
        _ => return None,
    }])
}

fn wrap(index: f64, n: usize) -> usize {
    (if index < 0.0 { index + n as f64 } else { index }) as usize
}

/// `index` with its place on `axis` taken from `indices`.
fn moved(index: &[usize], axis: usize, indices: &Array, data: &Array) -> Vec<usize> {
    let flat = index.iter().zip(&indices.dims).fold(0, |flat, (i, n)| flat * n + i);
    let mut index = index.to_vec();
    index[axis] = wrap(indices.data[flat], data.dims[axis]);
    index
}

fn gather(node: &NodeProto, x: &Array, indices: &Array) -> Array {
    let axis = axis(node, x);
    let mut dims = x.dims.clone();
    dims.splice(axis..=axis, indices.dims.iter().copied());
    let end = axis + indices.dims.len();
    Array::build(&dims, |index| {
        let picked = wrap(indices.at(&index[axis..end]), x.dims[axis]);
        x.at(&[&index[..axis], &[picked], &index[end..]].concat())
    })
}

fn one_hot(node: &NodeProto, x: &Array, depth: usize, values: &Array) -> Array {
    let axis = node.int("axis").unwrap_or(-1).rem_euclid(x.dims.len() as i64 + 1) as usize;
    let mut dims = x.dims.clone();
    dims.insert(axis, depth);
    Array::build(&dims, |index| {
        let mut from = index.to_vec();
        let here = from.remove(axis);
        values.data[usize::from(wrap(x.at(&from), depth) == here)]
    })
}

fn pad(x: &Array, pads: &[i64], fill: f64, axes: Option<Vec<i64>>) -> Array {
    let rank = x.dims.len() as i64;
    let axes = axes.unwrap_or_else(|| (0..rank).collect());
    let (mut dims, mut before) = (x.dims.clone(), vec![0; x.dims.len()]);
    for (i, axis) in axes.iter().map(|a| a.rem_euclid(rank) as usize).enumerate() {
        before[axis] = pads[i] as usize;
        dims[axis] += (pads[i] + pads[i + axes.len()]) as usize;
    }
    Array::build(&dims, |index| {
        let inner: Option<Vec<usize>> =
            index.iter().zip(&before).map(|(i, b)| i.checked_sub(*b)).collect();
        let inside = inner.filter(|inner| inner.iter().zip(&x.dims).all(|(i, n)| i < n));
        inside.map_or(fill, |inner| x.at(&inner))
    })
}

fn scatter_elements(node: &NodeProto, x: &Array, indices: &Array, updates: &Array) -> Array {
    let (axis, mut y) = (axis(node, x), x.clone());
    for (flat, update) in updates.data.iter().enumerate() {
        let to = moved(&unravel(flat, &indices.dims), axis, indices, x);
        let at = to.iter().zip(&x.dims).fold(0, |flat, (i, n)| flat * n + i);
        let kept = if node.string("reduction") == Some("add") { y.data[at] } else { 0.0 };
        y.data[at] = kept + update;
    }
    y
}

/// As the specification of `Slice` says it, element by element.
fn cut(x: &Array, axis: i64, start: i64, end: i64, step: i64) -> Array {
    let axis = axis.rem_euclid(x.dims.len() as i64) as usize;
    let n = x.dims[axis] as i64;
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let mut picked = Vec::new();
    let (mut at, end) = if step > 0 {
        (wrap(start).clamp(0, n), wrap(end).clamp(0, n))
    } else {
        (wrap(start).clamp(0, n - 1), wrap(end).clamp(-1, n - 1))
    };
    while (step > 0 && at < end) || (step < 0 && at > end) {
        picked.push(at as usize);
        at += step;
    }
    let mut dims = x.dims.clone();
    dims[axis] = picked.len();
    Array::build(&dims, |index| {
        let mut index = index.to_vec();
        index[axis] = picked[index[axis]];
        x.at(&index)
    })
}

fn top_k(node: &NodeProto, x: &Array, k: usize) -> Vec<Array> {
    let axis = node.int("axis").unwrap_or(-1).rem_euclid(x.dims.len() as i64) as usize;
    let sign = if node.int("largest").unwrap_or(1) != 0 { -1.0 } else { 1.0 };
    let mut dims = x.dims.clone();
    dims[axis] = k;
    let at = |index: &[usize], i: usize| {
        let mut index = index.to_vec();
        index[axis] = i;
        x.at(&index)
    };
    let indices = Array::build(&dims, |index| {
        let mut order: Vec<usize> = (0..x.dims[axis]).collect();
        order.sort_by(|a, b| (sign * at(index, *a)).total_cmp(&(sign * at(index, *b))));
        order[index[axis]] as f64
    });
    let values = Array::build(&dims, |index| at(index, indices.at(index) as usize));
    vec![values, indices]
}
