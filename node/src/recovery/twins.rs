//! Detects two processes that run as the same node, each on a copy of its data. They would vote and acknowledge in each other's
//! name.
//!
//! Each start of a process draws a random number, and the process repeatedly tells it to its peers. A peer numbers the starts
//! that it hears of, and answers with the latest number. The process sends this number with its next message, which proves that
//! it was alive after that start was heard of. Two starts of a node, each alive after the other was heard of, run at the same
//! time. This needs no clock, and a late message proves nothing. The process that was started later ends with an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::join_all;
use ordergrid_cluster::{Mesh, NodeId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::NodeContext;

/// Number of the mesh service.
const SERVICE: u8 = 4;
/// Version of the messages.
const VERSION: u8 = 1;
/// Pause between two messages to a peer.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Starts of a node that a peer remembers.
const STARTS: usize = 8;
/// Longest address, in bytes.
const ADDRESS: usize = 300;

/// The message of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    /// Random number of the start.
    start: u64,
    /// The latest number that the peer answered; 0 at first.
    number: u64,
    /// Uptime in milliseconds.
    age_ms: u64,
    /// The address of the process.
    address: String,
}

/// The peer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    number: u64,
    twin: Option<Twin>,
}

/// Another process that runs as the same node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Twin {
    /// The address of the other process.
    address: String,
    /// Whether the other process was started first.
    older: bool,
}

/// The starts of one node that a peer has heard of, numbered from 1.
#[derive(Default)]
struct Starts {
    count: u64,
    heard: VecDeque<Start>,
}

struct Start {
    start: u64,
    number: u64,
    /// The highest number that the start has sent.
    lived_after: u64,
    began: Instant,
    address: String,
}

impl Starts {
    /// Records a message with this number. Returns the number to answer, and the twin.
    fn hear(&mut self, asked: &Question, brought: u64, now: Instant) -> (u64, Option<Twin>) {
        if !self.heard.iter().any(|known| known.start == asked.start) {
            self.count += 1;
            let began = now.checked_sub(Duration::from_millis(asked.age_ms)).unwrap_or(now);
            let (start, number, address) = (asked.start, self.count, asked.address.clone());
            self.heard.push_back(Start { start, number, lived_after: 0, began, address });
            if self.heard.len() > STARTS {
                self.heard.pop_front();
            }
        }
        let here = self.heard.iter_mut().find(|known| known.start == asked.start).expect("put there above");
        if brought <= self.count {
            here.lived_after = here.lived_after.max(brought);
        }
        (self.count, self.twin_of(asked.start))
    }

    /// The start that runs at the same time: each was alive after the other was heard of.
    fn twin_of(&self, start: u64) -> Option<Twin> {
        let here = self.heard.iter().find(|known| known.start == start)?;
        let beside = |other: &Start| here.lived_after >= other.number && other.lived_after >= here.number;
        let twin = self.heard.iter().find(|other| other.start != start && beside(other))?;
        let older = (twin.began, twin.start) < (here.began, here.start);
        Some(Twin { address: twin.address.clone(), older })
    }
}

/// The starts of all peers.
struct Register {
    /// Added to every number, so that numbers of an earlier process prove nothing.
    base: u64,
    nodes: Mutex<BTreeMap<NodeId, Starts>>,
    /// Twins that were logged, by node and start.
    said: Mutex<BTreeSet<(NodeId, u64)>>,
}

/// Answers peers. `base` is random per process.
pub(crate) fn serve(mesh: &Mesh, base: u64) {
    let register = Register { base, nodes: Mutex::default(), said: Mutex::default() };
    mesh.serve(
        SERVICE,
        Arc::new(move |from, body| {
            let answer = question_from(body).map_or_else(Bytes::new, |asked| answer_bytes(&register.hear(from, &asked)));
            Box::pin(std::future::ready(answer))
        }),
    );
}

