//! A record as a VRL target: bytes, the places of the members a program names, and an overlay of what it wrote.

use crate::{
    scan::{self, JsonError, Member},
    value,
};
use std::cell::{OnceCell, RefCell};
use vrl::{
    compiler::{SecretTarget, Target},
    path::{BorrowedSegment, OwnedSegment, OwnedTargetPath, PathPrefix, ValuePath},
    value::{KeyString, ObjectMap, Value},
};

/// No slot: a member that no program names.
const NONE: u16 = u16::MAX;

/// A top-level member that the program names.
#[derive(Debug)]
struct Slot {
    name: KeyString,
    /// The last member of this name (the last one wins, as in `serde_json`), and its place among all members.
    found: Option<(Member, usize)>,
    /// Decoded when first read, or written. `Some(None)`: there is no such member (any more).
    value: OnceCell<Option<Value>>,
    /// Written or removed: `value` is set and differs from the bytes.
    dirty: bool,
}

/// What is kept from record to record so that nothing is allocated anew.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Vec<Slot>,
    /// All members in order, each with its slot; kept only when the record may be written.
    members: Vec<(Member, u16)>,
}

impl Index {
    /// Slots for the members of these names.
    pub(crate) fn of(names: &[KeyString]) -> Self {
        let slot =
            |name: &KeyString| Slot { name: name.clone(), found: None, value: OnceCell::new(), dirty: false };
        Self { slots: names.iter().map(slot).collect(), members: Vec::new() }
    }

    /// Scan a record. With `all`, every member is remembered, which a write needs.
    fn load(&mut self, bytes: &[u8], all: bool) -> Result<(), JsonError> {
        for slot in &mut self.slots {
            slot.found = None;
            slot.value.take();
            slot.dirty = false;
        }
        self.members.clear();
        let Self { slots, members } = self;
        let mut n = 0;
        scan::record(bytes, |member| {
            let hit = if member.key_escaped {
                let key = value::text(bytes, member.quoted_key())?;
                position(slots, key.as_bytes())
            } else {
                position(slots, &bytes[member.key()])
            };
            if let Some(hit) = hit {
                slots[hit].found = Some((member, n));
            }
            if all {
                members.push((member, hit.map_or(NONE, |h| u16::try_from(h).unwrap_or(NONE))));
            }
            n += 1;
            Ok(())
        })
    }
}

#[inline]
fn position(slots: &[Slot], key: &[u8]) -> Option<usize> {
    slots.iter().position(|slot| slot.name.as_bytes() == key)
}

/// One record while a program runs over it.
#[derive(Debug)]
pub(crate) struct Lazy<'a> {
    bytes: &'a [u8],
    index: &'a mut Index,
    /// The whole record, once it was replaced as a whole or is no object.
    root: Option<Value>,
    /// The whole record as last read, until the next write.
    view: OnceCell<Value>,
    /// VRL takes an error of a read for a missing field, so it is kept here and looked at after the run.
    error: RefCell<Option<JsonError>>,
}

impl<'a> Lazy<'a> {
    /// Check a record and find the members that `index` names; `None` is a record without a value, read as `null`.
    #[inline]
    pub(crate) fn load(
        bytes: Option<&'a [u8]>,
        index: &'a mut Index,
        writes: bool,
    ) -> Result<Self, JsonError> {
        let mut root = None;
        match bytes {
            None => root = Some(Value::Null),
            Some(bytes) => {
                scan::check_text(bytes)?;
                let start = scan::root(bytes);
                if matches!(bytes.get(start), None | Some(b'{')) {
                    index.load(bytes, writes)?;
                } else {
                    let range = scan::any_record(bytes)?;
                    root = Some(value::parse(bytes, range)?);
                }
            }
        }
        let bytes = bytes.unwrap_or_default();
        Ok(Self { bytes, index, root, view: OnceCell::new(), error: RefCell::new(None) })
    }

    /// The JSON text of a member as it came, and whether it is a string with escapes. `None`: there is none.
    #[inline]
    pub(crate) fn text_of(&self, slot: usize) -> Option<(&[u8], bool)> {
        let (member, _) = self.index.slots.get(slot).filter(|_| self.root.is_none())?.found?;
        Some((&self.bytes[member.value()], member.escaped))
    }

