//! The little of tar that a pack as one file needs: plain files with short names, written by nobody at no time.
//!
//! No crate for tar: those read all of its dialects (long names, sparse files, extended headers), in which two readers can see two
//! archives. Here there is one header for each file, and everything else is refused.

use std::io::{self, Read};

/// Bytes of a header, and what contents are filled up to.
const BLOCK: usize = 512;

/// Where the parts of a header lie, in bytes.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..263;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends early.
    #[error("it ends in the middle of a file")]
    Truncated,
    /// It is no tar, or damaged.
    #[error("it is not a pack: there is no tar header at byte {0}")]
    Header(u64),
    /// Links, devices, and the dialects of tar.
    #[error("it holds something that is no plain file (tar calls it `{0}`)")]
    Kind(char),
    /// More of them than a pack can have.
    #[error("it holds more than {0} files")]
    TooMany(usize),
    /// A file is larger than it may be.
    #[error("a file in it is larger than {0} MiB")]
    TooLarge(u64),
    /// Something follows its end.
    #[error("something follows its end")]
    Trailing,
}

/// Appends a file. `name` has less than 100 bytes.
pub(crate) fn append(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = [0u8; BLOCK];
    header[..name.len()].copy_from_slice(name.as_bytes());
    put(&mut header, 100, "0000644\0"); // mode
    put(&mut header, 108, "0000000\0"); // user
    put(&mut header, 116, "0000000\0"); // group
    put(&mut header, SIZE.start, &format!("{:011o}\0", content.len()));
    put(&mut header, 136, "00000000000\0"); // time
    header[KIND] = b'0';
    put(&mut header, MAGIC.start, "ustar\x0000");
    let sum = checksum(&header);
    put(&mut header, CHECKSUM.start, &format!("{sum:06o}\0 "));
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Appends the end.
pub(crate) fn finish(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

fn put(header: &mut [u8; BLOCK], at: usize, text: &str) {
    header[at..at + text.len()].copy_from_slice(text.as_bytes());
}

/// The sum of all bytes, those of the sum itself taken for blanks.
fn checksum(header: &[u8; BLOCK]) -> u32 {
    header.iter().enumerate().map(|(i, b)| if CHECKSUM.contains(&i) { u32::from(b' ') } else { u32::from(*b) }).sum()
}

/// Reads an archive file by file.
pub(crate) struct Reader<R> {
    from: R,
    at: u64,
    files: usize,
    max_files: usize,
}

impl<R: Read> Reader<R> {
    /// Reads at most so many files and folders.
    pub(crate) fn new(from: R, max_files: usize) -> Self {
        Self { from, at: 0, files: 0, max_files }
    }

    /// The next file's name and content; none at the end. `limit` says how many bytes the file of a name may have; it is asked
    /// before anything of the file is read.
    ///
    /// # Errors
    ///
    /// What is wrong with the archive, or what `limit` refuses.
    pub(crate) fn next<E: From<TarError>>(
        &mut self,
        mut limit: impl FnMut(&str) -> Result<u64, E>,
    ) -> Result<Option<(String, Vec<u8>)>, E> {
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.files += 1;
            if self.files > self.max_files {
                return Err(TarError::TooMany(self.max_files).into());
            }
            match header.kind {
                b'0' | 0 => {}
                // A folder, as tar itself would have added it: it says nothing.
                b'5' if header.size == 0 => continue,
                other => return Err(TarError::Kind(printable(other)).into()),
            }
            let most = limit(&header.name)?;
            if header.size > most {
                return Err(TarError::TooLarge(most.div_ceil(1 << 20)).into());
            }
            return Ok(Some((header.name, self.content(header.size)?)));
        }
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0u8; BLOCK];
        let at = self.at;
        self.fill(&mut block)?;
        if block == [0u8; BLOCK] {
            return self.only_zeros().map(|()| None);
        }
        Header::read(&block).map(Some).ok_or(TarError::Header(at))
    }

    fn content(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut content = Vec::new();
        // It grows with what really comes: the size is a stranger's word.
        let read = (&mut self.from).take(size).read_to_end(&mut content)? as u64;
        if read != size {
            return Err(TarError::Truncated);
        }
        self.at += size;
        let mut padding = [0u8; BLOCK];
        let rest = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        self.fill(&mut padding[..rest])?;
        if padding == [0u8; BLOCK] { Ok(content) } else { Err(TarError::Trailing) }
    }

    /// After the first block of zeros: tar fills up to 10 KiB, and no more than that is read.
    fn only_zeros(&mut self) -> Result<(), TarError> {
        let mut rest = Vec::new();
        (&mut self.from).take(32 << 10).read_to_end(&mut rest)?;
        let short = rest.len() < 32 << 10;
        if short && rest.iter().all(|b| *b == 0) { Ok(()) } else { Err(TarError::Trailing) }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.at += buffer.len() as u64;
        self.from.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated,
            _ => TarError::Io(error),
        })
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '?' }
}

struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Option<Self> {
        let good = octal(&block[CHECKSUM])? == u64::from(checksum(block)) && block[MAGIC].starts_with(b"ustar");
        // GNU's tar keeps times where others keep the first part of long names, but only when it is asked to.
        let short = block[PREFIX].iter().all(|b| *b == 0);
        if !good || !short {
            return None;
        }
        let name = block[NAME].split(|b| *b == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        Some(Self {
            name: name.strip_prefix("./").unwrap_or(name).to_owned(),
            size: octal(&block[SIZE])?,
            kind: block[KIND],
        })
    }
}

/// A number in octal digits, ended by a blank or a zero. (There is another way to write them, for more than 8 GiB.)
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'7')) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}
