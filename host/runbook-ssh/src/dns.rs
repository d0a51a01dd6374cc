//! DNS questions and answers as bytes (RFC 1035), so that a machine only has to carry them.

use runbook_model::call::CallError;

/// A kind of record that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordType(u16);

impl RecordType {
    pub(crate) fn named(name: &str) -> Result<Self, CallError> {
        let number = match name.to_ascii_uppercase().as_str() {
            "A" => 1,
            "NS" => 2,
            "CNAME" => 5,
            "PTR" => 12,
            "MX" => 15,
            "TXT" => 16,
            "AAAA" => 28,
            "SRV" => 33,
            _ => {
                return Err(CallError::Invalid(format!(
                    "`{name}` records cannot be asked for; A, AAAA, CNAME, MX, NS, PTR, SRV and TXT can"
                )));
            }
        };
        Ok(Self(number))
    }
}

/// A question with this id.
pub(crate) fn question(id: u16, name: &str, record: RecordType) -> Result<Vec<u8>, CallError> {
    let invalid = || CallError::Invalid(format!("`{name}` is no name that DNS could know"));
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question, one additional record (EDNS, for answers of up to 4096 bytes).
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'*');
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).map_err(|_| invalid())?;
        if length == 0 || length > 63 || !label.bytes().all(plain) {
            return Err(invalid());
        }
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&record.0.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    Ok(bytes)
}

/// The values of the records in an answer; empty where there are none. Errors are words.
pub(crate) fn answers(id: u16, record: RecordType, bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = Reader { bytes, at: 0 };
    let garbled = || "it gave a garbled answer".to_owned();
    if reader.number().ok_or_else(garbled)? != id {
        return Err("it answered another question".to_owned());
    }
    let flags = reader.number().ok_or_else(garbled)?;
    match flags & 0xf {
        0 => {}
        3 => return Ok(Vec::new()),
        2 => return Err("it could not find out (SERVFAIL)".to_owned()),
        5 => return Err("it refused to answer (REFUSED)".to_owned()),
        other => return Err(format!("it answered with error {other}")),
    }
    if flags & 0x200 != 0 {
        return Err("its answer is too long for UDP".to_owned());
    }
    let questions = reader.number().ok_or_else(garbled)?;
    let count = reader.number().ok_or_else(garbled)?;
    reader.at += 4;
    for _ in 0..questions {
        reader.name().ok_or_else(garbled)?;
        reader.at += 4;
    }
    let mut values = Vec::new();
    for _ in 0..count {
        let value = reader.record(record).ok_or_else(garbled)?;
        values.extend(value);
    }
    Ok(values)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A name, with pointers followed a bounded number of times.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut back, mut jumps) = (self.at, None, 0);
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            if length & 0xc0 == 0xc0 {
                jumps += 1;
                back = back.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                if jumps > 32 {
                    return None;
                }
                continue;
            }
            at += 1;
            if length == 0 {
                self.at = back.unwrap_or(at);
                return Some(name);
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&String::from_utf8_lossy(self.bytes.get(at..at + length)?));
            at += length;
        }
    }

    /// The next record's value, where it is of the kind.
    fn record(&mut self, wanted: RecordType) -> Option<Option<String>> {
        self.name()?;
        let kind = self.number()?;
        self.take(6)?;
        let length = usize::from(self.number()?);
        let end = self.at + length;
        let value = if kind == wanted.0 { Some(self.value(kind, end)?) } else { None };
        self.at = end;
        (end <= self.bytes.len()).then_some(value)
    }

    fn value(&mut self, kind: u16, end: usize) -> Option<String> {
        Some(match kind {
            1 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?).to_string(),
            28 => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?).to_string(),
            15 => format!("{} {}", self.number()?, self.name()?),
            33 => format!("{} {} {} {}", self.number()?, self.number()?, self.number()?, self.name()?),
            16 => {
                let mut text = String::new();
                while self.at < end {
                    let length = usize::from(*self.take(1)?.first()?);
                    text.push_str(&String::from_utf8_lossy(self.take(length)?));
                }
                text
            }
            _ => self.name()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_answers() {
        let record = RecordType::named("a").expect("known");
        let mut answer = question(7, "node1.lan", record).expect("a name");
        answer[2] = 0x81;
        answer[7] = 1;
        answer.truncate(answer.len() - 11);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 168, 1, 10]);
        assert_eq!(answers(7, record, &answer), Ok(vec!["192.168.1.10".to_owned()]));
        assert!(answers(8, record, &answer).is_err());
        answer[3] = 3;
        assert_eq!(answers(7, record, &answer), Ok(Vec::new()));
    }

    #[test]
    fn hostile_answers_end() {
        let record = RecordType::named("CNAME").expect("known");
        let mut answer = vec![0, 7, 0x81, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12];
        assert!(answers(7, record, &answer).is_err());
        answer.truncate(5);
        assert!(answers(7, record, &answer).is_err());
    }

    #[test]
    fn names_are_checked() {
        let record = RecordType::named("A").expect("known");
        for bad in ["", "a..b", "-x y", "$(id).x"] {
            assert!(question(1, bad, record).is_err(), "{bad}");
        }
    }
}
