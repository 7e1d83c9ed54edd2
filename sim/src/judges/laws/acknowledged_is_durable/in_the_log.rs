//! AcknowledgedIsDurable, against the log: what was answered as done is on the committed chain.

use ordergrid_api::Token;
use ordergrid_domain::command::{OrderCommand, SkuAction};
use ordergrid_domain::{Command, GroupId, Key, Law, OrderId, SkuId};

use crate::chronicle::{Body, Chronicle};
use crate::history::{Ask, Ending, Operation, Said, Seen};
use crate::judges::Evidence;
use crate::verdict::Violation;

/// Whatever a client was told to stand at a place of a log stands there on the committed chain when all is over; the command
/// of an answered write does so itself.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Vec<Violation> {
    evidence.history.operations.iter().filter_map(|operation| check(operation, evidence.chronicle).err()).collect()
}

fn check(operation: &Operation, chronicle: &Chronicle) -> Result<(), Violation> {
    let Ending::Done { answer, token, replayed } = &operation.ending else { return Ok(()) };
    if let Said::Batch(batch) = &**answer {
        for seen in batch.results.iter().filter_map(|result| result.token.as_deref()).filter_map(seen) {
            stands(operation, seen, chronicle)?;
        }
    }
    let Some(seen) = token else { return Ok(()) };
    let commands = stands(operation, *seen, chronicle)?;
    if *replayed || !is_command(&operation.ask) {
        return Ok(());
    }
    if commands.iter().any(|command| asks_for(command, &operation.ask)) {
        return Ok(());
    }
    Err(told(operation, *seen, &format!("the committed entry there has only {commands:?}")))
}

/// The commands of the committed entry there.
fn stands(operation: &Operation, seen: Seen, chronicle: &Chronicle) -> Result<Vec<Command>, Violation> {
    let missing = || told(operation, seen, &format!("the chain ends at {:?}", chronicle.last(GroupId(seen.group))));
    let entry = chronicle.entry(GroupId(seen.group), seen.index).ok_or_else(missing)?;
    match entry.body().map_err(|error| told(operation, seen, &error))? {
        Body::Commands(entry) => Ok(entry.commands),
        Body::Blank | Body::Membership(_) | Body::Meta(_) => Ok(Vec::new()),
    }
}

fn told(operation: &Operation, seen: Seen, what: &str) -> Violation {
    let Operation { number, client, ask, .. } = operation;
    let place = format!("group {}, index {}", seen.group, seen.index);
    Violation::new(
        Law::AcknowledgedIsDurable,
        format!("operation {number} of client {client} was told {place}, but {what}: {ask:?}"),
    )
}

fn seen(token: &str) -> Option<Seen> {
    let token: Token = token.parse().ok()?;
    Some(Seen { group: token.shard, index: token.index })
}

/// Whether the answer of it is the outcome of one command.
fn is_command(ask: &Ask) -> bool {
    use Ask::{PlaceBatch, ReadHistory, ReadOrder, ReadSku, ReadUser, Status, Verify};
    !matches!(ask, PlaceBatch(_) | ReadOrder(_) | ReadSku(_) | ReadHistory(_) | ReadUser(_) | Status | Verify)
}

fn asks_for(command: &Command, ask: &Ask) -> bool {
    match (command, ask) {
        (Command::Place(place) | Command::PlaceLocal(place), Ask::Place(key, _)) => place.request.key == *key,
        (Command::Order(command), ask) => order_of(ask).is_some_and(|(key, order)| is_of(command, key, order)),
        (Command::Sku(command), Ask::PutSku(sku, _)) => command.sku == *sku && matches!(command.action, SkuAction::Put { .. }),
        (Command::Sku(command), ask) => {
            sku_of(ask).is_some_and(|(key, sku)| command.sku == *sku && command.key.as_ref() == Some(key))
        }
        _ => false,
    }
}

fn is_of(command: &OrderCommand, key: &Key, order: OrderId) -> bool {
    command.order == order && command.key == *key
}

fn order_of(ask: &Ask) -> Option<(&Key, OrderId)> {
    match ask {
        Ask::Pay(key, order, _)
        | Ask::Cancel(key, order, _)
        | Ask::Complete(key, order)
        | Ask::Refund(key, order, _)
        | Ask::Pick(key, order, _) => Some((key, *order)),
        Ask::RefundOutcome(key, refund, _) => Some((key, refund.order)),
        Ask::Ship(key, fulfilment, _) | Ask::Deliver(key, fulfilment) | Ask::Unpick(key, fulfilment) => {
            Some((key, fulfilment.order))
        }
        _ => None,
    }
}

fn sku_of(ask: &Ask) -> Option<(&Key, &SkuId)> {
    match ask {
        Ask::Receive(key, sku, _) | Ask::Adjust(key, sku, _) => Some((key, sku)),
        _ => None,
    }
}
