//! What the judges of clients read: the history sorted by what it is about, and the searches and comparisons that several of
//! them need.

pub mod book;
pub mod grown;
pub mod linear;
pub mod rare;
pub mod standard;
pub mod undated;
