//! The cluster crate from outside: groups, mesh and bootstrapping of several nodes in one process.

mod bootstrap;
mod chaos;
mod damage;
mod groups;
mod mesh;
mod standing;
mod suite;
mod support;
mod tcp;
