//! What a node does when its disk has lost something: finding out, putting aside, filling anew, and the acts of an operator on
//! the data of a node that is stopped.

pub mod offline;

pub(crate) mod aside;
pub(crate) mod copies;
pub(crate) mod losses;
pub(crate) mod lost_log;
pub(crate) mod mend;
pub(crate) mod recall;
pub(crate) mod refill;
pub(crate) mod scrub;
pub(crate) mod twins;
pub(crate) mod wholeness;
