//! Putting nodes into a graph in the place of one: their names must not meet the graph's.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};

/// The most of a node's name that goes into new names, in characters: they are many.
const MAX_STEM: usize = 100;

/// The names of a graph's values and nodes.
#[derive(Debug)]
pub(super) struct Names {
    taken: HashSet<String>,
    count: usize,
}

impl Names {
    pub(super) fn of(graph: &GraphProto) -> Self {
        let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
        let values = values.filter_map(|value| value.name.clone());
        let stored = graph.initializer.iter().filter_map(|tensor| tensor.name.clone());
        let inner = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
        let labels = graph.node.iter().filter_map(|node| node.name.clone());
        let taken = values.chain(stored).chain(inner.cloned()).chain(labels).collect();
        Self { taken, count: 0 }
    }

    /// A name nobody has yet, like `stem`.
    pub(super) fn fresh(&mut self, stem: String) -> String {
        let mut name = stem.clone();
        while !self.taken.insert(name.clone()) {
            self.count += 1;
            name = format!("{stem}_{}", self.count);
        }
        name
    }

    /// Renames a node of a body for its place in the graph. `bound` holds the body's names that are
    /// settled, and takes up the others, which become `stem/name`.
    pub(super) fn rename(
        &mut self,
        mut node: NodeProto,
        stem: &str,
        bound: &mut HashMap<String, String>,
    ) -> NodeProto {
        let stem: String = stem.chars().take(MAX_STEM).collect();
        for name in node.input.iter_mut().chain(&mut node.output).filter(|name| !name.is_empty()) {
            let own = bound.entry(name.clone());
            let own = own.or_insert_with_key(|name| self.fresh(format!("{stem}/{name}")));
            name.clone_from(own);
        }
        // tract refuses two nodes of one name, and takes the output's where there is none.
        if let Some(label) = node.name.take().filter(|label| !label.is_empty()) {
            node.name = Some(self.fresh(format!("{stem}/{label}")));
        }
        node
    }
}
