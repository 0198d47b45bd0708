pub const CASES: &[&str] = &[];
