//! Time: log time follows the clocks of a majority of the nodes, never one clock (protocol.md, rule 21).
//!
//! `agree` says where clocks meet, `own` what a node takes for its own clock, `grid_time` what a leader stamps and what is
//! said of it all; `asking` measures, `giving_way` keeps a node with a wrong clock from leading.

mod agree;
mod asking;
mod giving_way;
mod grid_time;
mod own;

pub(crate) use asking::{ask_all, compare, serve};
pub(crate) use giving_way::give_way;
pub(crate) use grid_time::{GridTime, Standing, words};
pub(crate) use own::{Right, Rules};
