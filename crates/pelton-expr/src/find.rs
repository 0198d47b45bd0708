//! The inner loop of the scanner: where does a run of plain string bytes end?

/// Index of the first byte at or after `from` that ends a run of plain string bytes: a quote, a backslash or a control
/// character. The length of `bytes` when there is none.
#[inline]
pub(crate) fn special(bytes: &[u8], from: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        sse2(bytes, from)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        portable(bytes, from)
    }
}

/// The same for every target, a byte at a time.
#[inline]
fn portable(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter().position(|&c| c < 0x20 || c == b'"' || c == b'\\').map_or(bytes.len(), |n| from + n)
}

/// Sixteen bytes at a time. SSE2 is part of the x86_64 baseline, so there is nothing to detect.
#[cfg(target_arch = "x86_64")]
#[inline]
fn sse2(bytes: &[u8], from: usize) -> usize {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 16) {
        // SAFETY: `chunk` is 16 readable bytes, the load needs no alignment, and SSE2 is always there on x86_64.
        let mask = unsafe {
            let v = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
            let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
            let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"'.cast_signed()));
            let escape = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\'.cast_signed()));
            _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, escape)))
        };
        if mask != 0 {
            return at + mask.trailing_zeros() as usize;
        }
        at += 16;
    }
    portable(bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_finds_the_same_byte_at_every_distance() {
        for length in 0..70 {
            for at in 0..length {
                for special_byte in [b'"', b'\\', 0, 0x1f] {
                    // 0x20, 0x7f and 0xff are the neighbours that a signed comparison would get wrong.
                    for plain in [b' ', 0x7f, 0xff, b'x'] {
                        let mut bytes = vec![plain; length];
                        bytes[at] = special_byte;
                        for from in 0..=length {
                            let want = if from <= at { at } else { length };
                            assert_eq!(portable(&bytes, from), want);
                            assert_eq!(special(&bytes, from), want);
                        }
                    }
                }
            }
        }
    }
}
