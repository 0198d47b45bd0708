//! Cases of the suite that the embedded broker does not do yet.

/// Test (file and function), and what is missing. Empty it.
pub const NOT_YET: &[(&str, &str)] = &[];

/// Why a case is expected to fail on the embedded broker, if so. `path` starts with the crate's name.
pub fn reason(path: &str) -> Option<&'static str> {
    let case = case_of(path);
    NOT_YET.iter().find(|(name, _)| *name == case).map(|(_, reason)| *reason)
}

/// Entries that no case of the suite has.
pub fn unknown(cases: &[&[&str]]) -> Vec<&'static str> {
    let exists = |name: &str| cases.iter().flat_map(|cases| cases.iter()).any(|path| case_of(path) == name);
    NOT_YET.iter().map(|(name, _)| *name).filter(|name| !exists(name)).collect()
}

fn case_of(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, case)| case)
}
