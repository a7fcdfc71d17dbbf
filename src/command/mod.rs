//! The types of the command table. Knows nothing of what any one command does.