impl Register {
    fn hear(&self, from: NodeId, asked: &Question) -> Answer {
        let mut nodes = self.nodes.lock();
        let starts = nodes.entry(from).or_default();
        let (number, twin) = starts.hear(asked, asked.number.wrapping_sub(self.base), Instant::now());
        if let Some(twin) = &twin
            && twin.older
            && self.said.lock().insert((from, asked.start))
        {
            tracing::error!(peer = from, address = asked.address, other = twin.address, "two processes run as one node");
        }
        Answer { number: number.wrapping_add(self.base), twin }
    }
}

/// Tells every peer about this process, until dropped or until the node has failed because of a twin.
pub(crate) async fn ask(node: Arc<NodeContext>, mesh: Mesh, peers: Vec<NodeId>, start: u64, address: String) {
    let began = Instant::now();
    let me = Question { start, number: 0, age_ms: 0, address };
    join_all(peers.into_iter().map(|peer| follow(&node, &mesh, peer, began, me.clone()))).await;
}

async fn follow(node: &NodeContext, mesh: &Mesh, peer: NodeId, began: Instant, mut asked: Question) {
    let mut told = None;
    loop {
        asked.age_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answer = mesh.call(peer, SERVICE, question_bytes(&asked), DEADLINE).await;
        if let Some(answer) = answer.ok().and_then(answer_from) {
            asked.number = answer.number;
            if let Some(twin) = answer.twin.filter(|twin| told.as_ref() != Some(twin)) {
                take(node, peer, &asked.address, &twin);
                told = Some(twin);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn take(node: &NodeContext, peer: NodeId, here: &str, twin: &Twin) {
    let (id, other) = (node.id, &twin.address);
    if twin.older {
        node.fail(format!(
            "another process runs as node {id}, on a copy of the same data, as node {peer} tells: it is at {other} and was there first, \
             this one is at {here} and ends"
        ));
    } else {
        tracing::error!(node = id, peer, address = here, %other, effect = "the other process ends", "second process started as this node");
    }
}

fn question_bytes(asked: &Question) -> Bytes {
    let mut bytes = BytesMut::with_capacity(25 + asked.address.len());
    bytes.put_u8(VERSION);
    bytes.put_u64_le(asked.start);
    bytes.put_u64_le(asked.number);
    bytes.put_u64_le(asked.age_ms);
    bytes.put_slice(asked.address.as_bytes());
    bytes.freeze()
}

fn question_from(mut bytes: Bytes) -> Option<Question> {
    if bytes.len() < 25 || bytes.len() > 25 + ADDRESS || bytes.get_u8() != VERSION {
        return None;
    }
    let (start, number, age_ms) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
    let address = String::from_utf8(bytes.to_vec()).ok()?;
    Some(Question { start, number, age_ms, address })
}

fn answer_bytes(answer: &Answer) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(VERSION);
    bytes.put_u64_le(answer.number);
    if let Some(twin) = &answer.twin {
        bytes.put_u8(1 + u8::from(twin.older));
        bytes.put_slice(twin.address.as_bytes());
    } else {
        bytes.put_u8(0);
    }
    bytes.freeze()
}

/// `None` if the bytes are not an answer: the peer is only starting, or runs another version.
fn answer_from(mut bytes: Bytes) -> Option<Answer> {
    if bytes.len() < 10 || bytes.len() > 10 + ADDRESS || bytes.get_u8() != VERSION {
        return None;
    }
    let (number, twin) = (bytes.get_u64_le(), bytes.get_u8());
    let address = String::from_utf8(bytes.to_vec()).ok()?;
    let twin = match twin {
        0 => None,
        1 | 2 => Some(Twin { address, older: twin == 2 }),
        _ => return None,
    };
    Some(Answer { number, twin })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes ask one after the other, A the oldest. One in lower case brings along what it was answered first, else it is
    /// what it was answered last. Told is of which other it hears, and whether that one is older.
    fn told(asks: &str) -> String {
        let mut starts = Starts::default();
        let mut answered: BTreeMap<char, (u64, u64)> = BTreeMap::new();
        let now = Instant::now();
        let one = |ask: char| {
            let name = ask.to_ascii_uppercase();
            let (first, last) = answered.get(&name).copied().unwrap_or_default();
            let (start, age_ms) = (u64::from(u32::from(name)), u64::from(u32::from('Z') - u32::from(name)));
            let asked = Question { start, number: 0, age_ms, address: name.to_string() };
            let (number, twin) = starts.hear(&asked, if ask == name { last } else { first }, now);
            answered.insert(name, (if first == 0 { number } else { first }, number));
            twin.map_or_else(|| "-".to_owned(), |twin| if twin.older { twin.address } else { twin.address.to_lowercase() })
        };
        asks.chars().map(one).collect()
    }

    #[test]
    fn two_that_each_lived_after_the_other_are_told_and_nobody_else() {
        #[rustfmt::skip]
        let cases = [
            // what                                 who asks     the other that it is told of
            ("one process",                         "AAAA",      "----"),
            ("started again and again",             "AABBCC",    "------"),
            ("what the first said comes late",      "AABBaBaBB", "---------"),
            ("heard of the other way round",        "BABBB",     "-----"),
            ("two side by side",                    "ABABAB",    "----bA"),
            ("the other was heard of first",        "BABABA",    "----Ab"),
            ("the copy was started again",          "ABABABACACAC", "----bAb-b-bA"),
        ];
        for (what, asks, expected) in cases {
            assert_eq!(told(asks), expected, "{what}");
        }
    }

    #[test]
    fn numbers_of_an_earlier_life_prove_nothing() {
        let asked = |start, number| Question { start, number, age_ms: 0, address: String::new() };
        let before = Register { base: 100, nodes: Mutex::default(), said: Mutex::default() };
        let mut number = 0;
        for start in [7, 8, 9] {
            number = before.hear(3, &asked(start, number)).number;
        }
        let register = Register { base: u64::MAX, nodes: Mutex::default(), said: Mutex::default() };
        for (start, brought) in [(7, number), (8, number), (7, number), (8, number)] {
            assert_eq!(register.hear(3, &asked(start, brought)).twin, None);
        }
        let eight = register.hear(3, &asked(8, number)).number;
        register.hear(3, &asked(7, eight));
        assert!(register.hear(3, &asked(8, eight)).twin.is_some());
        assert_eq!(register.hear(2, &asked(8, eight)).twin, None, "another node");
    }

    #[test]
    fn questions_and_answers_have_fixed_bytes_and_nothing_else_is_one() {
        let asked = Question { start: 1, number: 2, age_ms: 3, address: "a:1".to_owned() };
        let golden = b"\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0a:1";
        assert_eq!(question_bytes(&asked)[..], golden[..]);
        assert_eq!(question_from(Bytes::from_static(golden)), Some(asked));
        for (twin, bytes) in [
            (None, &b"\x01\x05\0\0\0\0\0\0\0\0"[..]),
            (Some(Twin { address: "b".to_owned(), older: false }), b"\x01\x05\0\0\0\0\0\0\0\x01b"),
            (Some(Twin { address: "b".to_owned(), older: true }), b"\x01\x05\0\0\0\0\0\0\0\x02b"),
        ] {
            let answer = Answer { number: 5, twin };
            assert_eq!(answer_bytes(&answer)[..], *bytes);
            assert_eq!(answer_from(Bytes::from_static(bytes)), Some(answer));
        }
        for broken in [&b""[..], &b"\x01\x05\0\0\0\0\0\0\0"[..], b"\x02\x05\0\0\0\0\0\0\0\0", b"\x01\x05\0\0\0\0\0\0\0\x03"] {
            assert_eq!(answer_from(Bytes::copy_from_slice(broken)), None, "{broken:?}");
        }
        assert_eq!(question_from(Bytes::from_static(&golden[..24])), None);
    }
}
