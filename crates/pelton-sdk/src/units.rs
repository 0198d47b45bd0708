//! Durations such as `10s`, sizes such as `16MiB`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// A duration: a number and `ms`, `s`, `m`, `h` or `d`, such as `200ms`, `1.5s`.
///
/// # Errors
/// What is wrong with it, to be put behind its name.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let millis = number_with_unit(text, &DURATIONS).ok_or_else(|| {
        format!("`{text}` is no duration: write a number and a unit, such as `200ms`, `10s` or `5m`")
    })?;
    Ok(Duration::from_millis(millis))
}

/// A size in bytes: a number and `B`, `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`, such as `16MiB`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    number_with_unit(text, &SIZES).ok_or_else(|| {
        format!("`{text}` is no size: write a number and a unit, such as `512KiB`, `16MiB` or `1GiB`")
    })
}

/// As [`parse_duration`] reads it, in the largest unit that loses nothing; below a millisecond is cut.
pub fn format_duration(duration: Duration) -> String {
    format_unit(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "0s")
}

/// As [`parse_size`] reads it, in the largest unit that loses nothing.
pub fn format_size(bytes: u64) -> String {
    format_unit(bytes, &SIZES, "0B")
}

fn format_unit(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let fits = units.iter().rev().find(|(_, unit)| value >= *unit && value.is_multiple_of(*unit));
    fits.map_or_else(|| zero.to_owned(), |(name, unit)| format!("{}{name}", value / unit))
}

/// Digits, at most three of them behind a point, then a unit: in the smallest unit.
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 3 || part.contains('.') || number.ends_with('.') {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(part.len()).ok()?);
    let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = part * factor;
    // What is below the smallest unit cannot be kept.
    if !part.is_multiple_of(scale) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(*factor)?.checked_add(part / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_written_alike() {
        for text in ["200ms", "10s", "5m", "2h", "7d", "1500ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["1B", "16MiB", "512KiB", "1GiB", "3kB", "7MB"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "10",
            "s",
            "ten seconds",
            "-1s",
            "1.s",
            ".5s",
            "1.2.3s",
            "0.5ms",
            "99999999999999999999s",
            "1S",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_size("16mib").is_err());
        assert!(parse_size("184467440737095516150GiB").is_err());
    }
}
