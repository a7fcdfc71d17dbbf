//! The commands that touch only keys, one file per family: functions and their `COMMANDS`.
