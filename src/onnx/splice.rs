//! Changes a file without touching the bytes beside the change: what our decoder does not know, and
//! how the file's author wrote it, stay as they are.

use std::collections::BTreeMap;
use std::ops::Range;

use super::proto::data_type;
use super::wire::{Field, Kind, fields, put_bytes};
use super::{OnnxError, Tensor};

/// Field numbers of onnx.proto.
mod number {
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const MODEL_METADATA: u32 = 14;
    pub(super) const GRAPH_INITIALIZER: u32 = 5;
    pub(super) const TENSOR_DIMS: u32 = 1;
    pub(super) const TENSOR_TYPE: u32 = 2;
    pub(super) const TENSOR_FLOATS: u32 = 4;
    pub(super) const TENSOR_NAME: u32 = 8;
    pub(super) const TENSOR_RAW: u32 = 9;
    pub(super) const ENTRY_KEY: u32 = 1;
    pub(super) const ENTRY_VALUE: u32 = 2;
}

/// An ONNX file with other values in some of its f32 initializers; all other bytes stay.
///
/// # Errors
/// When a name is not an f32 initializer with its data inside, a shape differs, or the bytes are not
/// protobuf.
pub fn splice(file: &[u8], values: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, OnnxError> {
    let mut places: BTreeMap<String, Stored> = BTreeMap::new();
    for graph in messages(file, 0..file.len(), number::MODEL_GRAPH) {
        for tensor in messages(file, graph?, number::GRAPH_INITIALIZER) {
            let stored = Stored::read(file, tensor?)?;
            if values.contains_key(&stored.name)
                && let Some(other) = places.insert(stored.name.clone(), stored)
            {
                return Err(OnnxError::Duplicate { name: other.name });
            }
        }
    }
    let mut file = file.to_vec();
    for (name, value) in values {
        let at = format!("parameter `{name}`");
        value.check(&at)?;
        let none = || OnnxError::invalid(&at, "an initializer of this name", "none");
        places.get(name).ok_or_else(none)?.write(&at, value, &mut file)?;
    }
    Ok(file)
}

/// An ONNX file with one entry of its metadata set; all other bytes stay. A new entry is appended.
///
/// # Errors
/// When the bytes are not protobuf.
pub fn splice_metadata(file: &[u8], key: &str, value: &str) -> Result<Vec<u8>, OnnxError> {
    let mut entry = Vec::new();
    put_bytes(&mut entry, number::ENTRY_KEY, key.as_bytes());
    put_bytes(&mut entry, number::ENTRY_VALUE, value.as_bytes());
    let mut out = Vec::with_capacity(file.len() + entry.len() + 8);
    let mut written = false;
    for field in fields(file, 0..file.len()) {
        let field = field?;
        if field.number != number::MODEL_METADATA || !has_key(file, &field, key)? {
            out.extend_from_slice(file.get(field.span).unwrap_or_default());
        } else if !written {
            put_bytes(&mut out, number::MODEL_METADATA, &entry);
            written = true;
        }
    }
    if !written {
        put_bytes(&mut out, number::MODEL_METADATA, &entry);
    }
    Ok(out)
}

fn has_key(file: &[u8], entry: &Field, key: &str) -> Result<bool, OnnxError> {
    let mut found = false;
    for field in fields(file, entry.payload.clone()) {
        let field = field?;
        if field.number == number::ENTRY_KEY {
            found = file.get(field.payload) == Some(key.as_bytes());
        }
    }
    Ok(found)
}

/// The messages in one field of the message at `range`.
fn messages(
    file: &[u8],
    range: Range<usize>,
    number: u32,
) -> impl Iterator<Item = Result<Range<usize>, OnnxError>> {
    fields(file, range).filter_map(move |field| match field {
        Ok(field) if field.number == number && field.kind == Kind::Bytes => Some(Ok(field.payload)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// A stored tensor, as places in the file.
#[derive(Default)]
struct Stored {
    name: String,
    dims: Vec<u64>,
    element: u64,
    raw: Option<Range<usize>>,
    /// Packed or single floats, in their order.
    floats: Vec<Range<usize>>,
}

impl Stored {
    fn read(file: &[u8], range: Range<usize>) -> Result<Self, OnnxError> {
        let mut stored = Self::default();
        for field in fields(file, range) {
            let field = field?;
            let bytes = || file.get(field.payload.clone()).unwrap_or_default();
            match (field.number, field.kind) {
                (number::TENSOR_DIMS, Kind::Varint(size)) => stored.dims.push(size),
                (number::TENSOR_DIMS, Kind::Bytes) => stored.dims.extend(packed(bytes())),
                (number::TENSOR_TYPE, Kind::Varint(element)) => stored.element = element,
                (number::TENSOR_FLOATS, _) => stored.floats.push(field.payload),
                (number::TENSOR_NAME, _) => {
                    stored.name = String::from_utf8_lossy(bytes()).into_owned();
                }
                (number::TENSOR_RAW, _) => stored.raw = Some(field.payload),
                _ => {}
            }
        }
        Ok(stored)
    }

    fn write(&self, at: &str, value: &Tensor, file: &mut [u8]) -> Result<(), OnnxError> {
        if self.element != data_type::FLOAT as u64 {
            let found = format!("ONNX data type {}", self.element);
            return Err(OnnxError::invalid(at, "a float tensor", found));
        }
        if !self.dims.iter().copied().eq(value.dims.iter().map(|d| *d as u64)) {
            let expected = format!("dims {:?}", self.dims);
            return Err(OnnxError::invalid(at, expected, format!("{:?}", value.dims)));
        }
        let places = self.raw.as_ref().map_or(self.floats.as_slice(), std::slice::from_ref);
        let room: usize = places.iter().map(ExactSizeIterator::len).sum();
        if room != value.data.len() * size_of::<f32>() {
            let expected = format!("{} bytes of data in the file", value.data.len() * 4);
            return Err(OnnxError::invalid(at, expected, room));
        }
        let mut new = value.data.iter().flat_map(|x| x.to_le_bytes());
        for place in places {
            let old = file.get_mut(place.clone()).unwrap_or_default();
            old.iter_mut().zip(&mut new).for_each(|(old, new)| *old = new);
        }
        Ok(())
    }
}

/// The varints of a packed field; nothing after one that is cut.
fn packed(bytes: &[u8]) -> Vec<u64> {
    let numbers = bytes.split_inclusive(|byte| *byte < 0x80);
    let number = |bytes: &[u8]| {
        let places = bytes.iter().take(10).enumerate();
        places.fold(0u64, |n, (i, byte)| n | u64::from(byte & 0x7f).wrapping_shl(7 * i as u32))
    };
    numbers.map(number).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::onnx::Graph;
    use crate::onnx::proto::TensorProto;
    use crate::onnx::wire::put_varint;

    const EVERY_PART: &[u8] = include_bytes!("../../tests/data/every_part.onnx");

    fn seven() -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::new([3, 2], [7.0; 6]).unwrap())])
    }

    /// A file with fields that onnx.proto does not have, on three levels, around `tensor`.
    fn unknown_fields_around(tensor: &TensorProto) -> Vec<u8> {
        let mut initializer = tensor.encode_to_vec();
        put_bytes(&mut initializer, 900, b"beside the tensor's data");
        let mut graph = Vec::new();
        put_bytes(&mut graph, 901, b"before the initializer");
        put_bytes(&mut graph, number::GRAPH_INITIALIZER, &initializer);
        let mut file = Vec::new();
        put_bytes(&mut file, number::MODEL_GRAPH, &graph);
        put_varint(&mut file, 902 << 3);
        put_varint(&mut file, 12345);
        file
    }

    #[test]
    fn new_weights_are_read_back_and_only_their_bytes_differ() {
        let tuned = splice(EVERY_PART, &seven()).unwrap();
        assert_eq!(Graph::from_bytes(&tuned).unwrap().parameters().unwrap()["w"].data, [7.0; 6]);
        let differ = |(i, (a, b)): (usize, (&u8, &u8))| (a != b).then_some(i);
        let changed: Vec<usize> =
            EVERY_PART.iter().zip(&tuned).enumerate().filter_map(differ).collect();
        assert_eq!(tuned.len(), EVERY_PART.len());
        assert!(changed.last().unwrap() - changed.first().unwrap() < 24, "{changed:?}");
    }

    #[test]
    fn unknown_fields_survive_in_every_form_of_a_tensor() {
        let raw = seven()["w"].to_proto("w");
        let typed = TensorProto { raw_data: None, float_data: vec![1.0; 6], ..raw.clone() };
        let seven = typed_seven(&typed);
        for (tensor, want) in [(&raw, raw.clone()), (&typed, seven)] {
            let other = Tensor::new([3, 2], [0.5; 6]).unwrap();
            let file = unknown_fields_around(tensor);
            let there = splice(&file, &BTreeMap::from([("w".into(), other)])).unwrap();
            assert_ne!(there, file);
            assert_eq!(splice(&there, &self::seven()).unwrap(), unknown_fields_around(&want));
        }
    }

    fn typed_seven(typed: &TensorProto) -> TensorProto {
        TensorProto { float_data: vec![7.0; 6], ..typed.clone() }
    }

    #[test]
    fn floats_that_are_not_packed_are_written_one_by_one() {
        let mut tensor =
            TensorProto { raw_data: None, ..seven()["w"].to_proto("w") }.encode_to_vec();
        for i in 0..6 {
            put_varint(&mut tensor, (number::TENSOR_FLOATS as usize) << 3 | 5);
            tensor.extend_from_slice(&(i as f32).to_le_bytes());
        }
        let (mut graph, mut file) = (Vec::new(), Vec::new());
        put_bytes(&mut graph, number::GRAPH_INITIALIZER, &tensor);
        put_bytes(&mut file, number::MODEL_GRAPH, &graph);
        let tuned = splice(&file, &seven()).unwrap();
        assert_eq!(Graph::from_bytes(&tuned).unwrap().parameters().unwrap(), seven());
    }

    #[test]
    fn parameters_of_another_name_shape_or_place_are_refused() {
        let refusal = |name: &str, tensor| {
            splice(EVERY_PART, &BTreeMap::from([(name.into(), tensor)])).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("v", Tensor::zeros([1])),
            "parameter `v`: expected an initializer of this name, found none"
        );
        assert_eq!(
            refusal("w", Tensor::zeros([2, 3])),
            "parameter `w`: expected dims [3, 2], found [2, 3]"
        );
        let elsewhere = TensorProto { raw_data: None, ..seven()["w"].to_proto("w") };
        let error = splice(&unknown_fields_around(&elsewhere), &seven()).unwrap_err().to_string();
        assert_eq!(error, "parameter `w`: expected 24 bytes of data in the file, found 0");
    }

    #[test]
    fn a_metadata_entry_is_set_once_and_nothing_else_changes() {
        let set = splice_metadata(EVERY_PART, "x", "new").unwrap();
        let set = splice_metadata(&set, "another", "3").unwrap();
        let graph = Graph::from_bytes(&set).unwrap();
        let expected = [("a", "2"), ("another", "3"), ("x", "new")];
        assert!(graph.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
        let twice = splice_metadata(&set, "x", "newer").unwrap();
        let back = splice_metadata(&twice, "x", "new").unwrap();
        assert_eq!(back, set);
        let file = unknown_fields_around(&seven()["w"].to_proto("w"));
        assert!(splice_metadata(&file, "key", "value").unwrap().starts_with(&file));
    }
}
