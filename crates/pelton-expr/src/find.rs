//! The inner loops of the scanner: where does a run of plain string bytes end, and where a run of digits?

/// Index of the first byte at or after `from` that ends a run of plain string bytes: a quote, a backslash or a control
/// character. The length of `bytes` when there is none. `from` is at most that.
#[inline(always)]
pub(crate) fn special(bytes: &[u8], from: usize) -> usize {
    run::<Plain>(bytes, from)
}

/// Index of the first byte at or after `from` that is no digit. The length of `bytes` when there is none. `from` is at
/// most that.
#[inline(always)]
pub(crate) fn digits(bytes: &[u8], from: usize) -> usize {
    run::<Digits>(bytes, from)
}

/// What a run is made of.
trait Class {
    /// Whether a byte ends it.
    fn ends(byte: u8) -> bool;

    /// A bit for each of sixteen bytes that ends it, the first byte's the lowest.
    #[cfg(target_arch = "x86_64")]
    fn ends_in(chunk: &[u8; 16]) -> u32;
}

/// Bytes that mean themselves in a string.
struct Plain;

/// `0` to `9`.
struct Digits;

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn run<C: Class>(bytes: &[u8], from: usize) -> usize {
    portable::<C>(bytes, from)
}

/// Sixteen bytes at a time.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn run<C: Class>(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let ends = C::ends_in(chunk);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize;
        }
        at += 16;
    }
    let Some(last) = bytes.last_chunk() else { return portable::<C>(bytes, at) };
    // The last sixteen bytes, of which some were looked at before. If none ends the run, the end of all does.
    let before = at + 16 - bytes.len();
    let ends = (C::ends_in(last) | 1 << 16) >> before;
    at + ends.trailing_zeros() as usize
}

/// The same for every target, a byte at a time.
#[inline]
fn portable<C: Class>(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter().position(|&byte| C::ends(byte)).map_or(bytes.len(), |n| from + n)
}

impl Class for Plain {
    #[inline(always)]
    fn ends(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn ends_in(chunk: &[u8; 16]) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
            _mm_set1_epi8,
        };
        // SAFETY: `chunk` is 16 readable bytes, the load needs no alignment, and SSE2 is always there on x86_64.
        let mask = unsafe {
            let v = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
            let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
            let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"'.cast_signed()));
            let escape = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\'.cast_signed()));
            _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, escape)))
        };
        mask.cast_unsigned()
    }
}

impl Class for Digits {
    #[inline(always)]
    fn ends(byte: u8) -> bool {
        !byte.is_ascii_digit()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn ends_in(chunk: &[u8; 16]) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8,
            _mm_sub_epi8,
        };
        // SAFETY: `chunk` is 16 readable bytes, the load needs no alignment, and SSE2 is always there on x86_64.
        let mask = unsafe {
            let v = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
            let value = _mm_sub_epi8(v, _mm_set1_epi8(b'0'.cast_signed()));
            _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(9)), value))
        };
        !mask.cast_unsigned() & 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every distance between the beginning, the byte that ends a run and the end of all.
    fn every_distance<C: Class>(ends: &[u8], runs: &[u8], run: fn(&[u8], usize) -> usize) {
        for length in 0..70 {
            for at in 0..length {
                for (&end, &plain) in ends.iter().flat_map(|end| runs.iter().map(move |plain| (end, plain))) {
                    let mut bytes = vec![plain; length];
                    bytes[at] = end;
                    for from in 0..=length {
                        let want = if from <= at { at } else { length };
                        assert_eq!(portable::<C>(&bytes, from), want);
                        assert_eq!(run(&bytes, from), want, "{} from {from}", bytes.escape_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn every_target_finds_the_end_of_plain_bytes_at_every_distance() {
        // 0x20, 0x7f and 0xff are the neighbours that a signed comparison would get wrong.
        every_distance::<Plain>(b"\"\\\x00\x1f", b" \x7f\xffx", special);
    }

    #[test]
    fn every_target_finds_the_end_of_digits_at_every_distance() {
        every_distance::<Digits>(b"/:\x00\xff", b"059", digits);
    }
}
