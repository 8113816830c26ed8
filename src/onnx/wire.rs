//! The wire format of protobuf, read in place.
//!
//! Two things need it: [`check`] bounds what a file may ask of the decoder before the decoder
//! allocates anything, and [`splice`](super::splice()) changes a file's weights without touching a
//! byte beside them. Source: protobuf.dev, "Encoding".

use std::ops::Range;

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use super::verify::at_most;
use super::{Limits, OnnxError};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Varint(u64),
    Fixed64,
    /// Text, bytes, a message or packed numbers.
    Bytes,
    Fixed32,
}

/// A field of a message, as places in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub number: u32,
    pub kind: Kind,
    /// The whole field, its tag included.
    pub span: Range<usize>,
    /// Its value, without tag and length.
    pub payload: Range<usize>,
}

/// The fields of the message at `range` of a file, in their order.
pub(crate) fn fields(file: &[u8], range: Range<usize>) -> Fields<'_> {
    Fields { file, at: range.start, end: range.end.min(file.len()) }
}

/// An iterator over fields that ends after the first error.
pub(crate) struct Fields<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.at = self.end;
        }
        Some(field)
    }
}

impl Fields<'_> {
    fn read(&mut self) -> Result<Field, OnnxError> {
        let start = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or_else(|| wrong(start, "a field's number", tag >> 3))?;
        let (kind, length) = match tag & 7 {
            0 => (Kind::Varint(self.varint()?), 0),
            1 => (Kind::Fixed64, 8),
            2 => (Kind::Bytes, self.varint()?),
            5 => (Kind::Fixed32, 4),
            other => return Err(wrong(start, "wire type 0, 1, 2 or 5", other)),
        };
        let value = if let Kind::Varint(_) = kind { self.at } else { self.skip(length)? };
        let payload = value..self.at;
        Ok(Field { number, kind, span: start..self.at, payload })
    }

    /// Steps over `length` bytes; where they begin.
    fn skip(&mut self, length: u64) -> Result<usize, OnnxError> {
        let (start, left) = (self.at, self.end - self.at);
        let length = usize::try_from(length).ok().filter(|n| *n <= left);
        let cut = || wrong(start, "as many bytes as the field's length says", left);
        self.at += length.ok_or_else(cut)?;
        Ok(start)
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let (start, mut value) = (self.at, 0u64);
        for shift in (0..64).step_by(7) {
            let byte = self.file.get(self.at).filter(|_| self.at < self.end);
            let byte = *byte.ok_or_else(|| wrong(start, "a number", "the end"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(wrong(start, "a number of at most 10 bytes", "a longer one"))
    }
}

fn wrong(at: usize, expected: &str, found: impl std::fmt::Display) -> OnnxError {
    OnnxError::invalid(format!("not an ONNX file: byte {at}"), expected, found)
}

/// Appends a varint to `out`.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field to `out`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(out, (number as usize) << 3 | 2);
    put_varint(out, payload.len());
    out.extend_from_slice(payload);
}

/// Checks that decoding a file stays within the limits: its size, how deep its messages nest, how
/// many nodes there are, and the memory that its structure takes once decoded (a message of two
/// bytes may become a kilobyte). Allocates nothing.
///
/// # Errors
/// The first limit that is broken, or the first byte that is not protobuf.
pub(crate) fn check(file: &[u8], limits: &Limits) -> Result<(), OnnxError> {
    at_most("file size in bytes", file.len(), limits.max_bytes)?;
    let mut walk = Walk { file, limits, nodes: 0, structure: 0 };
    walk.message(Message::Model, 0..file.len(), 1)
}

struct Walk<'a> {
    file: &'a [u8],
    limits: &'a Limits,
    nodes: usize,
    structure: usize,
}

impl Walk<'_> {
    fn message(
        &mut self,
        message: Message,
        range: Range<usize>,
        depth: usize,
    ) -> Result<(), OnnxError> {
        at_most("levels of messages", depth, self.limits.max_depth)?;
        self.nodes += usize::from(message == Message::Node);
        at_most("nodes", self.nodes, self.limits.max_nodes)?;
        self.takes(message.footprint())?;
        for field in fields(self.file, range) {
            let field = field?;
            match (field.kind, message.child(field.number)) {
                (Kind::Bytes, Some(child)) => self.message(child, field.payload, depth + 1)?,
                (Kind::Bytes, None) => self.takes(message.overhead(&field))?,
                _ => self.takes(size_of::<u64>())?,
            }
        }
        Ok(())
    }

    fn takes(&mut self, bytes: usize) -> Result<(), OnnxError> {
        self.structure = self.structure.saturating_add(bytes);
        at_most("memory in bytes for the structure", self.structure, self.limits.max_structure)
    }
}

