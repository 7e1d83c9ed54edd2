//! An entry on its way: the commands, and who waits for each outcome.
//!
//! On the leader the waiters travel inside the entry's decoded form, so that apply answers them without a lookup. An
//! entry that is lost drops its waiters, and a dropped waiter answers "unknown".

use std::sync::Arc;

use bytes::Bytes;
use ordergrid_cluster::{EntryId, Packed};
use ordergrid_domain::placing::{NotLanded, Proposed};
use ordergrid_domain::{Command, Entry, Outcome, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::callers::Caller;
use super::front_door::{self, FrontDoor};
use super::landings::Landings;
use super::ticket::HoldTicket;

/// What a command came to, and where in the log.
#[derive(Debug)]
pub(crate) struct Landed {
    /// The machine's answer.
    pub(crate) outcome: Outcome,
    /// The entry's place.
    pub(crate) at: EntryId,
}

/// Who waits for a command.
pub(crate) enum Reply {
    /// Nobody.
    Nobody,
    /// A caller, of this command alone or of many.
    Caller(Caller<Result<Landed, NotLanded>>),
    /// An order being placed: its caller, its attempt and its key.
    Place(Proposed<FrontDoor>),
    /// Holds: who waits for them, and the accounts of their SKUs.
    Hold(HoldTicket),
}

impl Reply {
    /// Tells the outcome.
    pub(crate) fn land(self, outcome: Outcome, at: EntryId, landings: &mut Landings) {
        match self {
            Self::Nobody => {}
            // A caller that went away has its answer in the log.
            Self::Caller(caller) => caller.send(Ok(Landed { outcome, at })),
            Self::Place(proposed) => front_door::landed(proposed, outcome, at, landings),
            Self::Hold(ticket) => ticket.land(outcome, landings),
        }
    }

    /// Nobody wants it any more who does not have an answer already: it is not to be begun.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        match self {
            Self::Caller(caller) => caller.is_late(now),
            Self::Place(proposed) => proposed.caller().is_late(now),
            Self::Nobody | Self::Hold(_) => false,
        }
    }

    /// Tells that there is no outcome.
    pub(crate) fn fail(self, why: NotLanded, landings: &mut Landings) {
        match self {
            Self::Nobody => {}
            Self::Caller(caller) => caller.send(Err(why)),
            Self::Place(proposed) => front_door::not_landed(proposed, why, landings),
            Self::Hold(ticket) => ticket.fail(why, landings),
        }
    }
}

/// The decoded form of an entry. Apply takes the content out, so that the log's tail keeps only the bytes.
pub(crate) struct Proposal(Mutex<Option<(Entry, Vec<Reply>)>>);

impl Proposal {
    /// Packs commands with their waiters: encoded once, here, in `room`, which is used again and again.
    pub(crate) fn pack(at: Timestamp, commands: Vec<Command>, replies: Vec<Reply>, room: &mut Vec<u8>) -> Arc<Packed> {
        let entry = Entry { at, commands };
        // The log keeps no more than the bytes that it needs.
        let bytes = Bytes::copy_from_slice(entry.write_into(room));
        let proposal = Self(Mutex::new(Some((entry, replies))));
        Arc::new(Packed::new(bytes, Arc::new(proposal)))
    }

    /// Takes commands and waiters out of an entry; an entry without a decoded form is decoded and has no waiters.
    ///
    /// # Errors
    /// The bytes are no entry: the log is damaged or written by a newer version.
    pub(crate) fn unpack(packed: &Packed) -> Result<(Entry, Vec<Reply>), ordergrid_domain::encoding::BytesError> {
        let proposal = packed.decoded::<Self, std::convert::Infallible>(|_| Ok(Self(Mutex::new(None))));
        let taken = proposal.ok().and_then(|proposal| proposal.0.lock().take());
        match taken {
            Some(content) => Ok(content),
            None => Ok((Entry::from_bytes(packed.bytes())?, Vec::new())),
        }
    }

    /// Fails every waiter of an entry that will not be applied here.
    pub(crate) fn fail(packed: &Packed, why: NotLanded) {
        let proposal = packed.decoded::<Self, std::convert::Infallible>(|_| Ok(Self(Mutex::new(None))));
        if let Some((_, replies)) = proposal.ok().and_then(|proposal| proposal.0.lock().take()) {
            let mut landings = Landings::default();
            for reply in replies {
                reply.fail(why, &mut landings);
            }
        }
    }
}
