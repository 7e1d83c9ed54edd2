//! The binary `ordergrid`. It only dispatches: see `cli`.

mod bench;
mod cli;
mod dev;
mod offline_verbs;
mod running;
mod serve;

use std::process::ExitCode;

// A quarter less CPU per entry than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(cli::run(std::env::args_os()))
}
