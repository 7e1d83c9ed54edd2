//! Waiting for something that the grid does by itself, by asking again and again; never by the clock.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::PATIENCE;

/// Asks until the answer is `Some`.
///
/// # Errors
/// If asking fails, or the answer never comes.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
    }
    bail!("after {PATIENCE:?} still not: {what}")
}
