//! Whether OrderGrid holds: histories drawn from a seed, judged strictly.
//!
//! Two levels. [`domain`] runs the machines alone against an independent model of every answer and every bucket. The rest
//! runs the *program*: several nodes, assembled by `Node::start` as in production, in one process with one thread, over a
//! simulated network, disk and clock, so that one seed is one history, bit for bit.
//!
//! | Module | Decides |
//! |---|---|
//! | [`chronicle`] | what the logs on the disks say, and what they come to on machines that never fail |
//! | [`domain`] | the machines without nodes, against a model |
//! | [`disk`] | the disks of a node, which lose what was not synced, and fail when told to |
//! | [`history`] | what clients asked and how it ended: what the judges read |
//! | [`judges`] | whether a history was right, one property each |
//! | [`trace`] | the running hash of a history, and its text on demand |
//! | [`dice`] | chance, all of it from one seed |
//! | [`verdict`] | what a history came to |

pub mod chronicle;
pub mod dice;
pub mod disk;
pub mod domain;
pub mod history;
pub mod judges;
pub mod trace;
pub mod verdict;
