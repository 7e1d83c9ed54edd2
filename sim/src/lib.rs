//! Whether OrderGrid holds: histories drawn from a seed, judged strictly.
//!
//! Two levels. [`domain`] runs the machines alone against an independent model of every answer and every bucket. The rest
//! runs the *program*: several nodes, assembled by `Node::start` as in production, in one process with one thread, over a
//! simulated network, disk and clock, so that one seed is one history, bit for bit.
//!
//! | Module | Decides |
//! |---|---|
//! | [`driver`] | hosts, their clocks, and how time passes |
//! | [`net`] | connections between hosts, and how links fail |
//! | [`disk`] | what is written, what is durable, and how disks fail |
//! | [`grid`] | the nodes of a history, their lives and deaths |
//! | [`clients`] | what is asked of them |
//! | [`plan`] | what a seed draws, before anything begins |
//! | [`faults`] | what goes wrong, and how it is done and undone |
//! | [`run`] | one history from its beginning to its verdict |
//! | [`chronicle`] | what the logs on all disks say, and what they come to |
//! | [`coverage`] | how often the product's own counters counted |
//! | [`judges`] | whether it was right, one property a file |
//! | [`history`] | what clients asked and how it ended: what the judges read |
//! | [`trace`] | the running hash of a history, and its text on demand |
//! | [`dice`] | chance, all of it from one seed |
//! | [`verdict`] | what a history came to |
//! | [`domain`] | the machines without nodes, against a model |
//! | [`cli`] | what can be asked of the simulator |

pub mod chronicle;
pub mod cli;
pub mod clients;
pub mod coverage;
pub mod dice;
pub mod disk;
pub mod domain;
pub mod driver;
pub mod faults;
pub mod grid;
pub mod history;
pub mod judges;
pub mod net;
pub mod plan;
pub mod run;
pub mod scenarios;
pub mod trace;
pub mod verdict;
