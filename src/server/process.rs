//! What the operating system tells of this process.
//!
//! `unsafe` stands here because the C library's calls are.

use std::cell::Cell;

/// Processor time used by all threads so far.
pub fn resource_usage() -> libc::rusage {
    // SAFETY: all-zero bytes are a valid `rusage`, and `getrusage` only writes into the one it is given.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

/// Bytes of this process's memory that are in RAM; 0 if the system does not tell.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Lets jemalloc return the free pages of all arenas to the system. `false`: it could not.
pub fn purge_allocator() -> bool {
    // 4096 stands for all arenas.
    let name = c"arena.4096.purge";
    let (none, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the name is a C string, and this operation neither reads nor writes a value.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, no_length, none, 0) == 0 }
}

/// A part of a file's writeout, as far as the system can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writeout {
    /// Begins, without waiting.
    Start,
    /// Has ended when the call returns.
    Finish,
}

/// Lets the system bring these bytes of a file, at least one, but not its length, to the disk. Where it cannot be told that, nothing happens.
pub fn write_out(file: &std::fs::File, offset: u64, length: u64, writeout: Writeout) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return Ok(()) };
        let start = libc::SYNC_FILE_RANGE_WRITE;
        let finish = start | libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let flags = if writeout == Writeout::Start { start } else { finish };
        // SAFETY: it takes numbers only, and the file is open as long as it is borrowed.
        if unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) } != 0 {
            let error = std::io::Error::last_os_error();
            let is_unable =
                [libc::ENOSYS, libc::EINVAL, libc::ESPIPE].map(Some).contains(&error.raw_os_error());
            return if is_unable { Ok(()) } else { Err(error) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length, writeout);
    Ok(())
}

thread_local! {
    static GIVES_WAY: Cell<bool> = const { Cell::new(false) };
}

/// Lets the calling thread give way to the others, as far as the system can be told: it works for a long time, and they are
/// waited for.
pub fn give_way() {
    GIVES_WAY.set(true);
    #[cfg(target_os = "linux")]
    {
        // About a third of the share of the others, where there are fewer processors than work.
        const NICE: libc::c_int = 5;
        // In pieces as short as can be, where the system lets a thread choose (since 6.12): what it is ahead of the others
        // after each time that it steps aside.
        const SLICE_NS: u64 = 100_000;
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: NICE,
            sched_priority: 0,
            sched_runtime: SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the first call reads the struct that it is given and whose size stands in it, the second takes numbers only;
        // 0 is the calling thread.
        unsafe {
            if libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) != 0 {
                libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
            }
        }
    }
}

/// If the calling thread gives way: whoever waits for its processor gets it now. Else a tick of the system's clock, of some
/// milliseconds, may pass before the thread is interrupted. To be called often, and while nothing is locked.
pub fn step_aside() {
    if GIVES_WAY.get() {
        std::thread::yield_now();
    }
}

/// Stops the process until somebody sends it SIGCONT.
pub fn stop() {
    // SAFETY: it takes a number only.
    unsafe {
        libc::raise(libc::SIGSTOP);
    }
}

/// Ends the process by a signal that is sent to itself, as a crash would.
pub fn die_by(signal: libc::c_int) -> ! {
    // SAFETY: these calls take numbers only; the default action of the signals that come here is to end the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::abort()
}
