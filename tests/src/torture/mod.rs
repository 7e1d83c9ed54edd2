//! A black-box run: real processes under a load, hurt in ways drawn from a seed, and judged by what clients were told.
//!
//! A round draws the number of nodes, a load and its strikes ([`Plan`]), lets the load run while one strike after another
//! hurts the grid and is mended ([`Field`]), heals everything, asks again what had no answer, reads everything through every
//! node, and hands it to the judges (`judge`). The plan of a seed is always the same; the moments at which real processes
//! meet are not. What a machine does not allow (namespaces, mounts, a clock that can be set for one process) is left out
//! with words ([`Site`]). Read next: `plan` (what can be drawn), `field` (how it is done), `judge` (what must hold).

mod asker;
mod cluster;
mod damage;
mod ending;
mod field;
mod history;
mod judge;
mod load;
mod network;
mod outage;
mod plan;
mod report;
mod round;
mod site;
mod volume;

pub use field::Field;
pub use history::{Ask, Attempt, End, LineAsked, Operation, OrderSeen, Seen, SkuSeen, What};
pub use judge::{Evidence, NodeView, Violation, judge};
pub use network::Network;
pub use outage::{Outage, quantile};
pub use plan::{Kind, Plan};
pub use report::Report;
pub use round::{Round, play};
pub use site::Site;
