//! One verb, one file.

pub mod episodes;
