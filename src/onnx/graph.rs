//! A graph as a value: read, look inside, change weights and metadata, write.

use std::collections::{BTreeMap, HashSet};

use prost::Message;

use super::proto::{
    DimensionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use super::{Builder, Dim, ElementType, OnnxError, Tensor};

/// An ONNX model that has been decoded but not yet checked: engines take only
/// [`Verified`](super::Verified) ones. Everything that a file holds is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// The file around the graph; its own `graph` field is always `None`.
    pub(crate) model: ModelProto,
    pub(crate) graph: GraphProto,
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its axes; a size that the file leaves open is [`Dim::Batch`].
    pub dims: Vec<Dim>,
}

impl Graph {
    /// Decodes an ONNX file without checking what it says.
    ///
    /// # Errors
    /// When the bytes are not an ONNX file, hold no graph, or break the default
    /// [`Limits`](super::Limits) on size, depth and number.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnnxError> {
        super::verify::check_bytes(bytes)?;
        let mut model = ModelProto::decode(bytes)?;
        let graph = model
            .graph
            .take()
            .ok_or_else(|| OnnxError::invalid("model", "a graph", "a file without one"))?;
        Ok(Self { model, graph })
    }

    /// Encodes the graph; the same graph always gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut model = self.model.clone();
        model.graph = Some(self.graph.clone());
        model.encode_to_vec()
    }

    /// The inputs a caller must give, in the file's order (initializers that older files list among
    /// the inputs are left out).
    ///
    /// # Errors
    /// When an input is not a tensor of a supported type.
    pub fn inputs(&self) -> Result<Vec<ValueInfo>, OnnxError> {
        let stored = |name: Option<&str>| {
            self.graph.initializer.iter().any(|tensor| tensor.name.as_deref() == name)
        };
        let inputs = self.graph.input.iter().filter(|input| !stored(input.name.as_deref()));
        inputs.map(ValueInfo::from_proto).collect()
    }

    /// The outputs, in the file's order.
    ///
    /// # Errors
    /// When an output is not a tensor of a supported type.
    pub fn outputs(&self) -> Result<Vec<ValueInfo>, OnnxError> {
        self.graph.output.iter().map(ValueInfo::from_proto).collect()
    }

    /// The batch that the file fixes: the first size of its first input.
    ///
    /// # Errors
    /// When an input is not a tensor of a supported type.
    pub fn fixed_batch(&self) -> Result<Option<usize>, OnnxError> {
        Ok(match self.inputs()?.first().and_then(|input| input.dims.first().copied()) {
            Some(Dim::Fixed(batch)) => Some(batch),
            _ => None,
        })
    }

    /// The nodes, in the file's order.
    pub fn nodes(&self) -> &[NodeProto] {
        &self.graph.node
    }

    /// The version of the ai.onnx operator set, 0 when the file imports none.
    pub fn opset(&self) -> i64 {
        let ours =
            |domain: &Option<String>| matches!(domain.as_deref(), None | Some("" | "ai.onnx"));
        let import = self.model.opset_import.iter().find(|import| ours(&import.domain));
        import.and_then(|import| import.version).unwrap_or(0)
    }

    /// The version of the file format.
    pub fn ir_version(&self) -> i64 {
        self.model.ir_version.unwrap_or(0)
    }

    /// The program that wrote the file, with its version.
    pub fn producer(&self) -> Option<String> {
        let name = self.model.producer_name.as_deref().filter(|name| !name.is_empty())?;
        let version = self.model.producer_version.as_deref().unwrap_or_default();
        Some(format!("{name} {version}").trim_end().to_owned())
    }

    /// The file's metadata.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.model.metadata_props.iter();
        entries
            .map(|e| (e.key.clone().unwrap_or_default(), e.value.clone().unwrap_or_default()))
            .collect()
    }

    /// Sets one entry of the metadata; the others stay as they are.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        let entries = &mut self.model.metadata_props;
        match entries.iter_mut().find(|entry| entry.key.as_deref() == Some(key)) {
            Some(entry) => entry.value = Some(value.into()),
            None => entries
                .push(StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) }),
        }
    }

    /// The f32 initializers by name: weights, biases, normalisers, constants.
    ///
    /// # Errors
    /// When a tensor's data does not fit its shape.
    pub fn parameters(&self) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        let floats = |t: &&TensorProto| t.data_type == Some(data_type::FLOAT);
        let named =
            |t: &TensorProto| Ok((t.name.clone().unwrap_or_default(), Tensor::from_proto(t)?));
        self.graph.initializer.iter().filter(floats).map(named).collect()
    }

    /// The same graph with other values in some of its initializers: same architecture, same
    /// metadata.
    ///
    /// # Errors
    /// When a name is not an f32 initializer or a shape differs.
    pub fn with_parameters(&self, values: &BTreeMap<String, Tensor>) -> Result<Self, OnnxError> {
        let mut graph = self.clone();
        for (name, value) in values {
            let at = format!("parameter `{name}`");
            value.check(&at)?;
            let stored =
                graph.graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(name));
            let Some(stored) = stored else {
                return Err(OnnxError::invalid(at, "an initializer of this name", "none"));
            };
            let old = Tensor::from_proto(stored)?;
            if old.dims != value.dims {
                let expected = format!("dims {:?}", old.dims);
                return Err(OnnxError::invalid(at, expected, format!("{:?}", value.dims)));
            }
            stored.float_data.clear();
            stored.raw_data = value.to_proto(name).raw_data;
        }
        Ok(graph)
    }

    /// The same function with every input and output f32: indices, flags and doubles are cast on the
    /// way in and out. Whole numbers are exact up to 2^24.
    ///
    /// # Errors
    /// When the graph breaks a rule of [`verify`](super::verify).
    pub fn with_floats(&self) -> Result<Self, OnnxError> {
        let (inputs, outputs) = (self.inputs()?, self.outputs()?);
        if inputs.iter().chain(&outputs).all(|value| value.element == ElementType::F32) {
            return Ok(self.clone());
        }
        let mut b = Builder::with_opset(self.opset());
        b.reserve(self.nodes().iter().flat_map(|node| node.output.clone()));
        let mut bind = Vec::new();
        for input in &inputs {
            let value = b.input(&input.name, &input.dims);
            bind.push((input.name.as_str(), b.cast(value, input.element)));
        }
        for (output, value) in outputs.iter().zip(b.append(self, &bind)?) {
            let value = b.cast(value, ElementType::F32);
            b.output(&output.name, value);
        }
        let mut graph = b.finish()?;
        graph.model.metadata_props.clone_from(&self.model.metadata_props);
        Ok(graph)
    }

    /// The same graph with its batch fixed: every open size of an input, and those of outputs that
    /// have the same name or none. Shapes noted for inner values are dropped, as they may name it.
    pub fn with_batch(&self, batch: usize) -> Self {
        let mut graph = self.clone();
        graph.graph.value_info.clear();
        let mut names: HashSet<Option<String>> = HashSet::from([None, Some(String::new())]);
        let fix = |dim: &mut DimensionProto| {
            dim.dim_param = None;
            dim.dim_value = Some(batch as i64);
        };
        let inputs = graph.graph.input.iter_mut().filter_map(dims_mut).flatten();
        for dim in inputs.filter(|dim| dim.dim_value.is_none()) {
            names.insert(dim.dim_param.clone());
            fix(dim);
        }
        let outputs = graph.graph.output.iter_mut().filter_map(dims_mut).flatten();
        outputs.filter(|d| d.dim_value.is_none() && names.contains(&d.dim_param)).for_each(fix);
        graph
    }
}

