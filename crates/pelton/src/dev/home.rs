//! The folder that one `pelton dev` keeps everything in.

use crate::exit::Failure;
use std::{
    fs::{File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A `dev` that was killed takes its children along within this time; they hold files of the folder until then.
const LET_GO: Duration = Duration::from_secs(2);
/// Time between two tries.
const RETRY: Duration = Duration::from_millis(50);

/// See the module. Dropping it removes the folder, unless the user named it.
pub struct Home {
    /// The folder.
    pub path: PathBuf,
    temporary: bool,
    /// Held while this process lives, with its id in it.
    lock: Option<File>,
}

impl Home {
    /// The folder of `--data-dir`, or one of its own.
    ///
    /// # Errors
    /// When it cannot be made, or another `pelton dev` works in it.
    pub fn open(given: Option<&Path>) -> Result<Home, Failure> {
        let (path, temporary) = match given {
            Some(path) => (path.to_path_buf(), false),
            None => {
                (std::env::temp_dir().join(format!("pelton-dev-{}", uuid::Uuid::new_v4().simple())), true)
            }
        };
        std::fs::create_dir_all(&path)
            .map_err(|e| Failure::unexpected(format!("cannot create {}: {e}", path.display())))?;
        let mut home = Home { path: path.canonicalize()?, temporary, lock: None };
        home.lock = Some(home.locked()?);
        Ok(home)
    }

    fn locked(&self) -> Result<File, Failure> {
        let file = self.path.join("dev.lock");
        let cannot = |e: std::io::Error| Failure::unexpected(format!("cannot lock {}: {e}", file.display()));
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&file)
            .map_err(cannot)?;
        let deadline = Instant::now() + LET_GO;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    // Without its id the message is still clear.
                    let _ = lock.read_to_string(&mut owner);
                    return Err(Failure::unavailable(format!(
                        "the data directory {} is in use by another `pelton dev` (process {}); end that one, or \
                         choose another --data-dir",
                        self.path.display(),
                        owner.trim()
                    )));
                }
                Err(TryLockError::Error(e)) => return Err(cannot(e)),
            }
        }
        lock.set_len(0).map_err(cannot)?;
        writeln!(lock, "{}", std::process::id()).map_err(cannot)?;
        Ok(lock)
    }

    /// Where the logs of the children are.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary
            && let Err(e) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_its_own_is_removed_and_a_named_one_stays() {
        let own = Home::open(None).unwrap();
        let path = own.path.clone();
        assert!(path.is_dir());
        drop(own);
        assert!(!path.exists());
        let named = std::env::temp_dir().join(format!("pelton-home-{}", uuid::Uuid::new_v4().simple()));
        drop(Home::open(Some(&named)).unwrap());
        assert!(named.is_dir());
        std::fs::remove_dir_all(named).unwrap();
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
        let first = Home::open(None).unwrap();
        let refused = Home::open(Some(&first.path)).err().unwrap();
        assert!(refused.message.contains(&format!("(process {})", std::process::id())), "{refused}");
    }
}
