//! Time and chance of the C library, answered by the simulation.
//!
//! Hash maps, tokio, openraft, hyper and ractor ask the C library for random bytes and for the time, each in its own way.
//! Defining the two functions here, in the simulator's binary alone, answers all of them at once. The bytes come from the
//! seed that the process was started with; the time is the simulated one while a simulated host runs, and the real one
//! before and after.

#![expect(unsafe_code, reason = "two functions of the C library are replaced, which is what makes a seed repeat")]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};

use ordergrid_sim::driver::clock;

/// The environment variable that carries the seed into a process that runs one history.
const SEED: &std::ffi::CStr = c"ORDERGRID_SIM_SEED";

thread_local! {
    /// State of the generator; 0 before the first use.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Fills `buffer` from the seed.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    for at in 0..length {
        // SAFETY: the caller owns `length` bytes at `buffer`.
        unsafe { buffer.cast::<u8>().add(at).write(next_byte()) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// The simulated time of the host that runs, else the real time.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, into: *mut libc::timespec) -> c_int {
    let Some(nanos) = simulated(clock) else {
        // SAFETY: the arguments are passed on as they came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, into) } as c_int;
    };
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    // SAFETY: the caller owns a timespec at `into`.
    unsafe { into.write(libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: rest as libc::c_long }) };
    0
}

fn simulated(clock: libc::clockid_t) -> Option<u64> {
    let now = clock::of_running_host()?;
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(now.wall),
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_MONOTONIC_RAW => Some(now.monotonic),
        libc::CLOCK_BOOTTIME => Some(now.boot),
        _ => None,
    }
}

/// xorshift64*: small enough to run inside the C library's callers, which may hold any lock.
fn next_byte() -> u8 {
    STATE.with(|state| {
        let mut now = state.get();
        if now == 0 {
            now = seed();
        }
        now ^= now >> 12;
        now ^= now << 25;
        now ^= now >> 27;
        state.set(now);
        (now.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    })
}

fn seed() -> u64 {
    // SAFETY: the name ends with a zero byte; nothing changes the environment while it is read, because nothing else runs yet.
    let value = unsafe { libc::getenv(SEED.as_ptr()) };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = value;
    while !at.is_null() {
        // SAFETY: the value ends with a zero byte, and `at` has not passed it.
        let byte = unsafe { at.read() };
        if byte == 0 {
            break;
        }
        hash = (hash ^ u64::from(byte as u8)).wrapping_mul(0x0100_0000_01b3);
        // SAFETY: the byte at `at` is not the last one.
        at = unsafe { at.add(1) };
    }
    hash | 1
}