    /// An error that a read met during the run.
    #[inline]
    pub(crate) fn take_error(&self) -> Option<JsonError> {
        self.error.take()
    }

    /// The record as it is now, appended to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match &self.root {
            Some(root) => serde_json::to_writer(out, root),
            None => self.splice(out),
        }
    }

    /// Whether nothing was written. A root that was replaced counts as written even if it is equal.
    #[inline]
    pub(crate) fn is_unchanged(&self, root_was_loaded: Option<&Value>) -> bool {
        match (&self.root, root_was_loaded) {
            (None, _) => self.index.slots.iter().all(|slot| !slot.dirty),
            (Some(now), Some(before)) => now == before,
            (Some(_), None) => false,
        }
    }

    /// The root of a record that is no object.
    pub(crate) fn loaded_root(&self) -> Option<Value> {
        self.root.clone()
    }

    /// Original bytes in runs, with what was written in between.
    fn splice(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let slots = &self.index.slots;
        let mut list = List { out, first: true };
        list.out.push(b'{');
        let mut run: Option<(usize, usize)> = None;
        for (n, (member, hit)) in self.index.members.iter().enumerate() {
            let Some(slot) = slots.get(*hit as usize).filter(|slot| slot.dirty) else {
                let whole = member.whole();
                run = Some(run.map_or((whole.start, whole.end), |(start, _)| (start, whole.end)));
                continue;
            };
            if let Some((start, end)) = run.take() {
                list.item().extend_from_slice(&self.bytes[start..end]);
            }
            // Of several members with one name, the last is the one that was read: its place is kept.
            if let Some(value) = slot.written().filter(|_| slot.found.is_some_and(|(_, last)| last == n)) {
                let out = list.item();
                out.extend_from_slice(&self.bytes[member.quoted_key()]);
                out.push(b':');
                serde_json::to_writer(out, value)?;
            }
        }
        if let Some((start, end)) = run {
            list.item().extend_from_slice(&self.bytes[start..end]);
        }
        for slot in slots.iter().filter(|slot| slot.dirty && slot.found.is_none()) {
            if let Some(value) = slot.written() {
                let out = list.item();
                serde_json::to_writer(&mut *out, slot.name.as_str())?;
                out.push(b':');
                serde_json::to_writer(out, value)?;
            }
        }
        list.out.push(b'}');
        Ok(())
    }

    fn fail(&self, error: JsonError) {
        // The first one is the cause.
        self.error.borrow_mut().get_or_insert(error);
    }

    /// The value of a slot, decoded on first use.
    #[inline]
    fn decoded(&self, slot: usize) -> Option<&Value> {
        let slot = &self.index.slots[slot];
        let value = slot.value.get_or_init(|| {
            let (member, _) = slot.found?;
            match value::value(self.bytes, member.value(), member.escaped) {
                Ok(value) => Some(value),
                Err(error) => {
                    self.fail(error);
                    None
                }
            }
        });
        value.as_ref()
    }

    /// The slot's value for a write; the slot counts as written from here on.
    fn slot_mut(&mut self, slot: usize) -> &mut Option<Value> {
        let decoded = self.decoded(slot).is_some();
        self.view.take();
        let slot = &mut self.index.slots[slot];
        slot.dirty = true;
        if !decoded {
            slot.value.take();
        }
        slot.value.get_or_init(|| None);
        // Just initialised, so there always is one.
        slot.value.get_mut().expect("the cell was initialised above")
    }

    /// The whole record as it is now.
    fn whole(&self) -> &Value {
        if let Some(root) = &self.root {
            return root;
        }
        self.view.get_or_init(|| {
            let mut root = match value::parse::<Value>(self.bytes, 0..self.bytes.len()) {
                Ok(root) => root,
                Err(error) => {
                    self.fail(error);
                    Value::Object(ObjectMap::new())
                }
            };
            if let Value::Object(members) = &mut root {
                for slot in self.index.slots.iter().filter(|slot| slot.dirty) {
                    match slot.written() {
                        Some(value) => members.insert(slot.name.clone(), value.clone()),
                        None => members.remove(&slot.name),
                    };
                }
            }
            root
        })
    }

    /// The whole record for a write that the slots cannot carry; it is a tree from here on.
    fn whole_mut(&mut self) -> &mut Value {
        if self.root.is_none() {
            self.whole();
            self.root = self.view.take();
        }
        self.root.get_or_insert(Value::Null)
    }

    /// The slot that holds a path, and the rest of the path within it. `None`: go by the whole record.
    #[inline]
    fn locate<'p>(&self, path: &'p OwnedTargetPath) -> Option<(usize, Rest<'p>)> {
        if self.root.is_some() {
            return None;
        }
        let (OwnedSegment::Field(name), rest) = path.path.segments.split_first()? else { return None };
        Some((position(&self.index.slots, name.as_bytes())?, Rest(rest)))
    }
}

