//! A wrapper of the async runtime that does not round microsecond sleeps up to the timer's millisecond.
//!
//! openraft forwards the log's durable index at most once per microsecond, and sleeps in between. A tokio timer cannot sleep
//! for less than a millisecond, so two completions in quick succession would delay every proposal behind them by that much.
//! Such short sleeps end at once instead.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use futures::future::Either;
use openraft::async_runtime::Instant;
use openraft::{AsyncRuntime, OptionalSend};

/// Shorter sleeps end at once. openraft's only such sleep is the microsecond described above.
const SHORTEST_WAIT: Duration = Duration::from_micros(2);

thread_local! {
    /// When a sleep last ended at once on this thread.
    static LAST: Cell<Option<std::time::Instant>> = const { Cell::new(None) };
}

/// Whether a sleep this short may end at once. A sleep that ends before its deadline may be repeated until the clock has
/// reached the deadline, as in openraft's tick loop. Under a simulated clock, which does not advance meanwhile, that loop would
/// never end.
fn ends_at_once() -> bool {
    let now = std::time::Instant::now();
    LAST.replace(Some(now)) != Some(now)
}

/// `RT` with sleeps below 2 microseconds that end at once.
pub struct Prompt<RT>(RT);

impl<RT: fmt::Debug> fmt::Debug for Prompt<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prompt").field(&self.0).finish()
    }
}

impl<RT: AsyncRuntime> AsyncRuntime for Prompt<RT> {
    type JoinError = RT::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = RT::JoinHandle<T>;
    type Sleep = Either<std::future::Ready<()>, RT::Sleep>;
    type Instant = RT::Instant;
    type TimeoutError = RT::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = RT::Timeout<R, T>;
    type ThreadLocalRng = RT::ThreadLocalRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        RT::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        if duration < SHORTEST_WAIT && ends_at_once() {
            return Either::Left(std::future::ready(()));
        }
        Either::Right(RT::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        if deadline < Self::Instant::now() + SHORTEST_WAIT && ends_at_once() {
            return Either::Left(std::future::ready(()));
        }
        Either::Right(RT::sleep_until(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        RT::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        RT::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        RT::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        RT::thread_rng()
    }

    type Mpsc = RT::Mpsc;
    type Watch = RT::Watch;
    type Oneshot = RT::Oneshot;
    type Mutex<T: OptionalSend + 'static> = RT::Mutex<T>;

    fn new(threads: usize) -> Self {
        Self(RT::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        RT::spawn_blocking(f)
    }
}
