//! Write pause and coordinated failover as state machines without I/O.
