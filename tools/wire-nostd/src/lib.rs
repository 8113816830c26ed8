//! The wire codecs without std and without an allocator.
#![no_std]
#![forbid(unsafe_code)]

#[path = "../../../src/hal/wire/mod.rs"]
pub mod wire;
