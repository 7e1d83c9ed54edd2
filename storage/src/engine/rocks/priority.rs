//! Lowers the priority of work that can wait. Compactions and checkpoints take a core for seconds, and on a machine with few
//! cores all requests would wait for them.

use std::sync::Once;
use std::thread;

use rocksdb::Env;
use rustix::process::setpriority_process;

/// Nice value of threads whose work can wait: next to another busy thread they get a tenth of the processor. A higher value
/// would leave them so little that files pile up while the machine is busy.
const NICE: i32 = 10;
/// Compaction threads. RocksDB shares them between all databases of the process.
const MERGERS: i32 = 2;

/// Lowers the priority of the calling thread, and of each thread that it starts.
pub(super) fn give_way() {
    // On Linux each thread has a priority of its own, and `None` selects the calling one. If the kernel refuses, requests are
    // slower, but nothing breaks.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "thread priority not lowered");
    }
}

/// Starts the compaction threads with a lower priority, before the first database is opened.
pub(super) fn start_mergers() {
    static STARTED: Once = Once::new();
    let start = || {
        give_way();
        // If this fails, RocksDB starts a thread when it needs one, with the normal priority.
        if let Ok(mut env) = Env::new() {
            env.set_low_priority_background_threads(MERGERS);
        }
    };
    STARTED.call_once(|| thread::scope(|scope| drop(scope.spawn(start).join())));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use rustix::process::{Pid, getpriority_process};

    use super::*;
    use crate::engine::RocksEngine;

    #[test]
    fn threads_that_merge_give_way_and_others_do_not() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let _engine = RocksEngine::open_state(folder.path()).expect("an empty folder becomes a database");
        let mut seen = BTreeSet::new();
        for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
            // Threads of other tests may end meanwhile.
            let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
            let id = task.file_name().to_str().unwrap().parse().unwrap();
            let Ok(nice) = getpriority_process(Pid::from_raw(id)) else { continue };
            seen.insert((name.trim_end().to_owned(), nice));
        }
        let usual = getpriority_process(None).unwrap();
        let nice = |name: &str| seen.iter().filter(|thread| thread.0 == name).map(|thread| thread.1).collect::<Vec<_>>();
        assert_eq!(nice("rocksdb:low"), [NICE.max(usual)], "{seen:?}");
        assert_eq!(nice("rocksdb:high"), [usual], "{seen:?}");
    }
}
