//! Texts that a command is given: files and standard input.

use crate::exit::Failure;
use std::{io::Read, path::Path};

/// The text of a file.
///
/// # Errors
/// It cannot be read, or is no UTF-8: then with the line.
pub fn of_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| {
        let hint = if path.is_dir() { "; name a file in it" } else { "" };
        Failure::bad(format!("cannot read {name}: {e}{hint}"))
    })?;
    utf8(&name, bytes)
}

/// The text of standard input.
///
/// # Errors
/// As of a file.
pub fn of_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().read_to_end(&mut bytes);
    read.map_err(|e| Failure::bad(format!("cannot read standard input: {e}")))?;
    utf8("standard input", bytes)
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let wrong = e.as_bytes()[valid.len()];
        Failure::bad(format!(
            "{name}:{line}: not UTF-8: byte {} of the file is 0x{wrong:02x}; save it as UTF-8",
            valid.len() + 1
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_utf8_is_refused_with_its_line() {
        assert_eq!(utf8("a.yaml", b"a: b\n".to_vec()).unwrap(), "a: b\n");
        let refused = utf8("a.yaml", b"a: b\nc: \xe9\n".to_vec()).unwrap_err();
        assert_eq!(refused.message, "a.yaml:2: not UTF-8: byte 9 of the file is 0xe9; save it as UTF-8");
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let refused = of_file(folder.path()).unwrap_err();
        assert!(refused.message.ends_with("; name a file in it"), "{}", refused.message);
    }
}
