//! Activations, softmax and reductions.
