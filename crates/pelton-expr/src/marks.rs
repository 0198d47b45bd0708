//! Where the special bytes of a whole record are, found before it is looked through.
//!
//! One pass over all bytes waits for nothing; looking for the end of each string on its own waits for the one before.

use crate::find;

/// Tells where special bytes are: quotes, backslashes and control characters.
pub(crate) trait Specials {
    /// Index of the first special byte at or after `from`, the length of `bytes` when there is none. `from` is at most
    /// that.
    fn next(&self, bytes: &[u8], from: usize) -> usize;
}

/// Nobody knows: each is searched when it is asked for.
#[derive(Debug)]
pub(crate) struct Searched;

impl Specials for Searched {
    #[inline(always)]
    fn next(&self, bytes: &[u8], from: usize) -> usize {
        find::special(bytes, from)
    }
}

/// A bit for each special byte of one record. Kept from record to record, so that nothing is allocated anew.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
}

/// The special bytes of a record: a bit for each, the first byte's the lowest of the first word. Behind the record there
/// is one bit more, and a word without any.
#[derive(Debug)]
pub(crate) struct Marked<'m>(&'m [u64]);

const BLOCK: usize = 64;

impl Specials for Marked<'_> {
    #[inline(always)]
    fn next(&self, bytes: &[u8], from: usize) -> usize {
        let (at, within) = (from / BLOCK, from % BLOCK);
        let Some(&[low, high]) = self.0.get(at..at + 2) else { return bytes.len() };
        // The 64 bytes from there on, whatever words they lie in. Shifted twice, as one shift is at most 63.
        let ahead = low >> within | (high << 1) << (BLOCK - 1 - within);
        if ahead != 0 { from + ahead.trailing_zeros() as usize } else { self.far(at + 1, bytes.len()) }
    }
}

impl Marked<'_> {
    /// The same from the word `at` on.
    #[inline(never)]
    fn far(&self, at: usize, length: usize) -> usize {
        let ahead = self.0.get(at..).unwrap_or_default().iter().enumerate();
        let found = ahead.map(|(n, word)| (n, word.trailing_zeros())).find(|(_, bit)| *bit < u64::BITS);
        found.map_or(length, |(n, bit)| (at + n) * BLOCK + bit as usize)
    }
}

/// Whether [`Marks::of`] can run here. The library keeps the answer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn able() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
impl Marks {
    /// Find the special bytes of a record.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline]
    pub(crate) fn of(&mut self, bytes: &[u8]) -> Marked<'_> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let needed = blocks.len() + 2;
        if self.words.len() < needed {
            self.words.resize(needed.next_power_of_two(), 0);
        }
        let words = &mut self.words[..needed];
        for (word, block) in words.iter_mut().zip(blocks) {
            *word = specials(block);
        }
        let last = match bytes.last_chunk() {
            // Some of them were looked at before. Shifted twice: there may be none that were not.
            Some(last) => (specials(last) >> 1) >> (BLOCK - 1 - rest.len()),
            None => {
                let mut padded = [b' '; BLOCK];
                padded[..rest.len()].copy_from_slice(rest);
                specials(&padded)
            }
        };
        words[blocks.len()] = last | 1 << rest.len();
        words[blocks.len() + 1] = 0;
        Marked(words)
    }
}

/// A bit for each special byte, the first byte's the lowest.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn specials(block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };
    let (first, second) = block.split_at(BLOCK / 2);
    let half = |bytes: &[u8]| {
        // SAFETY: half a block is 32 readable bytes, and the load needs no alignment.
        let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>()) };
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
        let quote = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(b'"'.cast_signed()));
        let escape = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(b'\\'.cast_signed()));
        let any = _mm256_or_si256(control, _mm256_or_si256(quote, escape));
        u64::from(_mm256_movemask_epi8(any).cast_unsigned())
    };
    half(first) | half(second) << (BLOCK / 2)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// From every byte on, the marks tell what a search finds.
    fn same(marks: &mut Marks, bytes: &[u8]) {
        if !able() {
            return;
        }
        // SAFETY: `able` said that the processor has what the function is compiled for.
        let marked = unsafe { marks.of(bytes) };
        for from in 0..=bytes.len() {
            assert_eq!(marked.next(bytes, from), Searched.next(bytes, from), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn marks_tell_what_a_search_finds_at_every_length() {
        let mut marks = Marks::default();
        for length in (0..70).chain(120..200).chain([1000, 70]) {
            for plain in *b" \x7f\xffx" {
                same(&mut marks, &vec![plain; length]);
            }
            same(&mut marks, &vec![b'"'; length]);
            for at in 0..length.min(200) {
                let mut bytes = vec![b'\x20'; length];
                for (special, at) in b"\"\\\x00\x1f".iter().zip([at, at / 2, length - 1 - at, length / 3]) {
                    bytes[at] = *special;
                    same(&mut marks, &bytes);
                }
            }
        }
    }
}
