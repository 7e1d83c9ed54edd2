use ordergrid_cluster::Role;
use ordergrid_domain::{Command, Key};

use super::*;
use crate::chronicle::Watched;
use crate::chronicle::testing::{Row, SHARD, entry, map, replica, write, write_everywhere};
use crate::history::{Ask, Ending, Operation, Said, Seen};
use crate::judges::laws::acknowledged_is_durable::in_the_log;
use crate::judges::laws::replicas_agree;

use Row::{Blank, Commands, Committed, CutFrom, Purged, Vote};

fn looked(chronicle: &Chronicle, rounds: &[Statuses]) -> Vec<&'static str> {
    let lives = BTreeMap::from([(1, 1), (2, 1), (3, 1)]);
    let mut judges = logs::judges();
    let mut fired = Vec::new();
    for statuses in rounds {
        let moment = Moment { now: SimTime::default(), statuses, lives: &lives, chronicle };
        fired
            .extend(judges.iter_mut().filter_map(|judge| judge.look(&moment).err()).map(|violation| violation.property.name()));
    }
    fired
}

fn ended(chronicle: &Chronicle, history: &History, statuses: &Statuses) -> Vec<&'static str> {
    let reference = Reference::replay(chronicle, &map(), &Watched::of(history)).unwrap_or_default();
    let now = SimTime::default();
    let evidence = Evidence { history, chronicle, reference: &reference, statuses, calm_since: now, now };
    let logs = logs::judges().into_iter().filter_map(|mut judge| judge.end(&evidence).err());
    let fired = logs.chain(in_the_log::judge(&evidence)).chain(replicas_agree::judge(&evidence));
    // Group 0 has no log here.
    fired.filter(|violation| !violation.text.contains("group 0")).map(|violation| violation.property.name()).collect()
}

fn mark(at: u64) -> ordergrid_domain::Entry {
    entry(at, Vec::new())
}

/// Every node has, durably, what the others have.
fn founded() -> Chronicle {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Vote(1, 1, true), Blank(1, 0), Commands(1, 1, mark(1)), Commands(1, 2, mark(2))]);
    chronicle
}

