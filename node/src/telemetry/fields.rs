//! The names of the fields of log events and spans, for every crate that logs.
//!
//! A subject has one name, so that one query finds every event about it: a shard is always `shard`, another node always `peer`.
//! A field that is not in [`FIELDS`] fails `tests/tests/log_fields.rs`. The same test keeps the message of an event short and
//! constant: what varies is a field.

/// Every field: its name, and what its value is.
pub const FIELDS: &[(&str, &str)] = &[
    // Subjects.
    ("node", "id of the node that logs the event"),
    ("peer", "id of another node"),
    ("peers", "ids of several other nodes"),
    ("leader", "id of the node that leads the shard; absent if none is known"),
    ("shard", "number of the shard, or of the Raft group that stores it; 0 is the meta group"),
    ("other_shard", "number of the shard at the other end of a stream"),
    ("replica", "number of a replica on this node"),
    ("order", "id of an order"),
    ("request", "id of a client's request, as in the header X-Request-Id"),
    ("route", "route of a client's request, as in the metrics"),
    ("code", "code of the problem that a client received"),
    ("check", "name of a readiness check, as in /readyz"),
    ("address", "socket address: of a peer, of a client, or of a process"),
    ("other", "socket address of the second of two processes"),
    ("lane", "lane of the mesh: its name or its number"),
    ("database", "name of a database on this node"),
    ("path", "file or folder; in a span, the path of a URL"),
    // Causes and consequences.
    ("error", "cause, in words"),
    ("damage", "damage that was found, in words"),
    ("effect", "consequence, in words"),
    ("advice", "what an operator can do, in words"),
    ("rebuilt_from", "source of the rows that replace damaged ones"),
    ("verdict", "answer to a peer that was refused"),
    // Positions in a log, and states.
    ("term", "Raft term"),
    ("index", "index of a log entry"),
    ("vote", "Raft vote"),
    ("lag", "entries that a replica has not applied yet"),
    ("ready_here", "whether this node leads the shard and serves it"),
    ("stage", "stage of the founding of a cluster"),
    ("found", "last entry, or number of the last batch, that the log has"),
    ("vouched", "last entry, or number of the last batch, that the log must have"),
    ("batches", "number of the last batch that the log has"),
    ("standing", "relation of this node's wall clock to grid time"),
    ("right", "clock that an operator has accepted as right"),
    // Figures.
    ("by_ms", "length of a clock's jump, in milliseconds"),
    ("stalled", "time for which a replica has not moved"),
    ("deadline", "time within which something had to end"),
    ("limit", "limit that was reached"),
    ("configured", "value in the configuration that cannot be reached"),
    ("connections", "client connections that this node accepts"),
    ("items", "items of a batch"),
    ("unknown", "items of a batch whose outcome is unknown"),
    ("number", "number of a call on its connection, or of a request to another node"),
    ("operation", "kind of a message between nodes, or the tag of a request to another node"),
    ("version", "version of a request to another node"),
    ("log", "log time"),
];
