//! Sizes as they are written in manifests: "512KiB", "64MiB", "2GiB".

/// Bytes of a size text.
///
/// # Errors
///
/// What is wrong with it, as a fragment that reads after the text.
pub fn parse(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (amount, unit) = text.split_at(digits);
    if amount.is_empty() {
        return Err("is not a size such as 64MiB".to_owned());
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("has no unit of B, KiB, MiB or GiB".to_owned());
    };
    let amount: u64 = amount.parse().map_err(|_| "is too long".to_owned())?;
    amount.checked_mul(*factor).ok_or_else(|| "is too long".to_owned())
}

/// Bytes in the largest unit that leaves no rest.
pub fn show(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [("7B", 7), ("1KiB", 1024), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("0B", 0)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in
            ["", "5", "MiB", "5 MiB", "-5MiB", "5MB", "5mib", "1.5GiB", "99999999999999999999B", "99999999999GiB", "ä"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_sizes_without_a_rest() {
        for (bytes, text) in [(0, "0 B"), (7, "7 B"), (1536, "1536 B"), (3 << 20, "3 MiB"), (1 << 30, "1 GiB")] {
            assert_eq!(show(bytes), text);
        }
    }
}
