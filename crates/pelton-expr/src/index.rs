//! Where the members that a program names stand in a record.

use crate::{
    scan::{self, Fault, JsonError},
    value,
};
use pelton_types::fields::{FieldRow, Member, Place};
use std::sync::Arc;
use vrl::value::KeyString;

/// The places of one record. Kept from record to record, so that nothing is allocated anew.
#[derive(Debug)]
pub(crate) struct Index {
    names: Arc<[KeyString]>,
    places: Vec<Place>,
    /// Where the first member begins and the last one ends; equal when there is none.
    members: (u32, u32),
}

impl Index {
    /// For members of these names.
    pub(crate) fn of(names: &Arc<[KeyString]>) -> Self {
        Self { names: names.clone(), places: vec![Place::default(); names.len()], members: (0, 0) }
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
        self.find::<()>(bytes).or_else(|()| self.find::<JsonError>(bytes))
    }

    #[inline(always)]
    fn find<E: Fault + From<JsonError>>(&mut self, bytes: &[u8]) -> Result<(), E> {
        let Self { names, places, members } = self;
        for place in places.iter_mut() {
            place.found = false;
            place.twice = false;
        }
        let (mut first, mut before) = (0, 0);
        scan::record(bytes, |member| {
            let hit = if member.key_escaped {
                position(names, value::text(bytes, member.quoted_key())?.as_bytes())
            } else {
                position(names, &bytes[member.key()])
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
