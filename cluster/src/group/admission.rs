//! Whether a replica may take part yet: its disk may be an older copy of itself, and has forgotten votes and entries then.
//!
//! Whoever starts the replica asks the other nodes, who recall how far the disk was. Until they have answered, the replica recovers,
//! and is not there for its peers: it gives no vote, takes no entry and does not stand.

use tokio::sync::watch;

/// Rises to `true` once the replica may take part; never, if whoever decides is dropped before.
pub type Admission = watch::Receiver<bool>;

/// For a replica that nobody needs to be asked about.
#[must_use]
pub fn at_once() -> Admission {
    watch::channel(true).1
}

/// Resolves once the replica may take part.
pub(super) async fn granted(mut admission: Admission) {
    if admission.wait_for(|granted| *granted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
