//! The running hash of a history, and its text on demand.
//!
//! Everything that can be seen from outside is noted: bytes on the network, batches on the disks, faults, what clients are
//! answered, each with its time. Two runs of one seed must come to the same hash. A process runs one history, on one
//! thread, so the trace is that thread's.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::io::Write;

use xxhash_rust::xxh3::Xxh3;

use crate::history::SimTime;

#[derive(Default)]
struct Trace {
    hash: Xxh3,
    events: u64,
    now: SimTime,
    text: Option<Box<dyn Write>>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// Where the text goes from now on; without it only the hash is kept.
pub fn tell(out: Box<dyn Write>) {
    TRACE.with_borrow_mut(|trace| trace.text = Some(out));
}

/// The time from now on.
pub fn at(now: SimTime) {
    TRACE.with_borrow_mut(|trace| trace.now = now);
}

/// The time now.
#[must_use]
pub fn now() -> SimTime {
    TRACE.with_borrow(|trace| trace.now)
}

/// Something that happened, as text.
pub fn note(event: Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let line = format!("{} {event}\n", trace.now);
        trace.take(line.as_bytes());
        if let Some(out) = &mut trace.text {
            // A trace that cannot be written is not a reason to change the history.
            out.write_all(line.as_bytes()).ok();
        }
    });
}

/// Something worth reading that is no part of the history: it only shows in the text.
pub fn aside(remark: Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let now = trace.now;
        if let Some(out) = &mut trace.text {
            writeln!(out, "{now}   ({remark})").ok();
        }
    });
}

/// Bytes that moved, with a name for what they are; in the text only their number and hash show.
pub fn bytes(what: Arguments<'_>, bytes: &[u8]) {
    let hash = xxhash_rust::xxh3::xxh3_64(bytes);
    note(format_args!("{what} {} bytes {hash:016x}", bytes.len()));
}

/// The hash of everything noted so far, and how much that was.
#[must_use]
pub fn digest() -> (u64, u64) {
    TRACE.with_borrow(|trace| (trace.hash.digest(), trace.events))
}

/// Writes out what is buffered; before the process ends.
pub fn flush() {
    TRACE.with_borrow_mut(|trace| {
        if let Some(out) = &mut trace.text {
            out.flush().ok();
        }
    });
}

impl Trace {
    fn take(&mut self, line: &[u8]) {
        self.hash.update(line);
        self.events += 1;
    }
}
