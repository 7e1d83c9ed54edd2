//! Admission: whether a replica may take part in its group yet. Its disk may be an older copy, which has forgotten votes and
//! entries.
//!
//! The node asks its peers how far this disk had got. Until they have answered, the replica recovers but is not on the mesh: it
//! grants no vote, takes no entry and does not campaign.

use tokio::sync::watch;

/// Becomes `true` once the replica may take part. Stays `false` if the sender is dropped before.
pub type Admission = watch::Receiver<bool>;

/// The admission of a replica that needs no answer from its peers.
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
