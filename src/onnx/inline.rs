//! Model-local functions: exporters may leave calls to functions that the file itself defines
//! (`pkg.onnxscript...`). Each call is replaced by the function's nodes.

use std::collections::HashMap;

use prost::Message;

use super::names::Names;
use super::proto::{AttributeProto, FunctionProto, NodeProto};
use super::{Graph, Limits, OnnxError};

/// How deep functions may call functions.
const MAX_DEPTH: usize = 16;
/// How many bytes the nodes that functions become may take.
const MAX_BYTES: usize = 128 << 20;

/// The same function with every call of a model-local function replaced by its nodes, and without
/// the functions and the operator sets they alone stand for. All other names stay as they are.
///
/// # Errors
/// When functions call each other in a circle or too deep, when there would be too many nodes, or
/// when a call does not fit its function: too many inputs or outputs, another opset, sub-graphs.
pub fn inline(graph: &Graph) -> Result<Graph, OnnxError> {
    if graph.model.functions.is_empty() {
        return Ok(graph.clone());
    }
    let mut result = graph.clone();
    result.graph.node.clear();
    result.model.functions.clear();
    let mut inliner = Inliner {
        graph,
        functions: HashMap::new(),
        names: Names::of(&graph.graph),
        nodes: Vec::new(),
        work: 0,
        bytes: 0,
    };
    for function in &graph.model.functions {
        let at = format!("function `{}`", function.name.as_deref().unwrap_or(""));
        if inliner.functions.insert(Key::of_function(function), function).is_some() {
            return Err(OnnxError::invalid(at, "one definition", "two"));
        }
    }
    for node in graph.nodes() {
        inliner.node(node.clone(), &mut Vec::new())?;
    }
    result.graph.node = inliner.nodes;
    let defines = |domain: &str| inliner.functions.keys().any(|key| key.domain == domain);
    result.model.opset_import.retain(|import| {
        let domain = domain(import.domain.as_deref());
        domain.is_empty() || !defines(domain)
    });
    Ok(result)
}

/// What a call names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    domain: &'a str,
    name: &'a str,
    overload: &'a str,
}

impl<'a> Key<'a> {
    fn of_function(function: &'a FunctionProto) -> Self {
        Self {
            domain: domain(function.domain.as_deref()),
            name: function.name.as_deref().unwrap_or(""),
            overload: function.overload.as_deref().unwrap_or(""),
        }
    }

    fn of_call(node: &'a NodeProto) -> Self {
        Self {
            domain: domain(node.domain.as_deref()),
            name: node.op(),
            overload: node.overload.as_deref().unwrap_or(""),
        }
    }
}

/// ONNX's own domain has two names.
fn domain(domain: Option<&str>) -> &str {
    domain.filter(|domain| *domain != "ai.onnx").unwrap_or("")
}

struct Inliner<'a> {
    graph: &'a Graph,
    functions: HashMap<Key<'a>, &'a FunctionProto>,
    names: Names,
    nodes: Vec<NodeProto>,
    /// Nodes read, calls included: bounds functions that are empty or call each other many times.
    work: usize,
    /// What the nodes of functions take: bounds constants and names that many calls repeat.
    bytes: usize,
}

impl<'a> Inliner<'a> {
    /// Adds a node whose names are the graph's, or what it calls. `open` are the calls it stands in.
    fn node(
        &mut self,
        node: NodeProto,
        open: &mut Vec<&'a FunctionProto>,
    ) -> Result<(), OnnxError> {
        self.work += 1;
        let limit = Limits::default().max_nodes;
        if self.work > limit {
            let what = "nodes after inlining functions".into();
            return Err(OnnxError::TooLarge { what, limit, found: self.work });
        }
        let Some(function) = self.functions.get(&Key::of_call(&node)).copied() else {
            self.nodes.push(node);
            return Ok(());
        };
        if open.iter().any(|other| std::ptr::eq(*other, function)) {
            return Err(wrong(&node, "functions that do not call themselves", "a circle"));
        }
        if open.len() == MAX_DEPTH {
            let expected = format!("calls at most {MAX_DEPTH} deep");
            return Err(wrong(&node, expected, "deeper ones"));
        }
        open.push(function);
        self.call(&node, function, open)?;
        open.pop();
        Ok(())
    }

