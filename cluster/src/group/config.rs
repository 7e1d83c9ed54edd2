//! The settings of a group's replica, and their validation.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::config_error::ConfigError;

/// Settings of a replica. With the defaults a group survives fsync stalls of several hundred milliseconds and fails over in
/// about two seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Heartbeat interval of a leader.
    pub heartbeat: Duration,
    /// A follower that acknowledged an entry within this time gets no heartbeat.
    pub heartbeat_quiet: Duration,
    /// Minimum election timeout. The timeout is drawn at random between this and `election_max`.
    pub election_min: Duration,
    /// Maximum election timeout. Also the lease duration, and the time a restarted voter abstains.
    pub election_max: Duration,
    /// Time by which this node's lease ends before consensus' own lease, to allow for clocks that run at different speeds.
    pub lease_margin: Duration,
    /// `true`: reads rely on the leader's lease. `false`: each read asks a quorum; concurrent reads share one round.
    pub leases: bool,
    /// Stall timeout. A replica that has applied nothing for this long, although its leader has committed more, gets new
    /// connections. After four times this long it is abandoned, and the node stops.
    pub stall: Duration,
    /// Whether a restarted replica that has voted before abstains for `election_max`: it has forgotten which leader it promised
    /// not to replace. A group with a single voter never needs this.
    pub delay_after_restart: bool,
    /// Longest time between two checkpoints of a replica whose state changes.
    pub checkpoint_every: Duration,
    /// Dirty bytes of rows at which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Entries kept below a checkpoint, so that a slow follower needs no snapshot.
    pub entries_kept: u64,
    /// Most entries per message to a follower.
    pub entries_per_message: u64,
    /// Most bytes of entries per message to a follower. A single larger entry is sent alone.
    pub bytes_per_message: usize,
    /// Most unanswered messages to a follower.
    pub messages_in_flight: usize,
    /// Longest wait for the answer to one message of entries.
    pub append_deadline: Duration,
    /// Bytes of rows per message of a snapshot.
    pub snapshot_chunk: usize,
    /// Longest wait for one chunk of a snapshot to be stored.
    pub snapshot_chunk_deadline: Duration,
    /// Longest wait for a received snapshot to be installed.
    pub snapshot_install_deadline: Duration,
    /// Most proposals queued before they are refused.
    pub proposals_queued: usize,
    /// Longest wait for a read barrier.
    pub barrier_deadline: Duration,
    /// Longest time that a leadership transfer waits for the target to catch up, and then again for the target to lead.
    pub transfer_deadline: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            heartbeat_quiet: Duration::from_millis(100),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(1_000),
            lease_margin: Duration::from_millis(100),
            leases: true,
            stall: Duration::from_secs(15),
            delay_after_restart: true,
            checkpoint_every: Duration::from_secs(30),
            checkpoint_bytes: 64 << 20,
            entries_kept: 50_000,
            entries_per_message: 2_048,
            bytes_per_message: 4 << 20,
            messages_in_flight: 32,
            append_deadline: Duration::from_secs(2),
            snapshot_chunk: 1 << 20,
            snapshot_chunk_deadline: Duration::from_secs(20),
            snapshot_install_deadline: Duration::from_secs(300),
            proposals_queued: 4_096,
            barrier_deadline: Duration::from_secs(2),
            transfer_deadline: Duration::from_secs(2),
        }
    }
}

impl GroupConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Names the first contradiction.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.lease_margin < self.election_max, "lease_margin must be shorter than election_max"),
            (self.stall > self.election_max, "stall must be longer than election_max"),
            (self.bytes_per_message > 0, "bytes_per_message must not be 0"),
            (self.messages_in_flight > 0, "messages_in_flight must not be 0"),
            (self.snapshot_chunk > 0, "snapshot_chunk must not be 0"),
            (self.proposals_queued > 0, "proposals_queued must not be 0"),
            (!self.checkpoint_every.is_zero(), "checkpoint_every must not be 0"),
        ];
        for (holds, rule) in rules {
            if !holds {
                return Err(ConfigError(rule.to_owned()));
            }
        }
        self.consensus("check").map(|_| ())
    }

    /// openraft's settings.
    pub(crate) fn consensus(&self, name: &str) -> Result<Config, ConfigError> {
        let config = Config {
            cluster_name: name.to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            heartbeat_min_interval: Some(millis(self.heartbeat_quiet)),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.snapshot_install_deadline),
            max_payload_entries: self.entries_per_message,
            max_append_entries: Some(4_096),
            api_channel_size: Some(self.proposals_queued as u64),
            notification_channel_size: Some(8_192),
            state_machine_channel_size: Some(64),
            // Checkpoints are triggered by time and bytes, see `checkpoint`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.entries_kept,
            purge_batch_size: self.entries_kept.clamp(1, 4_096),
            enable_pre_vote: Some(true),
            // The machine is in memory: a leader that resumes without an election could serve what it had forgotten.
            enable_leader_restore: Some(false),
            // A follower that has lost a part of its log comes back with less and is refilled; see `floor`.
            allow_log_reversion: Some(true),
            quorum_loss_probe_interval: Some(2 * millis(self.election_max)),
            // Leadership is transferred by this crate, with its checks, and never by openraft.
            removed_leader_step_down: StepDownPolicy::Never,
            ..Config::default()
        };
        config.validate().map_err(|broken| ConfigError(broken.to_string()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(GroupConfig::default().validate(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let base = GroupConfig::default();
        let cases = [
            ("heartbeat", GroupConfig { heartbeat: Duration::from_secs(2), ..base.clone() }),
            ("election", GroupConfig { election_min: Duration::from_secs(2), ..base.clone() }),
            ("lease_margin", GroupConfig { lease_margin: Duration::from_secs(2), ..base.clone() }),
            ("snapshot_chunk", GroupConfig { snapshot_chunk: 0, ..base }),
        ];
        for (name, config) in cases {
            assert!(config.validate().is_err(), "{name}");
        }
    }
}
