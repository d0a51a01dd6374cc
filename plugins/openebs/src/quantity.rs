//! Amounts as Kubernetes writes them: `256Mi`, `10G`, `1.5Ti`, `1e9`.

/// Bytes, rounded up; none where it is not an amount.
pub(crate) fn bytes(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 12 {
        return None;
    }
    let power = |base: u128, exponent: u32| base.checked_pow(exponent);
    let (factor, divisor) = match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (power(1000, 1)?, 1),
        "M" => (power(1000, 2)?, 1),
        "G" => (power(1000, 3)?, 1),
        "T" => (power(1000, 4)?, 1),
        "P" => (power(1000, 5)?, 1),
        "E" => (power(1000, 6)?, 1),
        "Ki" => (power(1024, 1)?, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?;
            (power(10, exponent.trim_start_matches('+').parse().ok()?)?, 1)
        }
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = power(10, u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    Some(digits.checked_mul(factor)?.div_ceil(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_by_bytes() {
        for (text, expected) in [
            ("256Mi", 256 << 20),
            ("1.5Gi", 3 << 29),
            ("10G", 10_000_000_000),
            ("1e3", 1000),
            ("12E2", 1200),
            ("500m", 1),
            ("1024", 1024),
            (".5Ki", 512),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for wrong in ["", "Gi", "1.2.3", "1 Gi", "-1", "1GB", "99999999999999999999999999999999999999Ei", "."] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
