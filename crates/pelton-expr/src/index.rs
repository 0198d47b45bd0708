//! Where the members that a program names stand in a record.

use crate::{
    marks::{self, Marks, Searched, Specials},
    scan::{self, Fault, JsonError},
    value,
};
use pelton_types::fields::{FieldRow, Member, Place};
use std::{ops::Range, sync::Arc};
use vrl::value::KeyString;

/// The first eight bytes of a key and its closing quote, by which nearly all keys are told from a name.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: u64,
    /// Ones where `bytes` counts.
    mask: u64,
    /// It is all of the key.
    whole: bool,
}

impl Head {
    fn of(name: &str) -> Self {
        let (mut bytes, mut mask) = ([0; 8], [0; 8]);
        for ((byte, mask), from) in bytes.iter_mut().zip(&mut mask).zip(name.bytes().chain([b'"'])) {
            (*byte, *mask) = (from, u8::MAX);
        }
        // A name with a quote looks like a shorter key and what follows it.
        let whole = name.len() < bytes.len() && !name.contains('"');
        Self { bytes: u64::from_le_bytes(bytes), mask: u64::from_le_bytes(mask), whole }
    }
}

/// The slot of an unescaped key.
#[inline(always)]
fn slot_of(heads: &[Head], names: &[KeyString], bytes: &[u8], key: Range<usize>) -> Option<usize> {
    let Some(&head) = bytes.get(key.start..).and_then(|rest| rest.first_chunk()) else {
        return position(names, &bytes[key]);
    };
    let head = u64::from_le_bytes(head);
    let same = |(slot, known): &(usize, &Head)| {
        head & known.mask == known.bytes && (known.whole || names[*slot].as_bytes() == &bytes[key.clone()])
    };
    heads.iter().enumerate().find(same).map(|(slot, _)| slot)
}

/// The places of one record. Kept from record to record, so that nothing is allocated anew.
#[derive(Debug)]
pub(crate) struct Index {
    names: Arc<[KeyString]>,
    heads: Vec<Head>,
    places: Vec<Place>,
    /// Where the first member begins and the last one ends; equal when there is none.
    members: (u32, u32),
    /// Of the record in hand.
    marks: Marks,
}

impl Index {
    /// For members of these names.
    pub(crate) fn of(names: &Arc<[KeyString]>) -> Self {
        Self {
            names: names.clone(),
            heads: names.iter().map(|name| Head::of(name)).collect(),
            places: vec![Place::default(); names.len()],
            members: (0, 0),
            marks: Marks::default(),
        }
    }

    /// The names it looks for.
    #[inline]
    pub(crate) fn names(&self) -> &[KeyString] {
        &self.names
    }

    /// What was found in the record last loaded.
    #[inline]
    pub(crate) fn row(&self) -> FieldRow<'_> {
        FieldRow { members: self.members, places: &self.places }
    }

    /// Check a record whose root is an object, and find the members.
    #[inline]
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        self.find_fast(bytes).or_else(|()| self.find::<JsonError>(bytes, &Searched))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn find_fast(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if marks::able() {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { self.find_marked(bytes) }
        } else {
            self.find(bytes, &Searched)
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    fn find_fast(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.find(bytes, &Searched)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn find_marked(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let mut marks = std::mem::take(&mut self.marks);
        let found = self.find(bytes, &marks.of(bytes));
        self.marks = marks;
        found
    }

    #[inline(always)]
    fn find<E: Fault + From<JsonError>>(&mut self, bytes: &[u8], specials: &impl Specials) -> Result<(), E> {
        let Self { names, heads, places, members, .. } = self;
        for place in places.iter_mut() {
            place.found = false;
            place.twice = false;
        }
        let (mut first, mut before) = (0, 0);
        scan::record_with(bytes, specials, |member| {
            let hit = if member.key_escaped {
                position(names, value::text(bytes, member.quoted_key())?.as_bytes())
            } else {
                slot_of(heads, names, bytes, member.key())
            };
            let whole = member.whole();
            if before == 0 {
                first = whole.start as u32;
                before = first;
            }
            if let Some(hit) = hit {
                places[hit] = Place { member, before, found: true, twice: places[hit].found };
            }
            before = whole.end as u32;
            Ok(())
        })?;
        *members = (first, before);
        Ok(())
    }
}

/// One record with its places, as one program sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// By slot.
    pub(crate) names: &'a [KeyString],
    pub(crate) row: FieldRow<'a>,
    /// Slots of the members that the program names, in the order in which it adds them.
    pub(crate) own: &'a [usize],
}

impl<'a> Found<'a> {
    /// Names it knows.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of a slot.
    pub(crate) fn name(&self, slot: usize) -> &'a KeyString {
        &self.names[slot]
    }

    /// The slot of a name.
    #[inline]
    pub(crate) fn slot(&self, name: &str) -> Option<usize> {
        position(self.names, name.as_bytes())
    }

    /// The member of a slot.
    #[inline]
    pub(crate) fn member(&self, slot: usize) -> Option<&'a Member> {
        self.row.places.get(slot).filter(|place| place.found).map(|place| &place.member)
    }
}

#[inline]
pub(crate) fn position(names: &[KeyString], key: &[u8]) -> Option<usize> {
    names.iter().position(|name| name.as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_whatever_their_beginnings_and_lengths() {
        let names =
            ["", "a", "price", "price_eur", "1234567", "12345678", "12345679", "1234567\"", "a\":1,", "é"];
        let names: Arc<[KeyString]> = names.map(KeyString::from).into();
        let mut index = Index::of(&names);
        let others = ["b", "pric", "prices", "price_euro", "123456", "123456789", "e"].map(KeyString::from);
        for key in names.iter().chain(&others) {
            let quoted = serde_json::to_string(key.as_str()).unwrap();
            for record in [
                format!("{{{quoted}:1,\"b\":2}}"),
                format!("{{ {quoted} : 1 }}"),
                format!("{{\"b\":2,{quoted}:1}}"),
                format!("{{\"b\":{{}},{quoted}:\"a very long value\"}}"),
            ] {
                index.load(record.as_bytes()).unwrap();
                let found: Vec<_> = (0..names.len()).filter(|&slot| index.places[slot].found).collect();
                let want: Vec<_> = names.iter().position(|name| name == key).into_iter().collect();
                assert_eq!(found, want, "{record}");
            }
        }
    }
}
