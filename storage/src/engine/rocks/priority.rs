//! Work that can wait gives way to that of those who are being served. Merging files and writing a checkpoint take a core for
//! seconds; on a machine of few cores everybody would wait for them.

use std::sync::Once;
use std::thread;

use rocksdb::Env;
use rustix::process::setpriority_process;

/// How nice threads are whose work can wait: with another thread that wants the processor too they get a tenth of it. Not
/// the nicest, which would get so little that files pile up while the machine is busy.
const NICE: i32 = 10;
/// Threads that merge files: RocksDB has them for all databases of the process.
const MERGERS: i32 = 2;

/// The calling thread, and each that it starts, gives way from now on.
pub(super) fn give_way() {
    // On Linux each thread has a priority of its own, and none stands for the calling one. A kernel that refuses leaves it
    // as it is, which is slower for others and no less right.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "thread priority not lowered");
    }
}

/// Starts the threads that merge files, before the first database is opened, so that they give way.
pub(super) fn start_mergers() {
    static STARTED: Once = Once::new();
    let start = || {
        give_way();
        // Without them RocksDB starts one when it needs it, like any other thread.
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
