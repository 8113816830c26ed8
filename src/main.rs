//! The `regoal` program.

fn main() {}
