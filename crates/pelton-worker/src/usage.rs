//! What this process has used of the machine.

/// CPU time of the process so far, seconds, user and system.
pub fn cpu_seconds() -> f64 {
    cpu_seconds_of(libc::RUSAGE_SELF)
}

/// CPU time from a moment on. A process may have used some before it became ours: `cargo run` compiles, and then turns
/// into the program it runs.
#[derive(Clone, Copy, Debug)]
pub struct CpuMeter {
    whose: libc::c_int,
    before: f64,
}

impl CpuMeter {
    /// Of this process, from now on.
    pub fn of_process() -> Self {
        Self::start(libc::RUSAGE_SELF)
    }

    /// Of children that end and are waited for from now on.
    pub fn of_children() -> Self {
        Self::start(libc::RUSAGE_CHILDREN)
    }

    fn start(whose: libc::c_int) -> Self {
        Self { whose, before: cpu_seconds_of(whose) }
    }

    /// Since the start, seconds, user and system.
    pub fn seconds(&self) -> f64 {
        cpu_seconds_of(self.whose) - self.before
    }
}

fn cpu_seconds_of(whose: libc::c_int) -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for a rusage, and zeroes are a valid value of it should the call fail.
    let usage = unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Memory of the process that is in RAM, bytes; 0 where `/proc` is missing.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    // SAFETY: sysconf takes any name and touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_meter_leaves_out_what_was_used_before_it_started() {
        let burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let run = || assert!(Command::new("sh").args(["-c", burn]).status().unwrap().success());
        run();
        let all = CpuMeter { whose: libc::RUSAGE_CHILDREN, before: 0.0 };
        let meter = CpuMeter::of_children();
        let before = all.seconds();
        assert!(before > 0.0 && meter.seconds() < before, "{before} was used before");
        run();
        assert!(meter.seconds() > 0.0, "what came after counts");
    }
}
