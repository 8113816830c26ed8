//! Gradients against central differences in f64, over every engine: one file a family of operators.

#[path = "../common/mod.rs"]
mod common;
#[path = "../reference/mod.rs"]
mod reference;

mod activation;
mod arithmetic;
mod check;
mod conv;
mod loss;
mod random;
mod recurrent;
mod select;
