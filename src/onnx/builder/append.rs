//! Continuing an existing graph: its nodes are appended, with some of its names bound to values.

use std::collections::HashMap;

use super::{Builder, Origin, Value};
use crate::onnx::infer::Info;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{Dim, Graph, OnnxError, ValueInfo};

impl Builder {
    /// Appends a graph's nodes. `bind` gives values for some of its inputs and initializers; other
    /// inputs become inputs here, other initializers come along. A name that is taken here gets a
    /// suffix, so one policy can be appended twice with the same parameters. Returns the graph's
    /// outputs in its order; they do not become outputs here.
    ///
    /// # Errors
    /// When the graph breaks a rule of [`verify`](crate::onnx::verify).
    pub fn append(
        &mut self,
        graph: &Graph,
        bind: &[(&str, Value)],
    ) -> Result<Vec<Value>, OnnxError> {
        self.check()?;
        if graph.opset() != self.opset() {
            let expected = format!("opset {}", self.opset());
            return Err(OnnxError::invalid("the graph to append", expected, graph.opset()));
        }
        let mut scope = Scope { values: bind.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect() };
        self.append_initializers(graph, bind, &mut scope)?;
        for input in graph.inputs()? {
            if bind.iter().all(|(name, _)| *name != input.name) {
                self.append_input(input, &mut scope)?;
            }
        }
        for node in graph.nodes() {
            self.append_node(node, &mut scope)?;
        }
        let outputs = graph.outputs()?;
        let outputs = outputs.iter().map(|output| {
            let value = scope.find(&output.name, "the graph's outputs")?;
            self.check_declared(output, value)?;
            Ok(value)
        });
        outputs.collect()
    }

    fn append_initializers(
        &mut self,
        graph: &Graph,
        bind: &[(&str, Value)],
        scope: &mut Scope,
    ) -> Result<(), OnnxError> {
        for tensor in &graph.graph.initializer {
            let name = tensor.name.as_deref().unwrap_or("");
            let info = Info::stored(tensor)?;
            if let Some((_, value)) = bind.iter().find(|(bound, _)| *bound == name) {
                let found = self.dims(*value);
                if found != info.dims.as_deref() {
                    let expected = format!("dims {:?}", info.dims);
                    return Err(OnnxError::invalid(
                        format!("parameter `{name}`"),
                        expected,
                        format!("{found:?}"),
                    ));
                }
                continue;
            }
            scope.insert(name, self.initializer(tensor)?)?;
        }
        Ok(())
    }

    /// A stored tensor, named as it is where that name is free.
    pub(crate) fn initializer(&mut self, tensor: &TensorProto) -> Result<Value, OnnxError> {
        let own = self.fresh(tensor.name.as_deref().unwrap_or(""));
        let value = self.define(&own, Info::stored(tensor)?, Origin::Outside);
        self.initializers.push(TensorProto { name: Some(own), ..tensor.clone() });
        self.check()?;
        Ok(value)
    }

    fn append_input(&mut self, input: ValueInfo, scope: &mut Scope) -> Result<(), OnnxError> {
        let own = self.fresh(&input.name);
        let info = Info { element: input.element, dims: Some(input.dims), ints: None };
        let value = self.input_of(&own, info);
        scope.insert(&input.name, value)?;
        self.check()
    }

    fn append_node(&mut self, node: &NodeProto, scope: &mut Scope) -> Result<(), OnnxError> {
        let at = || format!("node `{}`", node.label());
        let find = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => scope.find(name, at()).map(Some),
        };
        let inputs = node.input.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let own = |name: &String| if name.is_empty() { String::new() } else { self.fresh(name) };
        let own: Vec<String> = node.output.iter().map(own).collect();
        let outputs = self.named_node(node.clone(), &inputs, &own);
        self.check()?;
        for (name, value) in node.output.iter().zip(outputs) {
            if let Some(value) = value {
                scope.insert(name, value)?;
            }
        }
        Ok(())
    }

    /// An output must be what the file declares it to be.
    fn check_declared(&mut self, declared: &ValueInfo, value: Value) -> Result<(), OnnxError> {
        let Some(slot) = self.slots.get_mut(value.0) else { return Ok(()) };
        let at = || format!("output `{}`", declared.name);
        if slot.info.element != declared.element {
            let expected = format!("{:?} as declared", declared.element);
            return Err(OnnxError::invalid(at(), expected, format!("{:?}", slot.info.element)));
        }
        let Some(dims) = &slot.info.dims else {
            slot.info.dims = Some(declared.dims.clone());
            return Ok(());
        };
        let agree = |(a, b): (&Dim, &Dim)| a == b || *a == Dim::Batch || *b == Dim::Batch;
        if dims.len() != declared.dims.len() || !dims.iter().zip(&declared.dims).all(agree) {
            let expected = format!("{:?} as declared", declared.dims);
            return Err(OnnxError::invalid(at(), expected, format!("{dims:?}")));
        }
        Ok(())
    }
}

/// The appended graph's names.
struct Scope {
    values: HashMap<String, Value>,
}

impl Scope {
    fn find(&self, name: &str, at: impl Into<String>) -> Result<Value, OnnxError> {
        let undefined = || OnnxError::Undefined { at: at.into(), name: name.into() };
        self.values.get(name).copied().ok_or_else(undefined)
    }

    fn insert(&mut self, name: &str, value: Value) -> Result<(), OnnxError> {
        match self.values.insert(name.to_owned(), value) {
            Some(_) => Err(OnnxError::Duplicate { name: name.into() }),
            None => Ok(()),
        }
    }
}
