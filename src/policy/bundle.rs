//! A foreign ONNX file becomes a policy: a description in its metadata, nothing else changed.

use prost::Message as _;

use super::{METADATA_KEY, PolicyError, PolicySpec};
use crate::onnx::proto::{ModelProto, StringStringEntryProto};
use crate::onnx::{Graph, Verified};

/// The file with `spec` as its description. A file without one keeps every byte and gets an entry of
/// metadata after the last (repeated protobuf fields may stand anywhere); in a file with one, that
/// entry is replaced.
///
/// # Errors
/// Not a verified ONNX file, or the description is not valid or does not fit its tensors.
pub fn with_spec(file: &[u8], spec: &PolicySpec) -> Result<Vec<u8>, PolicyError> {
    let graph = Verified::from_bytes(file)?;
    spec.check(&graph)?;
    let mut file = if graph.metadata().contains_key(METADATA_KEY) {
        let mut graph: Graph = graph.into_graph();
        graph.set_metadata(METADATA_KEY, &spec.to_json());
        graph.to_bytes()
    } else {
        let entry =
            StringStringEntryProto { key: Some(METADATA_KEY.into()), value: Some(spec.to_json()) };
        // A message with this one field is what a file's bytes are continued with.
        let rest = ModelProto { metadata_props: vec![entry], ..ModelProto::default() };
        [file, &rest.encode_to_vec()].concat()
    };
    file.shrink_to_fit();
    PolicySpec::of(&*Verified::from_bytes(&file)?)?;
    Ok(file)
}
