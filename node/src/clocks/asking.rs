//! Measures the clocks of all peers, and answers their requests. It has its own mesh service, because time in a queue behind
//! other calls would count as transit time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::{join, join_all};
use ordergrid_cluster::{Mesh, NodeId};
use ordergrid_domain::Timestamp;

use super::grid_time::ToldTime;
use crate::context::NodeContext;

/// Number of the mesh service.
const SERVICE: u8 = 3;
/// Version of the messages.
const VERSION: u8 = 2;
/// Length of an answer, in bytes.
const LENGTH: usize = 18;
/// Pause between two requests to a peer that answers.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after a request without an answer.
const AGAIN: Duration = Duration::from_millis(200);
/// A later answer is too imprecise.
const DEADLINE: Duration = Duration::from_secs(2);

/// Answers peers.
pub(crate) fn serve(mesh: &Mesh, node: &Arc<NodeContext>) {
    let node = Arc::downgrade(node);
    mesh.serve(
        SERVICE,
        Arc::new(move |_, _| {
            let told = node.upgrade().map(|node| node.time.tell(node.log_time()));
            Box::pin(std::future::ready(told.map_or_else(Bytes::new, to_bytes)))
        }),
    );
}

/// Measures the peers' clocks and watches the own clock, until dropped.
pub(crate) async fn compare(node: Arc<NodeContext>, mesh: Mesh, peers: Vec<NodeId>) {
    let asking = peers.into_iter().map(|peer| follow(&node, &mesh, peer));
    join(watch(&node), join_all(asking)).await;
}

async fn watch(node: &NodeContext) {
    loop {
        tokio::time::sleep(PAUSE).await;
        node.time.look(node.log_time());
    }
}

async fn follow(node: &NodeContext, mesh: &Mesh, peer: NodeId) {
    loop {
        let answered = ask(node, mesh, peer).await;
        tokio::time::sleep(if answered { PAUSE } else { AGAIN }).await;
    }
}

/// Asks every peer now: what is seen of the clocks afterwards is not of before.
pub(crate) async fn ask_all(node: &NodeContext, mesh: &Mesh) {
    join_all(node.peers.nodes().map(|peer| ask(node, mesh, peer))).await;
}

async fn ask(node: &NodeContext, mesh: &Mesh, peer: NodeId) -> bool {
    let asked = node.time.monotonic();
    let answer = mesh.call(peer, SERVICE, Bytes::from_static(&[VERSION]), DEADLINE).await;
    let told = answer.ok().and_then(from_bytes);
    if let Some(told) = told {
        node.time.heard(peer, asked, told, node.log_time());
    }
    told.is_some()
}

fn to_bytes(told: ToldTime) -> Bytes {
    let mut bytes = BytesMut::with_capacity(LENGTH);
    bytes.put_u8(VERSION);
    bytes.put_u8(u8::from(told.sound) | u8::from(told.asks) << 1);
    bytes.put_u64_le(told.own.as_ms());
    bytes.put_u64_le(told.log.as_ms());
    bytes.freeze()
}

/// `None` if the bytes are not an answer: the peer is only starting, or runs another version.
fn from_bytes(mut bytes: Bytes) -> Option<ToldTime> {
    if bytes.len() != LENGTH || bytes.get_u8() != VERSION {
        return None;
    }
    let flags = bytes.get_u8();
    let (own, log) = (Timestamp::from_ms(bytes.get_u64_le()), Timestamp::from_ms(bytes.get_u64_le()));
    (flags < 4).then_some(ToldTime { own, sound: flags & 1 != 0, asks: flags & 2 != 0, log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_fixed_bytes_and_nothing_else_is_one() {
        let (own, log) = (Timestamp::from_ms(0x0102_0304), Timestamp::from_ms(0x0506));
        let told = ToldTime { own, sound: true, asks: false, log };
        let golden = [2, 1, 4, 3, 2, 1, 0, 0, 0, 0, 6, 5, 0, 0, 0, 0, 0, 0];
        assert_eq!(to_bytes(told)[..], golden);
        assert_eq!(from_bytes(Bytes::copy_from_slice(&golden)), Some(told));
        let asks = ToldTime { sound: false, asks: true, ..told };
        assert_eq!(from_bytes(to_bytes(asks)), Some(asks));
        let changed = |at: usize, byte| {
            let mut bytes = golden;
            bytes[at] = byte;
            bytes.to_vec()
        };
        let earlier = vec![1, 1, 4, 3, 2, 1, 0, 0, 0, 0];
        for broken in [golden[..17].to_vec(), changed(0, 1), changed(0, 3), changed(1, 4), earlier, Vec::new()] {
            assert_eq!(from_bytes(Bytes::from(broken.clone())), None, "{broken:?}");
        }
    }
}
