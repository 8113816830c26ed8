//! One verb, one file.
