//! The operators as methods, named as in ONNX.

use prost::Message;

use super::{Builder, Value};
use crate::onnx::Tensor;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::tensor::{ElementType, int64_proto};

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $op:literal;)*) => {
        $($(#[$doc])* pub fn $method(&mut self, x: Value) -> Value { self.op($op, &[x], vec![]) })*
    };
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $op:literal;)*) => {
        $($(#[$doc])* pub fn $method(&mut self, a: Value, b: Value) -> Value { self.op($op, &[a, b], vec![]) })*
    };
}

impl Builder {
    unary! {
        /// `|x|`.
        abs = "Abs";
        /// `exp x`.
        exp = "Exp";
        /// `x` under another name.
        identity = "Identity";
        /// The natural logarithm.
        log = "Log";
        /// `-x`.
        neg = "Neg";
        /// `max(x, 0)`.
        relu = "Relu";
        /// `1 / (1 + exp(-x))`.
        sigmoid = "Sigmoid";
        /// `ln(1 + exp x)`, without overflow.
        softplus = "Softplus";
        /// The square root.
        sqrt = "Sqrt";
        /// The hyperbolic tangent.
        tanh = "Tanh";
    }

    binary! {
        /// `a + b`, broadcasting.
        add = "Add";
        /// `a / b`, broadcasting.
        div = "Div";
        /// `a == b`, broadcasting, a bool.
        equal = "Equal";
        /// `a > b`, broadcasting, a bool.
        greater = "Greater";
        /// The product of matrices; leading axes broadcast.
        matmul = "MatMul";
        /// The larger of `a` and `b`, broadcasting.
        max = "Max";
        /// The smaller of `a` and `b`, broadcasting.
        min = "Min";
        /// `a * b`, broadcasting.
        mul = "Mul";
        /// `a - b`, broadcasting.
        sub = "Sub";
    }

    /// A number.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.constant(Tensor::scalar(value))
    }

    /// A constant tensor, which is no parameter; equal constants are stored once.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        if let Err(error) = tensor.check("constant") {
            self.fail(error);
        }
        self.stored(tensor.to_proto(""))
    }

    /// A list of int64: axes, sizes, a shape.
    pub(crate) fn int64s(&mut self, values: &[i64]) -> Value {
        self.stored(int64_proto("", values))
    }

    /// A constant; equal ones are stored once.
    pub(crate) fn stored(&mut self, tensor: TensorProto) -> Value {
        let key = tensor.encode_to_vec();
        if let Some(value) = self.constants.get(&key) {
            return *value;
        }
        let value = self.op("Constant", &[], vec![AttributeProto::tensor("value", tensor)]);
        self.constants.insert(key, value);
        value
    }

    /// `x w + bias`: a layer with `w` of shape [inputs, outputs].
    pub fn gemm(&mut self, x: Value, w: Value, bias: Value) -> Value {
        self.op("Gemm", &[x, w, bias], vec![])
    }

    /// `a' b'` of two matrices, each transposed or not, times `alpha`.
    pub(crate) fn product(&mut self, a: (Value, bool), b: (Value, bool), alpha: f32) -> Value {
        if !a.1 && !b.1 && alpha == 1.0 {
            return self.matmul(a.0, b.0);
        }
        let mut attributes = vec![
            AttributeProto::int("transA", a.1.into()),
            AttributeProto::int("transB", b.1.into()),
        ];
        if alpha != 1.0 {
            attributes.push(AttributeProto::float("alpha", alpha));
        }
        self.op("Gemm", &[a.0, b.0], attributes)
    }

    /// `x` limited to `min..=max`.
    pub fn clip(&mut self, x: Value, min: f32, max: f32) -> Value {
        let (min, max) = (self.scalar(min), self.scalar(max));
        self.op("Clip", &[x, min, max], vec![])
    }

    /// The correlation of images `x` `[N, c, h, w]` with filters `w` `[m, c, kh, kw]`, every
    /// `stride`-th place, `pad` zeros around the image, plus `bias` `[m]`.
    pub fn conv(&mut self, x: Value, w: Value, bias: Value, stride: i64, pad: i64) -> Value {
        let attributes = vec![
            AttributeProto::ints("strides", &[stride; 2]),
            AttributeProto::ints("pads", &[pad; 4]),
        ];
        self.op("Conv", &[x, w, bias], attributes)
    }

    /// `exp x`, divided by its sum over `axis`.
    pub fn softmax(&mut self, x: Value, axis: i64) -> Value {
        self.op("Softmax", &[x], vec![AttributeProto::int("axis", axis)])
    }

    /// The inputs joined along `axis`.
    pub fn concat(&mut self, values: &[Value], axis: i64) -> Value {
        self.op("Concat", values, vec![AttributeProto::int("axis", axis)])
    }

    /// The sum over `axes`, all of them when empty.
    pub fn reduce_sum(&mut self, x: Value, axes: &[i64], keep: bool) -> Value {
        self.reduce("ReduceSum", x, axes, keep)
    }

    /// The mean over `axes`, all of them when empty.
    pub fn reduce_mean(&mut self, x: Value, axes: &[i64], keep: bool) -> Value {
        self.reduce("ReduceMean", x, axes, keep)
    }

    /// The largest over `axes`, all of them when empty.
    pub fn reduce_max(&mut self, x: Value, axes: &[i64], keep: bool) -> Value {
        self.reduce("ReduceMax", x, axes, keep)
    }

    /// Any reduction, with its axes where this opset has them.
    pub(crate) fn reduce(&mut self, op: &str, x: Value, axes: &[i64], keep: bool) -> Value {
        let mut attributes = vec![AttributeProto::int("keepdims", keep.into())];
        // ReduceSum takes its axes as an input since opset 13, ReduceMean since 18.
        let as_input = op == "ReduceSum" || self.opset() >= 18;
        if axes.is_empty() {
            self.op(op, &[x], attributes)
        } else if as_input {
            let axes = self.int64s(axes);
            self.op(op, &[x, axes], attributes)
        } else {
            attributes.push(AttributeProto::ints("axes", axes));
            self.op(op, &[x], attributes)
        }
    }

    /// `x` with another shape; -1 is the size that is left.
    pub fn reshape(&mut self, x: Value, shape: &[i64]) -> Value {
        let shape = self.int64s(shape);
        self.op("Reshape", &[x, shape], vec![])
    }

    /// `x` repeated along its axes of size 1 up to `shape`.
    pub fn expand(&mut self, x: Value, shape: &[i64]) -> Value {
        let shape = self.int64s(shape);
        self.op("Expand", &[x, shape], vec![])
    }

    /// `x` with its axes in another order.
    pub fn transpose(&mut self, x: Value, order: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![AttributeProto::ints("perm", order)])
    }

    /// The elements `start..end` of `axis`.
    pub fn slice(&mut self, x: Value, axis: i64, start: i64, end: i64) -> Value {
        let (start, end, axis) = (self.int64s(&[start]), self.int64s(&[end]), self.int64s(&[axis]));
        self.op("Slice", &[x, start, end, axis], vec![])
    }

    /// `x` in pieces of these sizes along `axis`.
    pub fn split(&mut self, x: Value, axis: i64, sizes: &[i64]) -> Vec<Value> {
        let lengths = self.int64s(sizes);
        let proto = NodeProto {
            op_type: Some("Split".into()),
            attribute: vec![AttributeProto::int("axis", axis)],
            ..NodeProto::default()
        };
        self.node(proto, &[Some(x), Some(lengths)], sizes.len())
    }

    /// `x` normalised over its last axis to mean 0 and variance 1, times `scale`, plus `bias`.
    pub fn layer_normalization(
        &mut self,
        x: Value,
        scale: Value,
        bias: Value,
        epsilon: f32,
    ) -> Value {
        self.op(
            "LayerNormalization",
            &[x, scale, bias],
            vec![AttributeProto::float("epsilon", epsilon)],
        )
    }

    /// A bool as 0.0 and 1.0.
    pub fn to_f32(&mut self, x: Value) -> Value {
        self.cast(x, ElementType::F32)
    }

    /// `x` as another type; itself when it is of that type.
    pub fn cast(&mut self, x: Value, to: ElementType) -> Value {
        if self.info(x).is_some_and(|info| info.element == to) {
            return x;
        }
        self.op("Cast", &[x], vec![AttributeProto::int("to", to.to_onnx().into())])
    }
}
