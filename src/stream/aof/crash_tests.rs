//! What is left of an AOF, whatever moment the machine ends at: of appends, syncs and rewrites in any order.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::file::{Crash, FileSystem, MemoryFileSystem, append_all};
use crate::base::random::Random;

fn open(files: &MemoryFileSystem) -> AofFiles {
    AofFiles::open(Arc::new(files.clone()), Path::new(""), "appendonlydir", "appendonly.aof").expect("opens")
}

/// How far a rewrite is.
enum Stage {
    None,
    Named(Box<dyn File>, u64),
    GoesOn(u64),
    OldIsSynced(u64),
    Ended,
}

/// A process that writes an AOF, and what it must not lose.
struct Run {
    files: MemoryFileSystem,
    aof: AofFiles,
    writer: Writer,
    state: StreamState,
    stage: Stage,
    sync: Option<Sync>,
    /// The whole stream.
    stream: Vec<u8>,
    /// Up to where somebody was told that it is on the disk.
    promised: u64,
    random: Random,
}

impl Run {
    fn start(seed: u64) -> Run {
        let files = MemoryFileSystem::new();
        let mut aof = open(&files);
        let (file, sequence) = aof.begin_incr().expect("begun");
        let state = StreamState {
            replid: vec![b'a'; 40],
            replid2: vec![b'0'; 40],
            second_offset: None,
            incrs: vec![IncrStart { sequence, offset: 0 }],
        };
        aof.save_state(&state).expect("saved");
        Run {
            files,
            aof,
            writer: Writer::new(file, 0, 0, 0),
            state,
            stage: Stage::None,
            sync: None,
            stream: Vec::new(),
            promised: 0,
            random: Random::from_seed(seed),
        }
    }

    fn append(&mut self) {
        let text = "x".repeat(self.random.below(40) as usize);
        let unit = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{text}\r\n", text.len());
        self.stream.extend_from_slice(unit.as_bytes());
        self.writer.push(unit.as_bytes());
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..=3 => self.append(),
            4 => drop(self.writer.write_block(None).expect("written")),
            5 => {
                self.files.limit_append(Some(1 + self.random.below(30) as usize));
                self.writer.write(None).expect("written");
                self.files.limit_append(None);
            }
            6 => match self.sync.take() {
                None => self.sync = Some(self.writer.begin_sync().expect("begun")),
                Some(sync) => {
                    sync.run().expect("synced");
                    if self.writer.end_sync(&sync) {
                        self.promised = self.promised.max(sync.end());
                    }
                }
            },
            7 if self.random.below(4) == 0 => {
                self.writer.sync().expect("synced");
                self.promised = self.writer.written();
            }
            _ => self.rewrite_on(),
        }
    }

    /// The next step of a rewrite, in the order of the server.
    fn rewrite_on(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::None) {
            Stage::None => {
                let (file, sequence) = self.aof.begin_incr().expect("begun");
                Stage::Named(file, sequence)
            }
            Stage::Named(file, sequence) => {
                self.writer.write(None).expect("written");
                self.writer.rotate(file).expect("all is written, and what was before is on the disk");
                self.state.incrs.push(IncrStart { sequence, offset: self.writer.start() });
                Stage::GoesOn(sequence)
            }
            Stage::GoesOn(sequence) => {
                let sync = self.writer.begin_sync().expect("begun");
                sync.run().expect("synced");
                assert!(self.writer.end_sync(&sync));
                self.promised = self.promised.max(sync.end());
                self.aof.save_state(&self.state).expect("saved");
                Stage::OldIsSynced(sequence)
            }
            Stage::OldIsSynced(sequence) => {
                let mut base = self.files.open(&self.aof.temporary_base(), Open::Create).expect("a base");
                let moment = self.state.start_of(sequence).expect("known");
                append_all(&mut *base, moment.to_string().as_bytes()).expect("written");
                base.sync_data().expect("synced");
                self.aof.finish_rewrite(Kept::From(sequence), true).expect("finished");
                self.state.incrs.retain(|incr| incr.sequence >= sequence);
                self.aof.save_state(&self.state).expect("saved");
                Stage::Ended
            }
            Stage::Ended => {
                self.aof.delete_history().expect("deleted");
                Stage::None
            }
        };
    }

    /// Starts on what a crash left, as the server does: everything is a prefix of the stream, no shorter than promised.
    fn check(&self, crash: Crash, least: u64) {
        let files = self.files.crash(crash);
        let aof = open(&files);
        aof.sizes().expect("all files are there");
        let mut found = 0;
        if let Some(base) = aof.manifest().base() {
            let base = file::read_all(&*aof.open_to_read(&base.name).expect("a base"), 100).expect("read");
            found = String::from_utf8(base).expect("digits").parse().expect("whole");
        }
        let state = aof.load_state().expect("a state");
        let first = aof.manifest().incrs().first().expect("an incr file");
        assert_eq!(state.start_of(first.sequence), Some(found), "{crash:?}");
        let last = aof.last_written().expect("looked at");
        for incr in aof.manifest().incrs() {
            let mut reader = CommandReader::new(aof.open_to_read(&incr.name).expect("an incr file"), 0);
            loop {
                match reader.read() {
                    Ok(Some(command)) => {
                        let there = &self.stream[found as usize..];
                        assert!(there.starts_with(command.bytes), "{crash:?}");
                        found += command.bytes.len() as u64;
                    }
                    Ok(None) => break,
                    Err(LoadError::Truncated) if last == Some(incr.sequence) => break,
                    Err(error) => panic!("{crash:?}: {} of {last:?}: {error}", incr.name),
                }
            }
        }
        assert!(found >= least, "{crash:?}: {found} of {least} bytes");
    }
}

