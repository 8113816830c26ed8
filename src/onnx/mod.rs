//! The graph: ONNX in and out, verification, a builder, reverse-mode differentiation and training steps. Knows no robot.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
