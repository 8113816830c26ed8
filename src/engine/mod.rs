//! Runs verified graphs: tract everywhere, ONNX Runtime where its library is.
