//! Threads that take jobs in the order in which they were submitted, and end with their engine.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

/// Threads and the queue they share.
///
/// The queue has no limit of its own: whoever submits waits for the answer, so there are never more jobs than callers.
pub(super) struct Workers<J> {
    /// `None` only while being dropped.
    jobs: Option<Sender<J>>,
    threads: Vec<JoinHandle<()>>,
}

/// The end of the queue that the threads see.
pub(super) struct Jobs<J>(Mutex<Receiver<J>>);

impl<J: Send + 'static> Workers<J> {
    /// Starts `count` threads that run `work`; it should return once [`Jobs::next`] answers `None`.
    pub(super) fn start(name: &str, count: usize, work: impl Fn(&Jobs<J>) + Send + Sync + 'static) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let (queue, work) = (Arc::new(Jobs(Mutex::new(queue))), Arc::new(work));
        let thread = |number| {
            let (queue, work) = (queue.clone(), work.clone());
            Builder::new().name(format!("{name}-{number}")).spawn(move || work(&queue))
        };
        let threads = (0..count).map(thread).collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Queues `job`. If the threads have ended (one has panicked), the job is dropped, and its caller is told so.
    pub(super) fn submit(&self, job: J) {
        let jobs = self.jobs.as_ref().expect("taken away only by drop");
        // The job comes back in the error and is dropped, and with it the sender its caller waits for.
        let _ = jobs.send(job);
    }
}

impl<J> Jobs<J> {
    /// The next job, once there is one; `None` once the engine is gone and every job was taken.
    pub(super) fn next(&self) -> Option<J> {
        self.0.lock().recv().ok()
    }

    /// The next job, if there is one.
    pub(super) fn try_next(&self) -> Option<J> {
        self.0.lock().try_recv().ok()
    }
}

impl<J> Drop for Workers<J> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; a panic here, in a drop, would abort.
            let _ = thread.join();
        }
    }
}