#[test]
fn every_moment_can_be_the_last() {
    for seed in 0..40 {
        let mut run = Run::start(seed);
        for _ in 0..100 {
            run.step();
            run.check(Crash::LoseUnsynced, run.promised);
            run.check(Crash::KeepAll, run.writer.written());
            for _ in 0..3 {
                let seed = run.random.next_u64();
                run.check(Crash::Torn { seed }, run.promised);
            }
        }
    }
}

/// What the order above rests on.
#[test]
fn a_new_file_waits_for_the_old_one() {
    let mut run = Run::start(1);
    run.append();
    run.rewrite_on();
    run.rewrite_on();
    run.append();
    assert_eq!(run.writer.length(), 0);
    // The disk does not take the old one: nothing is written.
    run.files.fail_sync(true);
    assert!(run.writer.write(None).is_err());
    assert_eq!((run.writer.length(), run.writer.is_synced()), (0, false));
    // A rewrite cannot go on either.
    let (next, _) = {
        run.files.fail_sync(false);
        run.aof.begin_incr().expect("begun")
    };
    assert!(run.writer.rotate(next).is_err());
    run.writer.write(None).expect("written");
    assert_eq!(run.writer.written(), run.stream.len() as u64);
    run.writer.sync().expect("synced");
    assert!(run.writer.is_synced());
}

#[test]
fn bytes_wait_for_a_busy_disk_but_not_for_ever() {
    let mut run = Run::start(2);
    run.append();
    assert_eq!(run.writer.turn(true, 10_000), Turn::Later);
    assert_eq!(run.writer.turn(true, 11_999), Turn::Later);
    assert_eq!(run.writer.turn(true, 12_000), Turn::Overdue);
    run.writer.write(None).expect("written");
    // From anew.
    assert_eq!(run.writer.turn(true, 12_100), Turn::Later);
    assert_eq!(run.writer.turn(false, 12_200), Turn::Now);
    run.writer.write(None).expect("nothing to write");
    assert_eq!(run.writer.turn(true, 20_000), Turn::Later);
}

#[test]
fn what_is_in_memory_can_be_read() {
    let mut run = Run::start(3);
    run.append();
    run.writer.write(None).expect("written");
    let written = run.writer.written();
    let large = vec![b'y'; 300_000];
    for _ in 0..3 {
        run.stream.extend_from_slice(&large);
        run.writer.push(&large);
        run.append();
    }
    for (from, most) in [(0, 10), (5, 400_000), (299_999, 1), (300_000, 700_000), (899_000, 900_000)] {
        let mut out = Vec::new();
        run.writer.read_pending(written + from, most, &mut out);
        let rest = &run.stream[(written + from) as usize..];
        assert_eq!(out, rest[..most.min(rest.len())]);
    }
}
