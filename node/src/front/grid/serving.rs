//! Answers what other nodes ask: by the number and the version in the header, each request by its own type.

use std::sync::Arc;

use bytes::Bytes;
use ordergrid_api::{Failure, UnknownCause};
use tokio::time::Instant;

use super::NodeGrid;
use super::request::{Answered, Header, NodeRequest};
use super::requests::{
    AuditCut, CommandOrder, CommandOrders, CommandSku, FindOrders, HashMark, HereRequest, LeaderRequest, MarkShard, PlaceOrder,
    PlaceOrders, PreviewRepair, ReadDisk, ReadOrder, ReadOrders, ReadSku, RepairShard, ReportNode, StepStream, TakeCut,
    TellClock,
};
use crate::context::LedAt;
use crate::peers::{decode, encode};

/// Finds the request of a header among those that are known.
macro_rules! dispatch {
    ($grid:ident, $header:ident, $body:ident, led: [$($led:ident),*], here: [$($here:ident),*]) => {
        match ($header.tag, $header.version) {
            $(($led::TAG, $led::VERSION) => answer_led::<$led>($grid, &$body).await,)*
            $(($here::TAG, $here::VERSION) => answer_here::<$here>($grid, &$body).await,)*
            (tag, version) => not_understood(format!("unknown request {tag} of version {version}")),
        }
    };
}

/// Answers one frame.
pub(crate) async fn answer(grid: &NodeGrid, mut body: Bytes) -> Bytes {
    let Some(header) = Header::take(&mut body) else { return not_understood("a frame without a header".to_owned()) };
    tracing::trace!(operation = header.tag, version = header.version, number = header.number, "request of another node");
    dispatch!(
        grid, header, body,
        led: [
            PlaceOrder, PlaceOrders, CommandOrder, CommandOrders, CommandSku, ReadOrder, ReadOrders, ReadSku, MarkShard,
            RepairShard, StepStream, FindOrders
        ],
        here: [ReportNode, HashMark, TakeCut, AuditCut, TellClock, ReadDisk, PreviewRepair]
    )
}

/// Refuses a request, whatever it is.
pub(crate) fn refused(failure: Failure) -> Bytes {
    encode(&Answered::<()>::Failed(failure))
}

/// Refuses a request in words that can be read whatever was asked.
fn not_understood(words: String) -> Bytes {
    encode(&Answered::<()>::NotUnderstood(words))
}

fn unreadable<R: NodeRequest>() -> Bytes {
    not_understood(format!("request {} of version {} cannot be read", R::TAG, R::VERSION))
}

/// Where its shard is led; without an outcome in time it is unknown.
async fn answer_led<R: LeaderRequest>(grid: &NodeGrid, body: &[u8]) -> Bytes {
    let Some(request) = decode::<R>(body) else { return unreadable::<R>() };
    let Some(shard) = request.shard(&grid.node) else { return unreadable::<R>() };
    let answered = match grid.node.place(shard) {
        LedAt::Here(leading) => handled(grid, &leading, request).await,
        _ => Answered::Elsewhere(grid.node.leader_there(shard)),
    };
    encode(&answered)
}

async fn handled<R: LeaderRequest>(grid: &NodeGrid, leading: &Arc<crate::shard::Leading>, request: R) -> Answered<R::Response> {
    let handled = tokio::time::timeout(R::patience(&grid.limits), request.handle(grid, leading, Instant::now())).await;
    match handled.unwrap_or_else(|_| Err(Failure::unknown(UnknownCause::TimedOut))) {
        Ok(response) => Answered::Done(response),
        Err(failure) => Answered::Failed(failure),
    }
}

async fn answer_here<R: HereRequest>(grid: &NodeGrid, body: &[u8]) -> Bytes {
    match decode::<R>(body) {
        Some(request) => encode(&request.answer(grid).await),
        None => unreadable::<R>(),
    }
}
