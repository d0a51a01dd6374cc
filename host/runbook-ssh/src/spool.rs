//! Output of unknown size: in memory while it is small, then in a file without a name on the controller.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

/// Bytes kept in memory for each stream.
const IN_MEMORY: usize = 1 << 20;
/// Bytes at the end that are kept at hand for messages.
const TAIL: usize = 1 << 10;

/// Collects one stream.
#[derive(Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    size: u64,
    tail: Vec<u8>,
}

impl Spool {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        if self.file.is_none() && self.memory.len() + bytes.len() > IN_MEMORY {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => {
                self.memory.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The last bytes.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// All of it.
    pub(crate) fn into_bytes(self) -> io::Result<Vec<u8>> {
        let Some(mut file) = self.file else {
            return Ok(self.memory);
        };
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_everything_in_order() {
        let mut spool = Spool::default();
        let mut expected = Vec::new();
        for n in 0..300u32 {
            let chunk = vec![n.to_le_bytes()[0]; 9_000];
            spool.push(&chunk).expect("the temporary directory is writable");
            expected.extend_from_slice(&chunk);
        }
        assert_eq!(spool.size(), expected.len() as u64);
        assert!(spool.file.is_some() && spool.memory.is_empty());
        assert_eq!(spool.tail(), &expected[expected.len() - TAIL..]);
        assert_eq!(spool.into_bytes().expect("it can be read back"), expected);
    }
}
