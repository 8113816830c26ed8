//! Wire protocols as values: bytes in, packets out, no I/O, no allocation, `core` and `heapless` only.

pub mod dynamixel;
pub mod feetech;
mod window;