impl Slot {
    /// The value that was written; `None` when the member was removed.
    fn written(&self) -> Option<&Value> {
        self.value.get().and_then(Option::as_ref)
    }
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

/// The rest of a path behind its first segment.
#[derive(Clone, Copy)]
struct Rest<'p>(&'p [OwnedSegment]);

impl<'p> ValuePath<'p> for Rest<'p> {
    type Iter =
        std::iter::Map<std::slice::Iter<'p, OwnedSegment>, fn(&'p OwnedSegment) -> BorrowedSegment<'p>>;

    fn segment_iter(&self) -> Self::Iter {
        self.0.iter().map(BorrowedSegment::from)
    }
}

fn check_prefix(path: &OwnedTargetPath) -> Result<(), String> {
    match path.prefix {
        PathPrefix::Event => Ok(()),
        // Refused when the program was compiled.
        PathPrefix::Metadata => Err("records have no metadata".to_owned()),
    }
}

impl Target for Lazy<'_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        check_prefix(path)?;
        if path.path.segments.is_empty() {
            self.root = Some(value);
            self.view.take();
            return Ok(());
        }
        match self.locate(path) {
            None => {
                self.whole_mut().insert(&path.path, value);
            }
            Some((slot, Rest([]))) => {
                self.view.take();
                let slot = &mut self.index.slots[slot];
                slot.dirty = true;
                slot.value = OnceCell::from(Some(value));
            }
            Some((slot, rest)) => {
                self.slot_mut(slot).get_or_insert(Value::Null).insert(rest, value);
            }
        }
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        check_prefix(path)?;
        Ok(match self.locate(path) {
            None => self.whole().get(&path.path),
            Some((slot, Rest([]))) => self.decoded(slot),
            Some((slot, rest)) => self.decoded(slot).and_then(|value| value.get(rest)),
        })
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        check_prefix(path)?;
        Ok(match self.locate(path) {
            None => self.whole_mut().get_mut(&path.path),
            Some((slot, rest)) => self.slot_mut(slot).as_mut().and_then(|value| value.get_mut(rest)),
        })
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Value>, String> {
        check_prefix(path)?;
        let Some((slot, rest)) = self.locate(path) else {
            return Ok(self.whole_mut().remove(&path.path, compact));
        };
        // What is not there cannot be removed: the record stays as it is.
        if self.decoded(slot).and_then(|value| value.get(rest)).is_none() {
            return Ok(None);
        }
        let value = self.slot_mut(slot);
        if rest.0.is_empty() {
            return Ok(value.take());
        }
        let removed = value.as_mut().and_then(|value| value.remove(rest, compact));
        let empty = match value {
            Some(Value::Object(members)) => members.is_empty(),
            Some(Value::Array(elements)) => elements.is_empty(),
            _ => false,
        };
        if compact && empty {
            *value = None;
        }
        Ok(removed)
    }
}

impl SecretTarget for Lazy<'_> {
    fn get_secret(&self, _: &str) -> Option<&str> {
        None
    }
    fn insert_secret(&mut self, _: &str, _: &str) {}
    fn remove_secret(&mut self, _: &str) {}
}