fn dims_mut(value: &mut ValueInfoProto) -> Option<&mut Vec<DimensionProto>> {
    Some(&mut value.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut()?.dim)
}

impl ValueInfo {
    /// The sizes of the axes with a batch of `batch`.
    pub fn dims_at(&self, batch: usize) -> Vec<usize> {
        self.dims.iter().map(|d| d.at(batch)).collect()
    }

    pub(crate) fn from_proto(proto: &ValueInfoProto) -> Result<Self, OnnxError> {
        let name = proto.name.clone().unwrap_or_default();
        let at = format!("value `{name}`");
        let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(|| OnnxError::invalid(&at, "a tensor", "another type"))?;
        let element = ElementType::from_onnx(tensor.elem_type.unwrap_or(0), &at)?;
        let shape = tensor.shape.as_ref();
        let shape = shape.ok_or_else(|| OnnxError::invalid(&at, "a shape", "none"))?;
        let dim = |d: &DimensionProto| match d.dim_value {
            None => Ok(Dim::Batch),
            Some(n) => usize::try_from(n)
                .map(Dim::Fixed)
                .map_err(|_| OnnxError::invalid(&at, "sizes of at least 0", n)),
        };
        let dims = shape.dim.iter().map(dim).collect::<Result<_, _>>()?;
        Ok(Self { name, element, dims })
    }

