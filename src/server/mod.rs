//! The running server: reactors, connections, configuration, INFO, signals.
