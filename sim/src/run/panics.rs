//! Panics: tokio and ractor would swallow them.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::Mutex;

use super::Stop;
use crate::trace;
use crate::verdict::{Property, Violation};

static FIRST: Mutex<Option<Stop>> = Mutex::new(None);

/// From now on the first panic of the process is kept.
pub fn watch() {
    std::panic::set_hook(Box::new(note));
}

/// The first panic, if there was one.
pub(super) fn first() -> Option<Stop> {
    FIRST.lock().ok()?.clone()
}

fn note(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
    let text = text_of(panic.payload());
    trace::note(format_args!("panic at {place}: {text}"));
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        eprintln!("panic at {place}: {text}\n{}", Backtrace::force_capture());
    }
    let harness = place.starts_with("sim/");
    let told = format!("panic at {place}: {text}");
    let stop = if harness { Stop::Harness(told) } else { Stop::Violation(Violation::new(Property::NoPanic, told)) };
    if let Ok(mut first) = FIRST.lock() {
        first.get_or_insert(stop);
    }
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("of an unknown kind")
}
