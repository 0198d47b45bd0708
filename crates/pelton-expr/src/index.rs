//! Where the members that a program names stand in a record.

use crate::{
    scan::{self, Fault, JsonError, Member},
    value,
};
use vrl::value::KeyString;

/// A member that was found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    member: Member,
    /// Where the member before it ends; the object's first byte for the first one.
    before: u32,
    found: bool,
    /// There is another one of this name before it: the last one counts.
    twice: bool,
}

/// The places of one record. Kept from record to record, so that nothing is allocated anew.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Vec<KeyString>,
    places: Vec<Place>,
    /// Where the first member begins and the last one ends; equal when there is none.
    all: (u32, u32),
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) enum New<T> {
    /// Its bytes stay.
    AsItCame,
    /// It goes.
    Removed,
    /// It has this value.
    Set(T),
}

impl Index {
    /// For members of these names.
    pub(crate) fn of(names: &[KeyString]) -> Self {
        Self { names: names.to_vec(), places: vec![Place::default(); names.len()], all: (0, 0) }
    }

    /// Names it knows.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of a slot.
    pub(crate) fn name(&self, slot: usize) -> &KeyString {
        &self.names[slot]
    }

    /// The slot of a name.
    #[inline]
    pub(crate) fn slot(&self, name: &str) -> Option<usize> {
        position(&self.names, name.as_bytes())
    }

    /// The member of a slot.
    #[inline]
    pub(crate) fn member(&self, slot: usize) -> Option<&Member> {
        self.places.get(slot).filter(|place| place.found).map(|place| &place.member)
    }

    /// Check a record whose root is an object, and find the members.
    #[inline]
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        self.find::<()>(bytes).or_else(|()| self.find::<JsonError>(bytes))
    }

    #[inline(always)]
    fn find<E: Fault + From<JsonError>>(&mut self, bytes: &[u8]) -> Result<(), E> {
        let Self { names, places, all } = self;
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
        *all = (first, before);
        Ok(())
    }

    /// Append the record with some members changed: original bytes in runs, with what is new in between. A member that
    /// is new altogether comes last.
    pub(crate) fn splice<T, E>(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        new: impl Fn(usize) -> New<T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        let mut list = List { out, first: true };
        list.out.push(b'{');
        let mut at = self.all.0 as usize;
        let mut done = 0;
        // Changed members in the order of the record: there are few, so the next one is looked for each time.
        while let Some((slot, place)) = self.next_changed(done, &new) {
            let whole = place.member.whole();
            done = whole.end;
            if place.twice {
                list.out.truncate(start);
                return self.splice_doubled(bytes, List { out: list.out, first: true }, new, write);
            }
            if whole.start > at {
                list.item().extend_from_slice(&bytes[at..place.before as usize]);
            }
            if let New::Set(value) = new(slot) {
                let out = list.item();
                out.extend_from_slice(&bytes[place.member.quoted_key()]);
                out.push(b':');
                write(out, value)?;
            }
            at = if done < self.all.1 as usize { scan::next_member(bytes, done) } else { done };
        }
        if at < self.all.1 as usize {
            list.item().extend_from_slice(&bytes[at..self.all.1 as usize]);
        }
        self.append_new(&mut list, new, write)
    }

    /// The first changed member that ends behind `done`.
    #[inline]
    fn next_changed<T>(&self, done: usize, new: &impl Fn(usize) -> New<T>) -> Option<(usize, &Place)> {
        let changed = |slot: &usize| !matches!(new(*slot), New::AsItCame);
        let behind = |(_, place): &(usize, &Place)| place.found && place.member.value().end > done;
        let all = self.places.iter().enumerate().filter(behind).filter(|(slot, _)| changed(slot));
        all.min_by_key(|(_, place)| place.member.value().end)
    }

    fn append_new<T, E>(
        &self,
        list: &mut List<'_>,
        new: impl Fn(usize) -> New<T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        for (slot, name) in self.names.iter().enumerate().filter(|(slot, _)| !self.places[*slot].found) {
            if let New::Set(value) = new(slot) {
                let out = list.item();
                crate::json_text::write_string(out, name);
                out.push(b':');
                write(out, value)?;
            }
        }
        list.out.push(b'}');
        Ok(())
    }

    /// The same where a changed member comes twice: all of its name go, the last one's place is kept.
    #[cold]
    fn splice_doubled<T, E>(
        &self,
        bytes: &[u8],
        mut list: List<'_>,
        new: impl Fn(usize) -> New<T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        list.out.push(b'{');
        let mut failed = None;
        let scanned: Result<(), JsonError> = scan::record(bytes, |member| {
            let key = value::text(bytes, member.quoted_key())?;
            let slot = position(&self.names, key.as_bytes());
            match slot.map(|slot| (slot, new(slot))) {
                None | Some((_, New::AsItCame)) => list.item().extend_from_slice(&bytes[member.whole()]),
                Some((slot, New::Set(value))) if self.places[slot].member == member => {
                    let out = list.item();
                    out.extend_from_slice(&bytes[member.quoted_key()]);
                    out.push(b':');
                    failed = failed.take().or(write(out, value).err());
                }
                Some(_) => {}
            }
            Ok(())
        });
        // It was scanned before, so it is sound.
        debug_assert!(scanned.is_ok());
        match failed {
            Some(error) => Err(error),
            None => self.append_new(&mut list, new, write),
        }
    }
}

#[inline]
fn position(names: &[KeyString], key: &[u8]) -> Option<usize> {
    names.iter().position(|name| name.as_bytes() == key)
}

/// Writes the commas of an object.
struct List<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl List<'_> {
    fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out
    }
}
