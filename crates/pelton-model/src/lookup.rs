//! From the name in a pipeline to the bytes of a model.
//!
//! | name | file |
//! |---|---|
//! | `digits.onnx`, `vision/digits.onnx` | that file in the models directory |
//! | `digits` | `digits.onnx` there |
//! | `digits@3` | `digits/3/model.onnx` there, else `digits@3.onnx` |
//! | `file:///opt/models/digits.onnx` | that file, wherever it is |
//!
//! Plain names never leave the models directory.

use crate::error::ModelError;
use sha2::{Digest as _, Sha256};
use std::{
    fmt, fs, io,
    path::{Component, Path, PathBuf},
};

/// ONNX files are Protocol Buffers messages, which end at 2 GiB; bigger weights are in files beside.
const LARGEST: u64 = 1 << 31;

/// SHA-256 of a model's bytes: which weights made a result.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A model's bytes and where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
}

/// Find and read a model.
pub fn read(name: &str, models: &Path) -> Result<ModelFile, ModelError> {
    let mut tried = candidates(name, models)?;
    tried.retain(|path| path.is_file());
    let Some(path) = tried.into_iter().next() else { return Err(missing(name, models)) };
    let bytes =
        read_bounded(&path).map_err(|e| ModelError::Unreadable { path: path.clone(), why: e.to_string() })?;
    let digest = Digest::of(&bytes);
    Ok(ModelFile { path, bytes, digest })
}

/// Find and read a text file that belongs to a model (labels, a vocabulary), by the same rules but for `@`.
pub fn read_text(name: &str, models: &Path) -> Result<String, ModelError> {
    let path = match file_url(name)? {
        Some(path) => path,
        None => models.join(inside(name)?),
    };
    let unreadable = |why: String| ModelError::Unreadable { path: path.clone(), why };
    let bytes = read_bounded(&path).map_err(|e| unreadable(e.to_string()))?;
    String::from_utf8(bytes)
        .map_err(|e| unreadable(format!("it is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > LARGEST {
        return Err(io::Error::other(format!("it has {size} bytes, at most {LARGEST} are read")));
    }
    fs::read(path)
}

/// Where a name may lead, best first.
fn candidates(name: &str, models: &Path) -> Result<Vec<PathBuf>, ModelError> {
    if let Some(path) = file_url(name)? {
        return Ok(vec![path]);
    }
    let relative = inside(name)?;
    if let Some((base, version)) = name.split_once('@') {
        inside(base)?;
        inside(version)?;
        let versioned = models.join(base).join(version).join("model.onnx");
        return Ok(vec![versioned, models.join(format!("{name}.onnx")), models.join(relative)]);
    }
    Ok(vec![models.join(relative), models.join(format!("{name}.onnx"))])
}

fn bad(name: &str, why: &'static str) -> ModelError {
    ModelError::BadName { name: name.to_owned(), why }
}

/// The path of a `file://` URL, `None` when the name is no URL.
fn file_url(name: &str) -> Result<Option<PathBuf>, ModelError> {
    let Some((scheme, rest)) = name.split_once("://") else { return Ok(None) };
    if scheme != "file" {
        return Err(bad(name, "only file:// URLs are read; copy the model into the models directory"));
    }
    // An authority would be a host; `file://localhost/` is the one that means this machine.
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(bad(
            name,
            "a file:// URL needs an absolute path, such as file:///opt/models/digits.onnx",
        ));
    }
    percent_decoded(path)
        .map(|path| Some(PathBuf::from(path)))
        .ok_or_else(|| bad(name, "its %-escapes are broken"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = tail.get(..2).filter(|h| h.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// A name as a relative path that stays inside.
fn inside(name: &str) -> Result<&Path, ModelError> {
    let path = Path::new(name);
    if name.is_empty() {
        return Err(bad(name, "it is empty"));
    }
    if name.contains(['\\', '\0']) {
        return Err(bad(name, "it has a backslash or a null character"));
    }
    if path.components().any(|c| !matches!(c, Component::Normal(_))) {
        return Err(bad(name, "it leads out of the models directory; use file:///... for a file elsewhere"));
    }
    Ok(path)
}

fn missing(name: &str, models: &Path) -> ModelError {
    let searched = match file_url(name) {
        Ok(Some(path)) => path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
        _ => models.to_path_buf(),
    };
    let present = list(&searched).ok();
    ModelError::Missing { name: name.to_owned(), searched, present }
}

/// Names of the models in a directory, sorted: files at its top, and `name@version` for `name/version/model.onnx`.
fn list(models: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(models)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(".onnx") && entry.path().is_file() {
            names.push(name);
        } else if let Ok(versions) = fs::read_dir(entry.path()) {
            let here = versions.flatten().filter(|v| v.path().join("model.onnx").is_file());
            names.extend(here.filter_map(|v| Some(format!("{name}@{}", v.file_name().into_string().ok()?))));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("cats/2")).unwrap();
        fs::write(dir.path().join("cats/2/model.onnx"), "two").unwrap();
        fs::write(dir.path().join("cats@3.onnx"), "three").unwrap();
        fs::write(dir.path().join("digits.onnx"), "digits").unwrap();
        fs::write(dir.path().join("a b.onnx"), "spaced").unwrap();
        dir
    }

    #[test]
    fn each_kind_of_name_finds_its_file() {
        let dir = models();
        let url = format!("file://{}/a%20b.onnx", dir.path().display());
        for (name, bytes) in [
            ("digits.onnx", "digits"),
            ("digits", "digits"),
            ("cats@2", "two"),
            ("cats@3", "three"),
            ("cats@3.onnx", "three"),
            ("cats/2/model.onnx", "two"),
            (url.as_str(), "spaced"),
        ] {
            let found = read(name, dir.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(found.bytes, bytes.as_bytes(), "{name}");
            assert_eq!(found.digest, Digest::of(bytes.as_bytes()));
        }
    }

    #[test]
    fn a_missing_model_says_where_it_looked_and_what_is_there() {
        let dir = models();
        let at = dir.path().display();
        assert_eq!(
            read("dogs", dir.path()).unwrap_err().to_string(),
            format!(
                "model `dogs` is not in {at}: there are `a b.onnx`, `cats@2`, `cats@3.onnx`, `digits.onnx`"
            )
        );
        let nowhere = dir.path().join("nowhere");
        assert_eq!(
            read("dogs", &nowhere).unwrap_err().to_string(),
            format!("model `dogs` is not in {at}/nowhere: the directory does not exist or cannot be read")
        );
        fs::create_dir(&nowhere).unwrap();
        assert!(read("dogs", &nowhere).unwrap_err().to_string().ends_with("no model is there"));
    }

    #[test]
    fn plain_names_never_leave_the_directory() {
        let dir = models();
        let inner = dir.path().join("cats");
        for name in
            ["../digits.onnx", "/etc/passwd", "2/../../digits.onnx", "x@../..", "..@2", "a\\b", ".", ""]
        {
            let error = read(name, &inner).unwrap_err();
            assert!(matches!(error, ModelError::BadName { .. }), "{name}: {error}");
        }
        assert!(read_text("../truth.csv", &inner).is_err());
    }

    #[test]
    fn only_absolute_file_urls_are_read() {
        for (url, why) in [
            ("s3://models/x.onnx", "only file:// URLs are read"),
            ("file://x.onnx", "needs an absolute path"),
            ("file:///x%4.onnx", "%-escapes are broken"),
        ] {
            let error = read(url, Path::new("/nowhere")).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn a_digest_is_that_of_everybody_else() {
        // The published test vector of SHA-256 for "abc" (FIPS 180-2, appendix B.1).
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
