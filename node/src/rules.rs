//! What code relies on is asserted, in production too. Where it does not hold, the work ends, and the node with it, in the words
//! of the assertion: wrong is worse than down.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// Does `work`, or says which rule it broke: the words of its panic.
pub(crate) fn kept<W: Future>(work: W) -> impl Future<Output = Result<W::Output, String>> {
    AssertUnwindSafe(work).catch_unwind().map(|done| done.map_err(|panic| said(&*panic)))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let owned = || panic.downcast_ref::<String>().cloned();
    panic.downcast_ref::<&str>().map(ToString::to_string).or_else(owned).unwrap_or_else(|| "no word".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rule_that_is_broken_is_told_in_the_words_of_its_assertion() {
        let work = async |units: u64| {
            assert!(units < 7, "NoOversell: {units} units of 6");
            assert!(units > 0, "NoOversell: nothing");
            units
        };
        assert_eq!(kept(work(6)).await, Ok(6));
        assert_eq!(kept(work(7)).await, Err("NoOversell: 7 units of 6".to_owned()));
        assert_eq!(kept(work(0)).await, Err("NoOversell: nothing".to_owned()));
    }
}