    pub(crate) fn to_proto(&self) -> ValueInfoProto {
        let dim = |d: &Dim| match d {
            Dim::Batch => DimensionProto { dim_param: Some("batch".into()), ..Default::default() },
            Dim::Fixed(n) => DimensionProto { dim_value: Some(*n as i64), ..Default::default() },
        };
        let tensor_type = TensorTypeProto {
            elem_type: Some(self.element.to_onnx()),
            shape: Some(TensorShapeProto { dim: self.dims.iter().map(dim).collect() }),
        };
        ValueInfoProto {
            name: Some(self.name.clone()),
            r#type: Some(TypeProto { tensor_type: Some(tensor_type), ..Default::default() }),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the Python package onnx 1.23.2 with metadata on every level, a function, typed
    /// tensor data and a quantization annotation.
    const EVERY_PART: &[u8] = include_bytes!("../../tests/data/every_part.onnx");

    #[test]
    fn a_file_of_every_part_is_encoded_to_the_same_bytes() {
        assert_eq!(Graph::from_bytes(EVERY_PART).unwrap().to_bytes(), EVERY_PART);
    }

    #[test]
    fn new_parameters_change_only_their_own_bytes() {
        let base = Graph::from_bytes(EVERY_PART).unwrap();
        let new = Tensor::new([3, 2], [7.0; 6]).unwrap();
        let tuned = base.with_parameters(&BTreeMap::from([("w".into(), new.clone())])).unwrap();
        assert_eq!(tuned.parameters().unwrap()["w"], new);
        let (before, after) = (base.to_bytes(), tuned.to_bytes());
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(before.len() == after.len() && changed <= 24, "{changed}");
    }

    #[test]
    fn parameters_of_another_name_or_shape_are_refused() {
        let base = Graph::from_bytes(EVERY_PART).unwrap();
        let refusal = |name: &str, tensor| {
            base.with_parameters(&BTreeMap::from([(name.into(), tensor)])).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("v", Tensor::zeros([1])),
            "parameter `v`: expected an initializer of this name, found none"
        );
        assert_eq!(
            refusal("w", Tensor::zeros([2, 3])),
            "parameter `w`: expected dims [3, 2], found [2, 3]"
        );
    }

    #[test]
    fn metadata_is_set_in_place() {
        let mut graph = Graph::from_bytes(EVERY_PART).unwrap();
        graph.set_metadata("x", "new");
        graph.set_metadata("another", "3");
        let found = Graph::from_bytes(&graph.to_bytes()).unwrap().metadata();
        let expected = [("a", "2"), ("another", "3"), ("x", "new")];
        assert!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{found:?}");
    }

    #[test]
    fn a_fixed_batch_replaces_every_open_size() {
        let graph = Graph::from_bytes(EVERY_PART).unwrap().with_batch(5);
        let fixed = [Dim::Fixed(5), Dim::Fixed(3)];
        assert_eq!(graph.inputs().unwrap()[0].dims, fixed);
        assert_eq!(graph.outputs().unwrap()[0].dims_at(99), [5, 2]);
    }
}
