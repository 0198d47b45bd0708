//! The machine this runs on.

/// The host's name, which Kubernetes makes the pod's; empty where it has none.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The host's name, or another where it has none.
pub fn name_or(other: &str) -> String {
    Some(name()).filter(|name| !name.is_empty()).unwrap_or_else(|| other.to_owned())
}
