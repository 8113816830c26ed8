//! A simplified graph is the same function, on every engine and for every exported policy.

mod common;

use common::engines;
use regoal::engine::Engine;
use regoal::onnx::{Graph, Tensor, ValueInfo, Verified, simplify};
use regoal::rng::{Stream, normal, stream};

/// Inputs for every kind of policy: whole numbers where it takes some.
fn inputs(graph: &Graph, whole: &[ValueInfo]) -> Vec<(String, Tensor)> {
    let mut rng = stream(7, Stream::Weights);
    let mut draw = |info: &ValueInfo| {
        let dims = info.dims_at(2);
        let index = whole.iter().any(|w| w.name == info.name && w.element != info.element);
        let element = |i: usize| if index { (i % 3) as f32 } else { normal(&mut rng) as f32 };
        let data: Vec<f32> = (0..dims.iter().product()).map(element).collect();
        (info.name.clone(), Tensor::new(dims, data).unwrap())
    };
    graph.inputs().unwrap().iter().map(&mut draw).collect()
}

/// Compares a file with its simplified form; the numbers of nodes of both, or what went wrong.
fn compare(file: &std::path::Path, engines: &[Engine]) -> Result<(usize, usize), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let bytes = std::fs::read(file).unwrap();
    let base = Verified::from_bytes(&bytes).map_err(|e| said(&e))?.with_batch(2);
    let whole = base.inputs().map_err(|e| said(&e))?;
    let base = base.with_floats().map_err(|e| said(&e))?;
    let simple = simplify(&base).map_err(|e| said(&e))?;
    let given = inputs(&base, &whole);
    let feed: Vec<_> = given.iter().map(|(n, t)| (n.as_str(), &t.dims[..], &t.data[..])).collect();
    for engine in engines {
        let run = |graph: &Graph| {
            let graph = Verified::try_from(graph.clone()).map_err(|e| said(&e))?;
            engine.load(&graph).and_then(|mut s| s.run(&feed)).map_err(|e| said(&e))
        };
        for (before, after) in run(&base)?.iter().zip(run(&simple)?) {
            let scale = before.data.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            let differences = before.data.iter().zip(&after.data).map(|(a, b)| (a - b).abs());
            let error = differences.fold(0f32, f32::max) / scale;
            if before.dims != after.dims || error > 1e-5 {
                return Err(format!("on {engine} it is off by {error:.1e}"));
            }
        }
    }
    Ok((base.nodes().len(), simple.nodes().len()))
}

#[test]
fn every_exported_policy_is_the_same_function_after_simplification() {
    let folder = std::fs::read_dir("tests/corpus").unwrap();
    let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
    files.retain(|file| {
        let name = file.to_string_lossy();
        name.ends_with(".onnx") && !name.ends_with(".reference.onnx")
    });
    files.sort();
    assert!(!files.is_empty());
    let engines = engines();
    let mut wrong = Vec::new();
    for file in files {
        match compare(&file, &engines) {
            Ok((before, after)) => {
                println!("{}: {before} nodes, {after} after", file.display());
            }
            Err(error) => wrong.push(format!("{}: {error}", file.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
