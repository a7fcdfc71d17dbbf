//! What the operating system tells of this process.
//!
//! `unsafe` stands here because the C library's calls are.

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
