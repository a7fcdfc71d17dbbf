//! A unit that is rolled back leaves everything as if it had never run: the dataset, what is told to replicas, watchers,
//! subscribers and waiting clients, the counters, and what expires when.

#[path = "../common/mod.rs"]
mod common;
#[path = "../commands_differential/generate.rs"]
mod generate;

mod keyspace;
mod live;
