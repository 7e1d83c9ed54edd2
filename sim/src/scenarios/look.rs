//! What a script waits for and counts: commands in the logs, as the disks have them. Holds that were asked for together are seen
//! one by one.

use ordergrid_domain::{AttemptId, Command, Entry, GroupId, Key, Message, Outcome, SkuId};

use crate::chronicle::{Body, Chronicle, Reference, ReplicaLog, alone};

/// A command and the index of its entry.
pub(super) type Found = (u64, Command);

/// The commands of a replica's log, in order.
pub(super) fn commands(log: Option<ReplicaLog>, group: GroupId) -> Vec<Found> {
    let entries = log.into_iter().flat_map(|log| log.entries.into_values());
    entries.flat_map(|logged| of_body(logged.id.index, logged.body(group).ok())).collect()
}

/// The committed commands of a group, in order.
pub(super) fn committed(chronicle: &Chronicle, group: GroupId) -> Vec<Found> {
    chronicle.chain(group).into_iter().flat_map(|entry| of_body(entry.id.index, entry.body().ok())).collect()
}

/// The committed commands of a group and what each came to.
pub(super) fn outcomes(chronicle: &Chronicle, reference: &Reference, group: GroupId) -> Vec<(Command, Outcome)> {
    let of_entry = |index: u64, entry: Entry| {
        let outcomes = reference.outcomes(group, index).to_vec();
        entry.commands.into_iter().zip(outcomes).flat_map(|(command, outcome)| match outcome {
            Outcome::Holds(results) => one_by_one(command).into_iter().zip(results.iter().map(alone)).collect(),
            outcome => vec![(command, outcome)],
        })
    };
    let entries = chronicle.chain(group).into_iter().filter_map(|entry| match entry.body() {
        Ok(Body::Commands(commands)) => Some((entry.id.index, commands)),
        _ => None,
    });
    entries.flat_map(|(index, entry)| of_entry(index, entry)).collect()
}

fn of_body(index: u64, body: Option<Body>) -> Vec<Found> {
    match body {
        Some(Body::Commands(entry)) => {
            entry.commands.into_iter().flat_map(one_by_one).map(|command| (index, command)).collect()
        }
        _ => Vec::new(),
    }
}

/// Holds that were asked for together as if each were alone; any other command as it is.
fn one_by_one(command: Command) -> Vec<Command> {
    match command {
        Command::Holds(holds) => holds.each().map(Command::Hold).collect(),
        command => vec![command],
    }
}

/// The attempt that holds this SKU here.
pub(super) fn hold_of(command: &Command, sku: &SkuId) -> Option<AttemptId> {
    match command {
        Command::Hold(hold) if hold.sku == *sku => Some(hold.attempt),
        _ => None,
    }
}

/// The attempt that places the order of this key.
pub(super) fn place_of(command: &Command, key: &Key) -> Option<AttemptId> {
    match command {
        Command::Place(place) | Command::PlaceLocal(place) if place.request.key == *key => Some(place.attempt),
        _ => None,
    }
}

/// The attempt that gives this SKU up.
pub(super) fn release_of(command: &Command, sku: &SkuId) -> Option<AttemptId> {
    match command {
        Command::Release(release) if release.skus.contains(sku) => Some(release.attempt),
        _ => None,
    }
}

/// The attempt whose orphaned hold of this SKU is freed.
pub(super) fn gone_of(command: &Command, sku: &SkuId) -> Option<AttemptId> {
    match command {
        Command::Gone(holds) => holds.iter().find(|(_, of)| of == sku).map(|(attempt, _)| *attempt),
        _ => None,
    }
}

/// A run of a stream that keeps this SKU.
pub(super) fn keeps(command: &Command, sku: &SkuId) -> bool {
    let keep =
        |message: &Message| matches!(message, Message::Decided(decided) if decided.items.iter().any(|(of, _)| of == sku));
    matches!(command, Command::Deliver(run) if run.messages.iter().any(keep))
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::command::{Deliver, Hold, KeptAttempt, KeptList, Release};
    use ordergrid_domain::{OrderId, Quantity, Slot, Timestamp};

    use super::*;

    fn sku(name: &str) -> SkuId {
        SkuId::new(name).expect("short and plain")
    }

    #[test]
    fn commands_are_told_apart_by_what_they_do_to_a_sku() {
        let slot = Slot::new(1).expect("small");
        let attempt = AttemptId { slot, group: GroupId(1), term: 3, counter: 7 };
        let valid_until = Timestamp::from_ms(9);
        let hold = Command::Hold(Hold { attempt, sku: sku("A"), quantity: Quantity(1), valid_until });
        let release = Command::Release(Release { attempt, skus: vec![sku("A")], valid_until });
        let gone = Command::Gone(vec![(attempt, sku("A"))]);
        let items = vec![(sku("A"), Quantity(1))];
        let order = OrderId::new(valid_until, slot, 1);
        let kept = vec![KeptAttempt { attempt, order, committed: true, items: 1 }];
        let keep = Message::Decided(KeptList { kept, items, released: Vec::new() });
        let deliver = Command::Deliver(Deliver { from: GroupId(1), first: 1, messages: vec![keep] });
        #[rustfmt::skip]
        let table = [
            // command           holds  releases  frees  keeps
            (&hold,            [true,  false,    false, false]),
            (&release,         [false, true,     false, false]),
            (&gone,            [false, false,    true,  false]),
            (&deliver,         [false, false,    false, true]),
            (&Command::Tick,   [false, false,    false, false]),
        ];
        let seen = |command: &Command, sku: &SkuId| {
            [
                hold_of(command, sku).is_some(),
                release_of(command, sku).is_some(),
                gone_of(command, sku).is_some(),
                keeps(command, sku),
            ]
        };
        for (command, expected) in table {
            assert_eq!(seen(command, &sku("A")), expected, "{command:?}");
            assert_eq!(seen(command, &sku("B")), [false; 4], "{command:?}");
        }
    }
}
