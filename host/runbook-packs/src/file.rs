//! Files of others.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The content of a file, read no further than one byte beyond `most`: whoever takes more for too much sees that it is. No pipe and no
/// device: these have no end.
///
/// # Errors
///
/// When it cannot be read, or is no regular file.
pub fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
