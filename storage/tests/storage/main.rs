//! What the crate promises, from outside: engines, the shared log, and the state, on memory and on RocksDB.

mod anew;
mod differential;
mod disks;
mod engine;
mod history;
mod log;
mod raft;
mod state;
mod suite;
mod tail;
mod vouch;