    fn call(
        &mut self,
        call: &NodeProto,
        function: &'a FunctionProto,
        open: &mut Vec<&'a FunctionProto>,
    ) -> Result<(), OnnxError> {
        self.check(call, function)?;
        self.spend(call, size_of::<String>() * (function.input.len() + function.output.len()))?;
        let mut bound = HashMap::new();
        for (index, name) in function.input.iter().enumerate() {
            // An input that is left out is left out of the nodes that take it, too.
            bound.insert(name.clone(), call.input.get(index).cloned().unwrap_or_default());
        }
        let mut copies = Vec::new();
        for (inner, outer) in function.output.iter().zip(&call.output) {
            if outer.is_empty() {
                continue;
            }
            match bound.get(inner) {
                Some(given) => copies.push(identity(given, outer)),
                None => {
                    bound.insert(inner.clone(), outer.clone());
                }
            }
        }
        let stem = call.label().to_owned();
        for node in &function.node {
            let mut node = node.clone();
            self.resolve_attributes(&mut node, call, function)?;
            let node = self.names.rename(node, &stem, &mut bound);
            self.spend(call, node.encoded_len())?;
            self.node(node, open)?;
        }
        self.nodes.extend(copies);
        Ok(())
    }

    fn spend(&mut self, call: &NodeProto, bytes: usize) -> Result<(), OnnxError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        let what = format!("bytes of functions up to the call `{}`", call.label());
        Err(OnnxError::TooLarge { what, limit: MAX_BYTES, found: self.bytes })
    }

    fn check(&self, call: &NodeProto, function: &FunctionProto) -> Result<(), OnnxError> {
        let counts = [
            ("inputs", call.input.len(), function.input.len()),
            ("outputs", call.output.len(), function.output.len()),
        ];
        if let Some((what, found, most)) = counts.iter().find(|(_, found, most)| found > most) {
            return Err(wrong(call, format!("at most {most} {what}"), found));
        }
        let opset = self.graph.opset();
        let own = function.opset_import.iter().find(|i| domain(i.domain.as_deref()).is_empty());
        match own.and_then(|import| import.version).filter(|version| *version != opset) {
            Some(other) => Err(wrong(call, format!("a function of opset {opset}"), other)),
            None => Ok(()),
        }
    }

    /// Attributes that refer to the call's take its values, or the function's defaults; one that has
    /// neither is left out.
    fn resolve_attributes(
        &self,
        node: &mut NodeProto,
        call: &NodeProto,
        function: &FunctionProto,
    ) -> Result<(), OnnxError> {
        let mut resolved = Vec::with_capacity(node.attribute.len());
        for attribute in std::mem::take(&mut node.attribute) {
            if attribute.g.is_some() || !attribute.graphs.is_empty() {
                return Err(wrong(call, "a function without sub-graphs", node.label()));
            }
            let Some(from) = attribute.ref_attr_name.as_deref().filter(|from| !from.is_empty())
            else {
                resolved.push(attribute);
                continue;
            };
            let named = |a: &&AttributeProto| a.name.as_deref() == Some(from);
            let given = call.attribute.iter().chain(&function.attribute_proto).find(named);
            resolved.extend(
                given.map(|given| AttributeProto { name: attribute.name.clone(), ..given.clone() }),
            );
        }
        node.attribute = resolved;
        Ok(())
    }
}

