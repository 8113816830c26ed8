//! Parameters that exporters lost, against what the module tree says of the corpus.

use std::collections::BTreeMap;

use regoal::onnx::{Fate, Graph, How, Selection, advice, lost};
use serde::Deserialize;

const CORPUS: &str = "tests/corpus";

/// What the index says of a file (`tools/corpus/export.py`).
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    file: String,
    architecture: String,
    exporter: String,
    /// Where PyTorch's parameters went; nothing where they were computed away.
    parameters: BTreeMap<String, Option<Stored>>,
}

#[derive(Deserialize)]
struct Stored {
    r#as: String,
}

impl Entry {
    /// The parameters that no tensor holds under their own name, and the one that holds them.
    fn lost(&self) -> BTreeMap<&str, Option<&str>> {
        let places = self.parameters.iter();
        let places = places.map(|(name, place)| (name.as_str(), place.as_ref().map(|p| &*p.r#as)));
        places.filter(|(name, place)| *place != Some(*name)).collect()
    }
}

fn corpus() -> Vec<(Entry, Graph)> {
    let read = |name: &str| std::fs::read(format!("{CORPUS}/{name}")).unwrap();
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(&read("index.json")).unwrap();
    let load = |(file, entry): (String, Entry)| {
        let graph = Graph::from_bytes(&read(&file)).unwrap();
        (Entry { file, ..entry }, graph)
    };
    entries.into_iter().map(load).collect()
}

#[test]
fn every_tensor_that_an_exporter_tied_or_renamed_is_found_and_no_other() {
    let (mut found, mut files) = (0, 0);
    for (entry, graph) in corpus() {
        // An actor's export leaves its critic out: that is nothing to keep.
        let nothing = entry.architecture == "actor_critic";
        let all = lost(&graph).unwrap();
        let names: Vec<&str> = all.iter().map(|l| l.name.as_str()).collect();
        let real = if nothing { BTreeMap::new() } else { entry.lost() };
        for place in real.values().flatten() {
            assert!(names.contains(place), "{}: {place} is not found", entry.file);
            found += 1;
        }
        assert_eq!(real.is_empty(), all.is_empty(), "{}: {all:?}", entry.file);
        for lost in &all {
            let tied = real.values().flatten().any(|place| *place == lost.name);
            let kept =
                entry.parameters.contains_key(&lost.name) && !real.contains_key(lost.name.as_str());
            assert!(tied || !kept, "{}: {lost}", entry.file);
        }
        files += usize::from(!all.is_empty());
        assert!(all.is_empty() || !entry.exporter.contains("unoptimized"), "{}", entry.file);
        assert_eq!(advice(&graph).is_some(), entry.exporter != "jax2onnx", "{}", entry.file);
    }
    println!("{found} tied or renamed tensors found in {files} files, no others");
    assert!(found > 0);
}

#[test]
fn each_way_of_losing_a_parameter_is_told_apart() {
    let corpus = corpus();
    for (file, name, how) in [
        ("layer_norm_tied.dynamo.fixed.onnx", "1.weight", How::Tied),
        ("layer_norm_tied.legacy-17.fixed.onnx", "1.bias", How::Tied),
        ("transformer.dynamo.fixed.onnx", "val_4", How::Renamed),
        ("gru_step.legacy-17.fixed.onnx", "onnx::GRU_96", How::Renamed),
        ("act.dynamo.fixed.onnx", "add_2", How::Folded),
        ("arrangement.dynamo.fixed.onnx", "expand", How::Folded),
        ("cnn_batch_norm.dynamo.fixed.onnx", "0.weight_bias", How::Folded),
        ("batch_norm.dynamo.fixed.onnx", "3.weight", How::Folded),
    ] {
        let (_, graph) = corpus.iter().find(|(entry, _)| entry.file == file).unwrap();
        let all = lost(graph).unwrap();
        let one = all.iter().find(|lost| lost.name == name);
        assert_eq!(one.map(|lost| lost.how), Some(how), "{file}: {all:?}");
    }
}

#[test]
fn parameters_are_trained_and_constants_are_not() {
    // What no file can tell: a buffer used as a weight, and a parameter without axes.
    let unknowable = ["grid", "temperature"];
    for (entry, graph) in corpus() {
        let lost: Vec<String> = lost(&graph).unwrap().into_iter().map(|l| l.name).collect();
        for line in Selection::default().fates(&graph).unwrap() {
            if unknowable.contains(&line.name.as_str()) {
                continue;
            }
            let is_parameter = entry.parameters.contains_key(&line.name);
            let trained = line.fate == Fate::Trained;
            let right = if is_parameter { trained } else { !trained || lost.contains(&line.name) };
            assert!(right, "{}: {} {}", entry.file, line.name, line.fate);
        }
    }
}
