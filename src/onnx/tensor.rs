//! Tensors, their element types and dimensions.

use super::OnnxError;
use super::proto::{TensorProto, data_type};

/// One dimension of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// The batch, which an engine chooses at run time. A graph has at most one such size.
    Batch,
    /// A size known when the graph is built.
    Fixed(usize),
}

impl Dim {
    /// The size with a batch of `batch`.
    pub fn at(self, batch: usize) -> usize {
        match self {
            Self::Batch => batch,
            Self::Fixed(n) => n,
        }
    }
}

/// The element types that every engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float: the type that gradients flow through.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl ElementType {
    /// Reads ONNX's `TensorProto.DataType`.
    pub(crate) fn from_onnx(code: i32, at: &str) -> Result<Self, OnnxError> {
        match code {
            data_type::FLOAT => Ok(Self::F32),
            data_type::DOUBLE => Ok(Self::F64),
            data_type::INT32 => Ok(Self::I32),
            data_type::INT64 => Ok(Self::I64),
            data_type::BOOL => Ok(Self::Bool),
            other => {
                let expected = "a float, double, int32, int64 or bool tensor";
                Err(OnnxError::invalid(at, expected, data_type::called(other)))
            }
        }
    }

    pub(crate) fn to_onnx(self) -> i32 {
        match self {
            Self::F32 => data_type::FLOAT,
            Self::F64 => data_type::DOUBLE,
            Self::I32 => data_type::INT32,
            Self::I64 => data_type::INT64,
            Self::Bool => data_type::BOOL,
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::I64)
    }

    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A dense f32 tensor, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    /// The size of each axis; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements, the last axis running fastest.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of `dims` with these elements.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn new(dims: impl Into<Vec<usize>>, data: impl Into<Vec<f32>>) -> Result<Self, OnnxError> {
        let tensor = Self { dims: dims.into(), data: data.into() };
        tensor.check("tensor")?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    pub fn zeros(dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        Self { data: vec![0.0; dims.iter().product()], dims }
    }

    /// A tensor without axes.
    pub fn scalar(value: f32) -> Self {
        Self { dims: Vec::new(), data: vec![value] }
    }

    pub(crate) fn check(&self, at: &str) -> Result<(), OnnxError> {
        match element_count(&self.dims) {
            Some(count) if count == self.data.len() => Ok(()),
            _ => Err(OnnxError::invalid(
                at,
                format!("the product of dims {:?} elements", self.dims),
                self.data.len(),
            )),
        }
    }

    pub(crate) fn from_proto(proto: &TensorProto) -> Result<Self, OnnxError> {
        let at = label(proto);
        let Stored { dims, element, raw } = stored(proto)?;
        if element != ElementType::F32 {
            return Err(OnnxError::invalid(at, "a float tensor", format!("{element:?}")));
        }
        let data = match raw {
            Some(raw) => raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            None => proto.float_data.clone(),
        };
        Ok(Self { dims, data })
    }

    pub(crate) fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|d| *d as i64).collect(),
            data_type: Some(data_type::FLOAT),
            name: Some(name.to_owned()),
            raw_data: Some(self.data.iter().flat_map(|x| x.to_le_bytes()).collect()),
            ..TensorProto::default()
        }
    }
}

/// What to call a tensor in a message.
pub(crate) fn label(proto: &TensorProto) -> String {
    format!("tensor `{}`", proto.name.as_deref().unwrap_or(""))
}

/// The product of `dims`; `None` when it overflows.
pub(crate) fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, d| product.checked_mul(*d))
}

/// A stored tensor whose length has been checked.
pub(crate) struct Stored<'a> {
    pub dims: Vec<usize>,
    pub element: ElementType,
    /// The elements in little-endian order; `None` when they stand in a typed field.
    pub raw: Option<&'a [u8]>,
}

/// Reads a stored tensor's dims and type, and checks that its data is inside and whole.
pub(crate) fn stored(proto: &TensorProto) -> Result<Stored<'_>, OnnxError> {
    let at = label(proto);
    let name = || proto.name.clone().unwrap_or_default();
    if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
        return Err(OnnxError::ExternalData { tensor: name() });
    }
    let dims =
        proto.dims.iter().map(|d| usize::try_from(*d)).collect::<Result<Vec<_>, _>>().map_err(
            |_| OnnxError::invalid(&at, "dims of at least 0", format!("{:?}", proto.dims)),
        )?;
    let element = ElementType::from_onnx(proto.data_type.unwrap_or(0), &at)?;
    let count = element_count(&dims)
        .filter(|c| c.checked_mul(element.size()).is_some())
        .ok_or_else(|| OnnxError::invalid(&at, "a size that fits memory", format!("{dims:?}")))?;
    let (unit, found) = match &proto.raw_data {
        Some(raw) => (element.size(), raw.len()),
        None => (1, typed_len(proto, element)),
    };
    if found != count * unit {
        let expected = format!("{} of data for dims {dims:?}", count * unit);
        return Err(OnnxError::invalid(at, expected, found));
    }
    Ok(Stored { dims, element, raw: proto.raw_data.as_deref() })
}

fn typed_len(proto: &TensorProto, element: ElementType) -> usize {
    match element {
        ElementType::F32 => proto.float_data.len(),
        ElementType::F64 => proto.double_data.len(),
        ElementType::I64 => proto.int64_data.len(),
        ElementType::I32 | ElementType::Bool => proto.int32_data.len(),
    }
}

/// The elements of a stored int64 tensor.
pub(crate) fn int64s(proto: &TensorProto) -> Result<Vec<i64>, OnnxError> {
    let Stored { element, raw, .. } = stored(proto)?;
    if element != ElementType::I64 {
        return Err(OnnxError::invalid(label(proto), "an int64 tensor", format!("{element:?}")));
    }
    Ok(match raw {
        Some(raw) => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        None => proto.int64_data.clone(),
    })
}

/// An int64 tensor of one axis.
pub(crate) fn int64_proto(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(data_type::INT64),
        name: Some(name.to_owned()),
        raw_data: Some(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}
