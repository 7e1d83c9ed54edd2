//! Random histories of a group's log against a model, with crashes: what a restart finds is the log as it was after
//! some step, and not before the last one that was called durable.

use futures::FutureExt;
use openraft::RaftLogReader;
use openraft::alias::OneshotReceiverOf;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use ordergrid_storage::{Fault, LogLimits, MemEngine, WriterLimits};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::disks::{Disk, Gated};
use crate::raft::{Entry, LogId, Store, TestConfig, Vote, entry, log_id, store_within, writer_on};

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
    },
    /// Waits until the last append is durable.
    Wait,
    /// Keeps so many per cent of what is there.
    Truncate {
        percent: u64,
    },
    /// Purges so many per cent of what is there.
    Purge {
        percent: u64,
    },
    Vote,
    Commit,
    /// Lets the log writer run.
    Yield,
    /// Lets time pass, so that what needs no sync is written without one.
    Sleep,
    /// Power is lost. If `torn`, while a batch is being synced.
    Crash {
        seed: u64,
        torn: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u64).prop_map(|count| Step::Append { count }),
        2 => Just(Step::Wait),
        1 => (0..101_u64).prop_map(|percent| Step::Truncate { percent }),
        1 => (0..101_u64).prop_map(|percent| Step::Purge { percent }),
        1 => Just(Step::Vote),
        2 => Just(Step::Commit),
        3 => Just(Step::Yield),
        1 => Just(Step::Sleep),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, torn)| Step::Crash { seed, torn }),
    ]
}

/// Everything there is to know about a log.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    purged: Option<LogId>,
    entries: Vec<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.last().copied().or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index + 1)
    }

    async fn read(log: &mut Store) -> Self {
        let mut reader = log.get_log_reader().await;
        let entries: Vec<Entry> = reader.try_get_log_entries(..).await.expect("no holes");
        let state = log.get_log_state().await.expect("the disk works");
        let found = Self {
            purged: state.last_purged_log_id,
            entries: entries.iter().map(|entry| entry.log_id).collect(),
            vote: reader.read_vote().await.expect("the disk works"),
            committed: log.read_committed().await.expect("the disk works"),
        };
        assert_eq!(state.last_log_id, found.last());
        found
    }
}

type Flushed = OneshotReceiverOf<TestConfig, Result<(), std::io::Error>>;

/// A log, and what it may be after a crash.
struct Run {
    disk: MemEngine,
    log: Store,
    term: u64,
    now: Model,
    /// The log after each step since the last durable one, that one first.
    possible: Vec<Model>,
    /// For the last append: what waits for it, and its place among the possible.
    flushed: Option<(Flushed, usize)>,
}

/// Small enough that readers meet the disk.
const LIMITS: LogLimits = LogLimits { tail_bytes: 60, read_bytes: 100 };

/// A log whose writes take a while, so that steps come in between.
async fn open(disk: &MemEngine) -> Store {
    store_within(&writer_on(Gated::slow_above(disk.open())), 1, LIMITS).await
}

impl Run {
    async fn start() -> Self {
        let disk = MemEngine::new();
        let log = open(&disk).await;
        Self { disk, log, term: 1, now: Model::default(), possible: vec![Model::default()], flushed: None }
    }

    async fn take(&mut self, step: &Step) -> TestCaseResult {
        match step {
            Step::Append { count } => self.append(*count).await,
            Step::Wait => {
                if let Some((flushed, place)) = self.flushed.take() {
                    flushed.await.expect("the disk works").expect("the disk works");
                    self.durable(place);
                }
            }
            Step::Truncate { percent } => {
                let kept = self.now.entries.len() * *percent as usize / 100;
                self.now.entries.truncate(kept);
                self.log.truncate_after(self.now.last()).await.expect("the disk works");
                self.possible.push(self.now.clone());
                self.term += 1;
            }
            Step::Purge { percent } => {
                let gone = self.now.entries.len() * *percent as usize / 100;
                let last_gone = self.now.entries.drain(..gone).next_back();
                if let Some(id) = last_gone {
                    self.now.purged = Some(id);
                    self.log.purge(id).await.expect("the disk works");
                    self.possible.push(self.now.clone());
                }
            }
            Step::Vote => {
                self.term += 1;
                let vote = Vote::new(self.term, 1);
                self.log.save_vote(&vote).await.expect("the disk works");
                self.now.vote = Some(vote);
                self.possible.push(self.now.clone());
                self.durable(self.possible.len() - 1);
            }
            Step::Commit => {
                self.now.committed = self.now.committed.max(self.now.last());
                self.log.save_committed(self.now.committed).await.expect("the disk works");
                self.possible.push(self.now.clone());
            }
            Step::Yield => tokio::task::yield_now().await,
            Step::Sleep => tokio::time::sleep(WriterLimits::default().linger * 2).await,
            Step::Crash { seed, torn } => return self.crash(*seed, *torn).await,
        }
        prop_assert_eq!(&Model::read(&mut self.log).await, &self.now);
        Ok(())
    }

    async fn append(&mut self, count: u64) {
        let from = self.now.next();
        let (done, flushed) = TestConfig::oneshot();
        let entries: Vec<_> = (from..from + count).map(|index| entry(self.term, index, "some order")).collect();
        self.log.append(entries, IOFlushed::signal(done)).await.expect("the disk works");
        self.now.entries.extend((from..from + count).map(|index| log_id(self.term, index)));
        self.possible.push(self.now.clone());
        self.flushed = Some((flushed, self.possible.len() - 1));
    }

    /// Nothing from before `place` can come back.
    fn durable(&mut self, place: usize) {
        self.possible.drain(..place);
        self.flushed = self.flushed.take().and_then(|(flushed, at)| Some((flushed, at.checked_sub(place)?)));
    }

    /// Takes note if the last append was called durable.
    fn settle(&mut self) {
        if let Some((flushed, place)) = self.flushed.take()
            && let Some(Ok(_)) = flushed.now_or_never()
        {
            self.durable(place);
        }
    }

    async fn crash(&mut self, seed: u64, torn: bool) -> TestCaseResult {
        self.settle();
        if torn {
            self.disk.fail_write(0, Fault::NotSynced);
            self.append(2).await;
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            self.settle();
        }
        self.disk.crash_keeping_some(seed);
        self.log = open(&self.disk).await;
        let found = Model::read(&mut self.log).await;
        prop_assert!(self.possible.contains(&found), "found {:?}, possible {:?}", found, self.possible);
        (self.now, self.flushed) = (found.clone(), None);
        self.possible = vec![found];
        self.term += 1;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_finds_the_log_as_it_was(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut run = Run::start().await;
            let end = Step::Crash { seed: 0, torn: false };
            for step in steps.iter().chain([&end]) {
                run.take(step).await?;
            }
            TestCaseResult::Ok(())
        })?;
    }
}
