//! Durations as they are written in runbooks: "500ms", "5s", "10m", "1h30m", "2d".

/// Milliseconds of a duration text.
///
/// # Errors
///
/// What is wrong with it, as a fragment that reads after the text.
pub fn parse(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        if digits == 0 {
            return Err("is not a duration".to_owned());
        }
        let unit = &rest[digits..digits + letters];
        if unit.is_empty() {
            return Err("has no unit".to_owned());
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("has the unknown unit `{unit}`"));
        };
        if *factor >= smallest {
            return Err("does not name its units from large to small".to_owned());
        }
        smallest = *factor;
        let amount: u64 = rest[..digits].parse().map_err(|_| "is too long".to_owned())?;
        total = amount.checked_mul(*factor).and_then(|ms| total.checked_add(ms)).ok_or("is too long")?;
        rest = &rest[digits + letters..];
    }
    // A deadline is added to a clock later on; a year is more than any run and far from overflow.
    if total > 366 * 86_400_000 { Err("is longer than a year".to_owned()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_durations() {
        for (text, ms) in
            [("5s", 5000), ("500ms", 500), ("10m", 600_000), ("1h30m", 5_400_000), ("0s", 0), ("2d", 172_800_000)]
        {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "5", "s", "5 s", "-5s", "5x", "5s5m", "1m1m", "99999999999999999999s", "9999d", "1.5h", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
