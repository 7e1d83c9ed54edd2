//! `ordergrid-sim`: whole clusters in one process, from a seed.

mod determinism;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ordergrid_sim::cli::main())
}