#[test]
#[rustfmt::skip]
fn each_law_of_the_logs_is_seen_broken() {
    type Batches<'a> = &'a [(u64, &'a [Row])];
    let rows: &[(&str, &str, Batches<'_>)] = &[
        // what                                     law                      node, rows
        ("a leader's life",                         "",                      &[(1, &[Committed(1, 2)]), (2, &[Committed(1, 2), Purged(1, 1)]), (3, &[Committed(1, 1)])]),
        ("an entry that was not committed is cut",  "",                      &[(3, &[Committed(1, 1), Vote(2, 2, true), CutFrom(2), Blank(2, 2)])]),
        ("a lost vote's winner becomes known",      "",                      &[(3, &[Vote(2, 3, false), Vote(2, 2, true)])]),
        ("another leader of the same term",         "OneLeaderPerTerm",      &[(3, &[Vote(2, 3, true)]), (2, &[Vote(2, 2, true)])]),
        ("a vote for an earlier term",              "VotesMonotonic",        &[(3, &[Vote(3, 3, false), Vote(2, 2, false)])]),
        ("two votes in one term",                   "VotesMonotonic",        &[(3, &[Vote(2, 3, false), Vote(2, 2, false)])]),
        ("a vote that is less sure than before",    "VotesMonotonic",        &[(3, &[Vote(1, 1, false)])]),
        ("other bytes in the same place",           "LogMatching",           &[(3, &[CutFrom(2), Commands(1, 2, mark(9))])]),
        ("the same entry after another log",        "LogMatching",           &[(3, &[Vote(2, 2, true), CutFrom(1), Blank(2, 1), Commands(1, 2, mark(2))])]),
        ("another entry is committed",              "CommittedNeverChanges", &[(1, &[Committed(1, 2)]), (3, &[CutFrom(2), Blank(2, 2), Committed(2, 2)])]),
        ("a committed entry is cut off",            "CommittedNeverChanges", &[(1, &[Committed(1, 2)]), (3, &[CutFrom(2)])]),
        ("a committed entry is overwritten",        "CommittedNeverChanges", &[(1, &[Committed(1, 2)]), (3, &[Blank(2, 2)])]),
        ("a mark that is not of this log",          "CommittedNeverChanges", &[(1, &[Committed(2, 2)])]),
        ("a purge of what others committed not",    "CommittedNeverChanges", &[(1, &[Committed(1, 2)]), (3, &[Purged(2, 2)])]),
        ("committed before it was durable",         "CommittedIsDurable",    &[(1, &[Blank(1, 3)]), (2, &[Blank(1, 3)]), (1, &[Committed(1, 3)])]),
    ];
    for (what, law, batches) in rows {
        let chronicle = founded();
        batches.iter().for_each(|(node, rows)| write(&chronicle, *node, rows));
        let fired = looked(&chronicle, &[Statuses::new()]);
        if law.is_empty() {
            assert_eq!(fired, [""; 0], "{what}: {:?}", chronicle.findings(0));
        } else {
            assert!(fired.contains(law), "{what}: {fired:?}");
        }
    }
}

#[test]
fn a_finding_is_told_once_and_a_later_one_again() {
    let chronicle = founded();
    let (mut judge, lives) = (logs::OnDisks::of(Property::VotesMonotonic), BTreeMap::new());
    let statuses = Statuses::new();
    let moment = Moment { now: SimTime::default(), statuses: &statuses, lives: &lives, chronicle: &chronicle };
    write(&chronicle, 3, &[Vote(3, 3, false), Vote(2, 2, false)]);
    assert!(judge.look(&moment).is_err());
    assert_eq!(judge.look(&moment), Ok(()));
    write(&chronicle, 3, &[Vote(1, 2, false)]);
    assert!(judge.look(&moment).is_err());
}

#[test]
fn rows_that_cannot_be_read_are_seen() {
    use crate::disk::{Database, DiskWatch};
    let chronicle = founded();
    let mut batch = ordergrid_storage::Batch::new();
    batch.put(&[&4_u64.to_be_bytes()[..], &[1], &0_u64.to_be_bytes()].concat(), b"no frame");
    chronicle.wrote(1, Database::State, &batch);
    assert_eq!(looked(&chronicle, &[Statuses::new()]), [""; 0]);
    chronicle.wrote(1, Database::Log, &batch);
    assert_eq!(looked(&chronicle, &[Statuses::new()]), ["LogsReadable"]);
}

fn status(node: u64) -> GroupStatus {
    GroupStatus {
        group: SHARD,
        replica: replica(node),
        role: Role::Follower,
        term: 5,
        leader: None,
        led: true,
        last_log: 50,
        committed: 40,
        applied: 30,
        checkpoint: 20,
        purged: 10,
        vouched: None,
        members: Vec::new(),
    }
}

fn said(change: impl Fn(&mut GroupStatus)) -> Statuses {
    let mut said = status(2);
    change(&mut said);
    Statuses::from([(2, vec![said])])
}

#[test]
#[rustfmt::skip]
fn pointers_are_in_order_and_never_go_back() {
    let rows: &[(&str, &str, Statuses)] = &[
        // what                             law                then
        ("nothing happens",                 "",                said(|_| {})),
        ("the end of the log goes back",    "",                said(|it| it.last_log = 40)),
        ("consensus has not said it yet",   "",                said(|it| it.applied = 45)),
        ("a stopped replica",               "",                said(|it| { it.role = Role::Stopped; it.term = 0; })),
        ("purged above the checkpoint",     "PointersOrdered", said(|it| it.purged = 21)),
        ("a checkpoint ahead of apply",     "PointersOrdered", said(|it| it.checkpoint = 31)),
        ("committed without a log",         "PointersOrdered", said(|it| it.last_log = 39)),
        ("the term goes back",              "PointersOrdered", said(|it| it.term = 4)),
        ("committed goes back",             "PointersOrdered", said(|it| it.committed = 39)),
        ("applied goes back",               "PointersOrdered", said(|it| it.applied = 29)),
        ("the checkpoint goes back",        "PointersOrdered", said(|it| it.checkpoint = 19)),
        ("purged goes back",                "PointersOrdered", said(|it| it.purged = 9)),
    ];
    for (what, law, then) in rows {
        let fired = looked(&founded(), &[said(|_| {}), then.clone()]);
        assert_eq!(fired, if law.is_empty() { vec![] } else { vec![*law] }, "{what}");
    }
    assert_eq!(ended(&committed(), &History::default(), &said(|it| it.applied = 41)), ["PointersOrdered"]);
}

#[test]
fn two_who_say_that_they_lead_a_term_are_seen() {
    let leads = |node, term| {
        let it = GroupStatus { role: Role::Leader, term, ..status(node) };
        Statuses::from([(node, vec![it])])
    };
    assert_eq!(looked(&founded(), &[leads(1, 5), leads(2, 6)]), [""; 0]);
    assert_eq!(looked(&founded(), &[leads(1, 5), leads(2, 5)]), ["OneLeaderPerTerm"]);
}

fn committed() -> Chronicle {
    let chronicle = founded();
    let key = Key::new("k").unwrap();
    let sku = ordergrid_domain::SkuId::new("A").unwrap();
    let action = ordergrid_domain::command::SkuAction::Adjust { warehouse: Default::default(), delta: 1, reason: None };
    let command = ordergrid_domain::command::SkuCommand { sku, key: Some(key), body_hash: 0, expect_version: None, action };
    write_everywhere(&chronicle, 2, &[Commands(1, 3, entry(3, vec![Command::Sku(Box::new(command))]))]);
    write_everywhere(&chronicle, 3, &[Committed(1, 3)]);
    chronicle
}

fn done(ask: Ask, answer: Said, index: u64, replayed: bool) -> History {
    let token = Some(Seen { group: SHARD.0, index });
    let ending = Ending::Done { answer: Box::new(answer), token, replayed };
    let (began, ended) = (SimTime::default(), Some(SimTime::default()));
    History { operations: vec![Operation { number: 0, client: 0, node: 1, began, ended, ask, ending }] }
}

fn report(index: u64, hash: &str) -> Said {
    let text = format!(
        r#"{{"ok":true,"shards":[{{"shard":"1","index":{index},"replicas":[{{"node":"2","index":{index},"hash":"{hash}"}}]}}],
        "counts":{{}},"laws":[],"in_flight":{{"tentative_holds":0,"undelivered_messages":0,"running_attempts":0}}}}"#
    );
    Said::Verify(serde_json::from_str(&text).unwrap())
}

/// A report of no shards: an answer in which nobody reads.
fn none() -> Said {
    let in_flight = r#"{"tentative_holds":0,"undelivered_messages":0,"running_attempts":0}"#;
    let text = format!(r#"{{"ok":true,"shards":[],"counts":{{}},"laws":[],"in_flight":{in_flight}}}"#);
    Said::Verify(serde_json::from_str(&text).unwrap())
}

#[test]
fn what_was_acknowledged_stands_in_the_chain() {
    let adjust = |client: &str| {
        let body = serde_json::from_str(r#"{"delta":1}"#).unwrap();
        Ask::Adjust(Key::new(client).unwrap(), ordergrid_domain::SkuId::new("A").unwrap(), body)
    };
    #[rustfmt::skip]
    let rows = [
        // what                          ask           index  replayed  law
        ("the command is there",         adjust("k"),  3,     false,    ""),
        ("an earlier answer",            adjust("x"),  2,     true,     ""),
        ("a read",                       Ask::Verify,  2,     false,    ""),
        ("beyond the end",               adjust("k"),  4,     false,    "AcknowledgedIsDurable"),
        ("a read beyond the end",        Ask::Verify,  4,     false,    "AcknowledgedIsDurable"),
        ("an answer beyond the end",     adjust("x"),  4,     true,     "AcknowledgedIsDurable"),
        ("another command is there",     adjust("x"),  3,     false,    "AcknowledgedIsDurable"),
        ("a mark is there",              adjust("k"),  2,     false,    "AcknowledgedIsDurable"),
    ];
    for (what, ask, index, replayed, law) in rows {
        let history = done(ask, none(), index, replayed);
        let fired = ended(&committed(), &history, &Statuses::new());
        assert_eq!(fired, if law.is_empty() { vec![] } else { vec![law] }, "{what}");
    }
}

#[test]
fn replicas_are_held_against_the_reference() {
    let chronicle = committed();
    let reference = Reference::replay(&chronicle, &map(), &Watched::default()).unwrap();
    let right = format!("{:016x}", reference.hash_at(SHARD, 2).unwrap());
    #[rustfmt::skip]
    let rows = [
        ("the right hash",        2, right.as_str(),      vec![]),
        ("another hash",          2, "0123456789abcdef",  vec!["ReplicasAgree"]),
        ("where no mark is",      3, right.as_str(),      vec!["ReplicasAgree"]),
    ];
    for (what, index, hash, fired) in rows {
        assert_eq!(ended(&chronicle, &done(Ask::Verify, report(index, hash), 2, false), &Statuses::new()), fired, "{what}");
    }
}

#[test]
fn what_was_said_to_be_committed_and_is_gone_is_seen() {
    let chronicle = committed();
    assert_eq!(ended(&chronicle, &History::default(), &Statuses::new()), [""; 0]);
    chronicle.committed(2, SHARD, 4);
    assert_eq!(ended(&chronicle, &History::default(), &Statuses::new()), ["CommittedNeverChanges"]);
}
