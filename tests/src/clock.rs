//! Clocks of processes that are off: a library answers for the time of day, where it is installed.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Where distributions keep the library.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// The library that answers for the time of day.
///
/// # Errors
/// What to install, in words.
pub fn faketime() -> Result<PathBuf, String> {
    let found = FAKETIME.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| "libfaketime is not installed (apt install faketime)".to_owned())
}

/// What makes it answer for the time of day, from a file, and for nothing else.
pub(crate) fn environment(library: &Path, clock: &Path) -> Vec<(String, String)> {
    let set = |name: &str, value: String| (name.to_owned(), value);
    vec![
        set("LD_PRELOAD", library.display().to_string()),
        set("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        set("FAKETIME_NO_CACHE", "1".to_owned()),
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        set("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Says by how much the clocks that read this file are off.
pub(crate) fn set(clock: &Path, seconds: i64) -> Result<()> {
    // The library reads it at any moment: a file that is half written would be a step to nowhere.
    let fresh = clock.with_extension("new");
    std::fs::write(&fresh, format!("{seconds:+}\n"))?;
    std::fs::rename(&fresh, clock)?;
    Ok(())
}
