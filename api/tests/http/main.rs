//! What clients see of HTTP, held against a grid that lives in a test: every route's answer, every row of the error table,
//! every limit, and the connections themselves. No sockets.

mod answers;
mod bad_requests;
mod batches;
mod by_reference;
mod command_batches;
mod connections;
mod failures;
mod measures;
mod memory;
mod scripted;
mod site;
