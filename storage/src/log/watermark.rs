//! Callers that wait for a group's log to become durable.

use std::collections::VecDeque;

use openraft::RaftTypeConfig;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The waiting callers, in the order of their requests.
pub(super) struct Watermark<C: RaftTypeConfig> {
    waiting: Mutex<VecDeque<(u64, Waiter<C>)>>,
}

/// A caller that waits for a request to become durable. If it is dropped without an answer, the request never will.
pub(super) enum Waiter<C: RaftTypeConfig> {
    /// openraft, for an append.
    Appended(IOFlushed<C>),
    /// A caller that waits for a vote, or for an open log to end.
    Caller(oneshot::Sender<()>),
}

impl<C: RaftTypeConfig> Watermark<C> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default() }
    }

    /// Adds a caller that waits for `request`. Requests never decrease.
    pub(super) fn wait(&self, request: u64, waiter: Waiter<C>) {
        let mut waiting = self.waiting.lock();
        let last = waiting.back().map_or(0, |(waits_for, _)| *waits_for);
        assert!(request >= last, "AcknowledgedIsDurable: who waits for request {request} comes after one for {last}");
        waiting.push_back((request, waiter));
    }

    /// Everything up to `request` is durable.
    ///
    /// openraft keeps only the latest completion of a group, and sleeps between two in quick succession, so it gets one. Every
    /// signal has its own receiver, so all of them are sent.
    pub(super) fn reached(&self, request: u64) {
        let mut newest = None;
        let mut others = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            while waiting.front().is_some_and(|(waits_for, _)| *waits_for <= request) {
                match waiting.pop_front() {
                    Some((_, Waiter::Appended(notify @ IOFlushed::Notify(_)))) => newest = Some(notify),
                    Some((_, other)) => others.push(other),
                    None => break,
                }
            }
        }
        for waiter in others {
            match waiter {
                Waiter::Appended(flushed) => flushed.io_completed(Ok(())),
                // The receiver may be gone; the request is durable all the same.
                Waiter::Caller(caller) => drop(caller.send(())),
            }
        }
        if let Some(newest) = newest {
            newest.io_completed(Ok(()));
        }
    }

    /// The log has failed: no further request will become durable.
    pub(super) fn abandon(&self) {
        self.waiting.lock().clear();
    }
}
