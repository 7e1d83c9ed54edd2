//! Time: log time follows the clocks of a majority of the nodes, never a single clock (protocol.md, rule 21).
//!
//! `agree` computes where clocks agree, `own` is the node's own clock, `grid_time` is the time that a leader stamps. `asking`
//! measures the peers' clocks, `giving_way` keeps a node with a wrong clock from leading.

mod agree;
mod asking;
mod giving_way;
mod grid_time;
mod own;

pub(crate) use asking::{ask_all, compare, serve};
pub(crate) use giving_way::give_way;
pub(crate) use grid_time::{GridTime, Standing, words};
pub(crate) use own::{Right, Rules};
