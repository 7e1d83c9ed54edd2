//! The account of all memory whose use grows with requests: connections, bodies and the commands made of them, answers, and
//! requests of other nodes. Bytes are taken before they are allocated, and returned when the [`Taken`] is dropped. A request
//! that does not fit is refused. The account covers connections and large allocations, never single orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A purpose for which memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Open connections, with their buffers and headers.
    Connections,
    /// Requests under way on HTTP/2 connections, with their headers and small answers.
    Streams,
    /// Bodies, and the commands and log entries made of them.
    Bodies,
    /// Answers that their clients have not read yet.
    Answers,
    /// Requests that other nodes have forwarded.
    Forwarded,
}

impl Use {
    /// All purposes.
    pub const ALL: [Self; 5] = [Self::Connections, Self::Streams, Self::Bodies, Self::Answers, Self::Forwarded];

    /// The value of the metric's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Forwarded => "forwarded",
        }
    }

    /// The largest share of the account, in eighths, so that no purpose starves the others: connections are cheap to open and
    /// to hold, and clients that leave answers unread must not keep orders out.
    fn eighths(self) -> u64 {
        match self {
            Self::Streams | Self::Answers => 4,
            Self::Connections | Self::Bodies | Self::Forwarded => 6,
        }
    }
}

/// Memory of a body until it is processed, as a multiple of its size: the bytes, the typed request, the grid's commands, the
/// log entry.
const BODY: u64 = 4;

/// The account has too little memory left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory for requests is used up")]
pub struct Full;

/// The account. Clones share it.
#[derive(Clone, Debug)]
pub struct Account(Arc<Books>);

#[derive(Debug)]
struct Books {
    limit: u64,
    all: AtomicU64,
    uses: [AtomicU64; Use::ALL.len()],
}

impl Account {
    /// An account of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Books { limit, all: AtomicU64::new(0), uses: Default::default() }))
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// [`Full`]: nothing was taken. Refuse the request.
    pub fn take(&self, what: Use, bytes: u64) -> Result<Taken, Full> {
        self.add(what, bytes)?;
        Ok(Taken { account: self.clone(), what, bytes })
    }

    /// Takes bytes even if the account is exhausted: for memory that is already allocated and can no longer be refused. Further
    /// requests wait until the account is balanced again.
    #[must_use]
    pub fn owe(&self, what: Use, bytes: u64) -> Taken {
        self.0.uses[what as usize].fetch_add(bytes, Ordering::Relaxed);
        self.0.all.fetch_add(bytes, Ordering::Relaxed);
        Taken { account: self.clone(), what, bytes }
    }

    /// The size of the account in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// The most bytes for one purpose.
    #[must_use]
    pub fn most(&self, what: Use) -> u64 {
        self.0.limit / 8 * what.eighths()
    }

    /// The bytes that are taken for a purpose.
    #[must_use]
    pub fn taken(&self, what: Use) -> u64 {
        self.0.uses[what as usize].load(Ordering::Relaxed)
    }

    /// The largest body that can fit into the account.
    #[must_use]
    pub fn largest_body(&self) -> u64 {
        self.most(Use::Bodies) / BODY
    }

    /// The smallest account into which a body of this size can fit.
    #[must_use]
    pub fn least_for_body(body: u64) -> u64 {
        (body * BODY).div_ceil(Use::Bodies.eighths()) * 8
    }

    /// The memory to take for a body of this size.
    #[must_use]
    pub fn cost_of_body(body: u64) -> u64 {
        body * BODY
    }

    /// Whether this many bytes could be taken now.
    #[must_use]
    pub fn has(&self, what: Use, bytes: u64) -> bool {
        let fits = |taken: &AtomicU64, most: u64| taken.load(Ordering::Relaxed).saturating_add(bytes) <= most;
        fits(&self.0.uses[what as usize], self.most(what)) && fits(&self.0.all, self.0.limit)
    }

    fn add(&self, what: Use, bytes: u64) -> Result<(), Full> {
        let (books, most) = (&*self.0, self.most(what));
        if !within(&books.uses[what as usize], bytes, most) {
            return Err(Full);
        }
        if !within(&books.all, bytes, books.limit) {
            books.uses[what as usize].fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full);
        }
        Ok(())
    }

    fn give_back(&self, what: Use, bytes: u64) {
        for sum in [&self.0.uses[what as usize], &self.0.all] {
            let taken = sum.fetch_sub(bytes, Ordering::Relaxed);
            assert!(taken >= bytes, "memory is counted: {bytes} bytes of {what:?} are given back, {taken} were taken");
        }
    }
}

/// Adds `bytes` if the sum stays within `most`. Of two concurrent additions that exceed it together, both may be refused, but
/// never both admitted.
fn within(sum: &AtomicU64, bytes: u64, most: u64) -> bool {
    let before = sum.fetch_add(bytes, Ordering::Relaxed);
    let fits = before.saturating_add(bytes) <= most;
    if !fits {
        sum.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}

/// Bytes taken from the account. They are returned when this is dropped.
#[derive(Debug)]
pub struct Taken {
    account: Account,
    what: Use,
    bytes: u64,
}

impl Taken {
    /// Number of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more bytes, up to `bytes` in total.
    ///
    /// # Errors
    /// [`Full`]: nothing more was taken.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            self.account.add(self.what, more)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Returns all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.account.give_back(self.what, less);
        self.bytes -= less;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.account.give_back(self.what, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "memory is counted: 2 bytes of Bodies are given back, 1 were taken")]
    fn no_more_is_given_back_than_was_taken() {
        let account = Account::new(800);
        let one = account.owe(Use::Bodies, 1);
        std::mem::forget(one);
        account.give_back(Use::Bodies, 2);
    }

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let account = Account::new(800);
        let body = account.take(Use::Bodies, 500).expect("there is room");
        let mut answer = account.take(Use::Answers, 200).expect("there is room");
        assert_eq!(account.take(Use::Connections, 101).unwrap_err(), Full, "800 in all");
        assert_eq!(account.taken(Use::Connections), 0, "nothing was taken");
        assert_eq!(answer.grow_to(301), Err(Full));
        assert_eq!(answer.grow_to(300), Ok(()));
        assert!(!account.has(Use::Connections, 1));
        answer.shrink_to(100);
        assert!(account.has(Use::Connections, 200) && !account.has(Use::Connections, 201));
        drop(body);
        assert_eq!(Use::ALL.map(|what| account.taken(what)), [0, 0, 0, 100, 0]);
        drop(answer);
        assert_eq!(Use::ALL.map(|what| account.taken(what)), [0; 5]);
    }

    #[test]
    fn no_use_shuts_out_the_others() {
        let account = Account::new(800);
        let idle = account.take(Use::Connections, 600).expect("three quarters of it");
        assert!(account.take(Use::Connections, 1).is_err() && account.take(Use::Bodies, 200).is_ok());
        drop(idle);
    }

    #[test]
    fn what_is_owed_keeps_others_out_until_it_is_given_back() {
        let account = Account::new(800);
        let owed = account.owe(Use::Answers, 1_000);
        assert!(account.take(Use::Bodies, 1).is_err());
        drop(owed);
        assert!(account.take(Use::Bodies, 600).is_ok());
    }
}
