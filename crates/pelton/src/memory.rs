//! What a process takes of memory: the least while idle, and never more than its container may have.

use std::path::Path;

/// Heaps of the C library. librdkafka allocates in some ten threads, each of which would get a heap of its own; with
/// two, a worker that drained a backlog of 10 million records peaked at 87 MB instead of 97.
const C_HEAPS: libc::c_int = 2;
/// A control group without a limit says a number near 2^63 (version 1); no machine has a pebibyte.
const NO_LIMIT: u64 = 1 << 50;
/// Where a container sees its limit: control groups version 2, and version 1.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Keep the process small. To be called before there are threads.
pub fn be_frugal() {
    // SAFETY: the calls set a number in the C library and in the kernel, and nothing else runs yet. Where one is
    // refused, more memory is used and nothing is wrong.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, C_HEAPS);
        // Huge pages, where the machine gives them unasked, are filled by a few bytes each.
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// The limit of the container this runs in, bytes; `None` where there is none.
pub fn container_limit() -> Option<u64> {
    LIMIT_FILES.iter().find_map(|file| limit_of(&std::fs::read_to_string(Path::new(file)).ok()?))
}

/// The limit that a file of a control group says; `max`, or a number no machine has, is none.
fn limit_of(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_in_the_words_of_both_versions_of_control_groups() {
        assert_eq!(limit_of("134217728\n"), Some(128 << 20));
        assert_eq!(limit_of("max\n"), None, "version 2 without a limit");
        assert_eq!(limit_of("9223372036854771712\n"), None, "version 1 without a limit");
        assert_eq!(limit_of(""), None);
    }
}
