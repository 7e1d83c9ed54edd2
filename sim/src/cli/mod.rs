//! The verbs of `ordergrid-sim`.

pub mod mutants;