/// An output of a function that is one of its inputs.
fn identity(input: &str, output: &str) -> NodeProto {
    NodeProto {
        op_type: Some("Identity".into()),
        input: vec![input.into()],
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn wrong(
    call: &NodeProto,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
) -> OnnxError {
    OnnxError::invalid(format!("node `{}` ({})", call.label(), call.op()), expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Verified;

    /// Written by `onnx.helper.make_function` of the Python package onnx 1.23.2: `scaled` is called
    /// twice, with and without its attribute and its optional input, and itself calls `bent`, whose
    /// attribute it passes on.
    const FUNCTIONS: &[u8] = include_bytes!("../../tests/data/functions.onnx");

    fn functions() -> Graph {
        Graph::from_bytes(FUNCTIONS).unwrap()
    }

    /// What is said of the file after `damage`.
    fn refusal(damage: impl Fn(&mut Graph)) -> String {
        let mut graph = functions();
        damage(&mut graph);
        inline(&graph).expect_err("it should be refused").to_string()
    }

    #[test]
    fn calls_become_the_nodes_of_their_functions() {
        let inlined = inline(&functions()).unwrap();
        let ops: Vec<&str> = inlined.nodes().iter().map(NodeProto::op).collect();
        assert_eq!(ops, ["Mul", "LeakyRelu", "Clip", "Mul", "LeakyRelu", "Clip", "Add"]);
        let alphas: Vec<f32> = inlined.nodes().iter().filter_map(|n| n.float("alpha")).collect();
        assert_eq!(alphas, [0.25, 0.5]);
        let domains = inlined.model.opset_import.iter().filter_map(|i| i.domain.as_deref());
        assert_eq!(domains.collect::<Vec<_>>(), [""]);
        assert_eq!(inlined.parameters().unwrap(), functions().parameters().unwrap());
        assert_eq!(Verified::from_bytes(FUNCTIONS).unwrap().into_graph(), inlined);
    }

    #[test]
    fn a_graph_without_functions_stays_as_it_is() {
        let inlined = inline(&functions()).unwrap();
        assert_eq!(inline(&inlined).unwrap(), inlined);
    }

    #[test]
    fn calls_that_do_not_fit_are_refused_with_their_place() {
        type Damage = fn(&mut Graph);
        let cases: &[(Damage, &str)] = &[
            (
                |g| g.model.functions[0].node[0] = g.model.functions[1].node[1].clone(),
                "expected functions that do not call themselves, found a circle",
            ),
            (
                |g| g.graph.node[0].input.extend(vec![String::new(); 3]),
                "node `first` (scaled): expected at most 3 inputs, found 6",
            ),
            (|g| g.graph.node[1].output.push("z".into()), "expected at most 1 outputs, found 2"),
            (
                |g| g.model.functions[1].opset_import[0].version = Some(13),
                "node `first` (scaled): expected a function of opset 17, found 13",
            ),
            (
                |g| g.model.functions.push(g.model.functions[0].clone()),
                "function `bent`: expected one definition, found two",
            ),
            (
                |g| g.model.functions[0].node[0].attribute[0].g = Some(Default::default()),
                "expected a function without sub-graphs",
            ),
        ];
        for (damage, says) in cases {
            let found = refusal(damage);
            assert!(found.contains(says), "{found}\nshould say\n{says}");
        }
    }

    /// `f0` calls `f1` twice, which calls `f2` twice, and so on to `f<depth>`.
    fn doubling(graph: &mut Graph, depth: usize, last: &[NodeProto]) {
        let call = |level: usize| NodeProto {
            op_type: Some(format!("f{level}")),
            domain: Some("d".into()),
            ..NodeProto::default()
        };
        let function = |level: usize| FunctionProto {
            name: Some(format!("f{level}")),
            domain: Some("d".into()),
            node: if level == depth { last.to_vec() } else { vec![call(level + 1); 2] },
            ..FunctionProto::default()
        };
        graph.model.functions = (0..=depth).map(function).collect();
        graph.graph.node = vec![call(0)];
    }

    #[test]
    fn a_few_bytes_cannot_ask_for_much_work_or_memory() {
        assert!(refusal(|g| doubling(g, 14, &[])).starts_with("nodes after inlining functions"));
        assert!(refusal(|g| doubling(g, 16, &[])).contains("expected calls at most 16 deep"));
        let large = NodeProto { doc_string: Some("x".repeat(1 << 20)), ..NodeProto::default() };
        let found = refusal(|g| doubling(g, 10, std::slice::from_ref(&large)));
        assert!(found.starts_with("bytes of functions up to the call"), "{found}");
    }
}
