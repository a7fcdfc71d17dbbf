//! Replication as state machines without I/O.
