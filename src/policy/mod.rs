//! A policy is one ONNX file that says what it is for.
