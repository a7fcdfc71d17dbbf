//! The command stream: one append-only, offset-addressed log that replicas receive and the AOF holds.