/// The messages of onnx.proto that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    Function,
    Entry,
    OperatorSet,
}

impl Message {
    /// The message that a field of this one holds.
    fn child(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 8) | (Self::Function, 9) => Self::OperatorSet,
            (Self::Model, 25) => Self::Function,
            (Self::Model | Self::Function, 14)
            | (Self::Graph | Self::Tensor, 16)
            | (Self::Node, 9)
            | (Self::ValueInfo, 4)
            | (Self::Tensor, 13) => Self::Entry,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Graph, 11..=13) | (Self::Function, 12) => Self::ValueInfo,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Attribute, 14 | 15) | (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Dimension,
            _ => return None,
        })
    }

    /// The memory of the decoded message, its lists and texts not counted.
    fn footprint(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::ValueInfo => size_of::<ValueInfoProto>(),
            Self::Type => size_of::<TypeProto>(),
            Self::TensorType => size_of::<TensorTypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Dimension => size_of::<DimensionProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Entry => size_of::<StringStringEntryProto>(),
            Self::OperatorSet => size_of::<OperatorSetIdProto>(),
        }
    }

    /// What a field takes beside its bytes: packed integers grow from one byte to eight.
    fn overhead(self, field: &Field) -> usize {
        let packed = matches!((self, field.number), (Self::Tensor, 1 | 5 | 7 | 11))
            || (self, field.number) == (Self::Attribute, 8);
        let growth = if packed { field.payload.len().saturating_mul(7) } else { 0 };
        growth.saturating_add(size_of::<String>())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        // Node in graph in attribute in node ...: fields 1, 5, 6.
        let mut bytes = Vec::new();
        for level in 0..levels {
            let mut outer = Vec::new();
            put_bytes(&mut outer, [6, 5, 1][level % 3], &bytes);
            bytes = outer;
        }
        let mut file = Vec::new();
        put_bytes(&mut file, 7, &bytes);
        file
    }

    #[test]
    fn every_field_of_a_file_is_found_with_its_place() {
        let file = include_bytes!("../../tests/data/every_part.onnx");
        let found: Vec<Field> = fields(file, 0..file.len()).map(Result::unwrap).collect();
        let mut end = 0;
        for field in &found {
            assert_eq!(field.span.start, end);
            end = field.span.end;
        }
        assert_eq!(end, file.len());
        let graph = found.iter().find(|f| f.number == 7).unwrap();
        let decoded = GraphProto::decode(&file[graph.payload.clone()]).unwrap();
        assert_eq!(Some(decoded), ModelProto::decode(file.as_slice()).unwrap().graph);
        check(file, &Limits::default()).unwrap();
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        let file = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let error = check(&file, &Limits::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "not an ONNX file: byte 10: expected as many bytes as the field's length says, found 0"
        );
    }

    #[test]
    fn messages_that_nest_too_deep_are_refused() {
        check(&nested(27), &Limits::default()).unwrap();
        let error = check(&nested(3_000), &Limits::default()).unwrap_err().to_string();
        assert_eq!(error, "levels of messages: expected at most 32, found 33");
    }

    #[test]
    fn a_file_that_decodes_to_far_more_than_its_size_is_refused() {
        let many = |number: u8| {
            let mut file = Vec::new();
            put_bytes(&mut file, 7, &[number << 3 | 2, 0].repeat(1 << 20));
            check(&file, &Limits::default()).unwrap_err().to_string()
        };
        assert_eq!(many(1), "nodes: expected at most 20000, found 20001");
        assert!(many(5).starts_with("memory in bytes for the structure: expected at most"));
        assert!(many(11).starts_with("memory in bytes for the structure: expected at most"));
    }

    #[test]
    fn what_is_not_protobuf_is_refused_with_its_place() {
        let said = |file: &[u8]| check(file, &Limits::default()).unwrap_err().to_string();
        assert!(said(&[0x0b]).contains("expected wire type 0, 1, 2 or 5, found 3"));
        assert!(said(&[0x00, 0x00]).contains("expected a field's number, found 0"));
        assert!(
            said(&[0x08, 0x80]).starts_with("not an ONNX file: byte 1: expected a number, found")
        );
        assert!(said(&[0xff; 12]).contains("expected a number of at most 10 bytes"));
    }
}
