//! Recurrent cells and Einsum.
