//! Writing a record anew: what stays is copied in runs, what changed goes in between.

use crate::{
    index::{Found, position},
    scan::{self, JsonError},
    value,
};
use pelton_types::fields::{FieldRow, Member, Place};
use std::ops::Range;

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

/// Where the members of a record stand after it was written anew, so that nobody has to scan it for that.
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    places: Vec<Place>,
    members: (u32, u32),
    known: bool,
}

impl Renewed {
    /// Nothing is known (yet) of what is written.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.known = false;
    }

    /// What is known of the record last written.
    #[inline]
    pub(crate) fn row(&self) -> Option<FieldRow<'_>> {
        self.known.then_some(FieldRow { members: self.members, places: &self.places })
    }

    fn begin(&mut self, slots: usize) {
        self.known = true;
        self.places.clear();
        self.places.resize(slots, Place::default());
    }
}

impl Found<'_> {
    /// Append the record with some members changed: original bytes in runs, with what is new in between. A member that
    /// is new altogether comes last.
    pub(crate) fn splice<T, E>(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut renewed: Option<&mut Renewed>,
        new: impl Fn(usize) -> New<T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        if let Some(renewed) = &mut renewed {
            renewed.begin(self.len());
        }
        let mut list = List { start, out, first: true, renewed };
        list.out.push(b'{');
        let all = self.row.members;
        let mut at = all.0 as usize;
        let mut done = 0;
        // Changed members in the order of the record: there are few, so the next one is looked for each time.
        while let Some((slot, place)) = self.next_changed(done, &new) {
            let whole = place.member.whole();
            done = whole.end;
            if place.twice {
                list.out.truncate(start);
                return self.splice_doubled(bytes, list.anew(), new, write);
            }
            if whole.start > at {
                list.run(bytes, at..place.before as usize, self.row.places);
            }
            if let New::Set(value) = new(slot) {
                let key = Key::AsItCame(&bytes[place.member.quoted_key()]);
                list.set(slot, key, |out| write(out, value))?;
            }
            at = if done < all.1 as usize { scan::next_member(bytes, done) } else { done };
        }
        if at < all.1 as usize {
            list.run(bytes, at..all.1 as usize, self.row.places);
        }
        self.append_new(&mut list, new, write)
    }

    /// The first changed member that ends behind `done`.
    #[inline]
    fn next_changed<T>(&self, done: usize, new: &impl Fn(usize) -> New<T>) -> Option<(usize, &Place)> {
        let changed = |slot: &usize| !matches!(new(*slot), New::AsItCame);
        let behind = |(_, place): &(usize, &Place)| place.found && place.member.value().end > done;
        let all = self.own.iter().map(|&slot| (slot, &self.row.places[slot])).filter(behind);
        all.filter(|(slot, _)| changed(slot)).min_by_key(|(_, place)| place.member.value().end)
    }

    fn append_new<T, E>(
        &self,
        list: &mut List<'_>,
        new: impl Fn(usize) -> New<T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        for &slot in self.own.iter().filter(|&&slot| !self.row.places[slot].found) {
            if let New::Set(value) = new(slot) {
                list.set(slot, Key::New(self.name(slot)), |out| write(out, value))?;
            }
        }
        list.close();
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
        let scanned: Result<(), JsonError> = scan::record(bytes, |member: Member| {
            // As the index does it: a key without escapes may be no UTF-8.
            let slot = if member.key_escaped {
                position(self.names, value::text(bytes, member.quoted_key())?.as_bytes())
            } else {
                position(self.names, &bytes[member.key()])
            };
            match slot.map(|slot| (slot, new(slot))) {
                None | Some((_, New::AsItCame)) => list.item().extend_from_slice(&bytes[member.whole()]),
                Some((slot, New::Set(value))) if self.row.places[slot].member == member => {
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

enum Key<'k> {
    /// With its quotes.
    AsItCame(&'k [u8]),
    New(&'k str),
}

/// Writes the members of an object, and remembers where they stand.
struct List<'o> {
    /// Where the object begins in `out`.
    start: usize,
    out: &'o mut Vec<u8>,
    first: bool,
    renewed: Option<&'o mut Renewed>,
}

impl List<'_> {
    /// The same list from its beginning, of which nothing is remembered.
    fn anew(mut self) -> Self {
        if let Some(renewed) = &mut self.renewed {
            renewed.forget();
        }
        Self { first: true, renewed: None, ..self }
    }

    #[inline]
    fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out
    }

    /// Where the next item will begin, and what [`Place::before`] is for a member there, counted from the object.
    #[inline]
    fn place(&self) -> (u32, u32) {
        let end = self.at();
        if self.first { (end, end) } else { (end + 1, end) }
    }

    #[inline]
    fn at(&self) -> u32 {
        // A batch's buffer stays below 4 GiB.
        (self.out.len() - self.start) as u32
    }

    /// Copy unchanged members, from the first one's key on.
    #[inline]
    fn run(&mut self, bytes: &[u8], from: Range<usize>, places: &[Place]) {
        if self.renewed.is_some() {
            self.move_places(from.clone(), places);
        }
        self.item().extend_from_slice(&bytes[from]);
    }

    /// Remember where the members of a run will stand that is about to be copied.
    #[inline(never)]
    fn move_places(&mut self, from: Range<usize>, places: &[Place]) {
        let (at, before) = self.place();
        let Some(renewed) = &mut self.renewed else { return };
        let shift = |old: u32| old.wrapping_add(at).wrapping_sub(from.start as u32);
        for (place, old) in renewed.places.iter_mut().zip(places) {
            let begins = old.member.key.0.wrapping_sub(1) as usize;
            if !old.found || !from.contains(&begins) {
                continue;
            }
            *place = *old;
            place.member.key = (shift(old.member.key.0), shift(old.member.key.1));
            place.member.value = (shift(old.member.value.0), shift(old.member.value.1));
            place.before = if begins == from.start { before } else { shift(old.before) };
        }
    }

    #[inline]
    fn set<E>(
        &mut self,
        slot: usize,
        key: Key<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (begins, before) = self.place();
        let out = self.item();
        match key {
            Key::AsItCame(quoted) => out.extend_from_slice(quoted),
            Key::New(name) => crate::json_text::write_string(out, name),
        }
        out.push(b':');
        let value = self.at();
        write(self.out)?;
        if self.renewed.is_some() {
            self.remember(slot, (begins, before), value);
        }
        Ok(())
    }

    /// Remember the member just written: where it begins and the one before it ends, and where its value begins.
    #[inline(never)]
    fn remember(&mut self, slot: usize, (begins, before): (u32, u32), value: u32) {
        let ends = self.at();
        let text = &self.out[self.start..];
        let (key, written) = (&text[begins as usize..value as usize], &text[value as usize..]);
        let member = Member {
            key: (begins + 1, value - 2),
            value: (value, ends),
            key_escaped: key.contains(&b'\\'),
            escaped: written.first() == Some(&b'"') && written.contains(&b'\\'),
        };
        let Some(renewed) = &mut self.renewed else { return };
        // Only a scan says whether a container within containers is still one that a scan takes.
        renewed.known &= !matches!(written.first(), Some(b'{' | b'['));
        renewed.places[slot] = Place { member, before, found: true, twice: false };
    }

    fn close(&mut self) {
        let end = self.at();
        if let Some(renewed) = &mut self.renewed {
            renewed.members = (1, end);
        }
        self.out.push(b'}');
    }
}
