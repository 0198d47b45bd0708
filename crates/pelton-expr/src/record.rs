//! A record as a VRL target: bytes, the places of the members a program names, and an overlay of what it wrote.

use crate::{
    index::Found,
    scan::{self, JsonError},
    splice::{New, Renewed},
    value,
};
use std::cell::{OnceCell, RefCell};
use vrl::{
    compiler::{SecretTarget, Target},
    path::{BorrowedSegment, OwnedSegment, OwnedTargetPath, PathPrefix, ValuePath},
    value::{ObjectMap, Value},
};

/// What VRL read and wrote, by slot. Kept from record to record.
#[derive(Debug, Default)]
pub(crate) struct Overlay(Vec<Slot>);

#[derive(Debug, Default)]
struct Slot {
    /// Decoded when first read, or written. `Some(None)`: there is no such member (any more).
    value: OnceCell<Option<Value>>,
    /// Written or removed: `value` is set and differs from the bytes.
    dirty: bool,
}

impl Overlay {
    /// Room for this many members.
    pub(crate) fn of(slots: usize) -> Self {
        Self(std::iter::repeat_with(Slot::default).take(slots).collect())
    }
}

/// One record while a program runs over it.
#[derive(Debug)]
pub(crate) struct Lazy<'a> {
    bytes: &'a [u8],
    found: Found<'a>,
    overlay: &'a mut Overlay,
    /// The whole record, once it was replaced as a whole or is no object.
    root: Option<Value>,
    /// The whole record as last read, until the next write.
    view: OnceCell<Value>,
    /// VRL takes an error of a read for a missing field, so it is kept here and looked at after the run.
    error: RefCell<Option<JsonError>>,
}

impl<'a> Lazy<'a> {
    /// A record whose root is an object and whose members were found.
    #[inline]
    pub(crate) fn object(bytes: &'a [u8], found: Found<'a>, overlay: &'a mut Overlay) -> Self {
        for slot in &mut overlay.0 {
            slot.value.take();
            slot.dirty = false;
        }
        Self { bytes, found, overlay, root: None, view: OnceCell::new(), error: RefCell::new(None) }
    }

    /// Any other record; `None` is one without a value, read as `null`.
    pub(crate) fn other(
        bytes: Option<&'a [u8]>,
        found: Found<'a>,
        overlay: &'a mut Overlay,
    ) -> Result<Self, JsonError> {
        let root = match bytes {
            None => Value::Null,
            Some(bytes) => value::parse(bytes, scan::any_record(bytes)?)?,
        };
        let mut record = Self::object(bytes.unwrap_or_default(), found, overlay);
        record.root = Some(root);
        Ok(record)
    }

    /// An error that a read met during the run.
    #[inline]
    pub(crate) fn take_error(&self) -> Option<JsonError> {
        self.error.take()
    }

    /// The record as it is now, appended to `out`.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        renewed: Option<&mut Renewed>,
    ) -> Result<(), serde_json::Error> {
        match &self.root {
            Some(root) => serde_json::to_writer(out, root),
            None => self.splice(out, renewed),
        }
    }

    /// Whether nothing was written. A root that was replaced counts as written even if it is equal.
    #[inline]
    pub(crate) fn is_unchanged(&self, root_was_loaded: Option<&Value>) -> bool {
        match (&self.root, root_was_loaded) {
            (None, _) => self.overlay.0.iter().all(|slot| !slot.dirty),
            (Some(now), Some(before)) => now == before,
            (Some(_), None) => false,
        }
    }

    /// The root of a record that is no object.
    pub(crate) fn loaded_root(&self) -> Option<Value> {
        self.root.clone()
    }

    fn splice(&self, out: &mut Vec<u8>, renewed: Option<&mut Renewed>) -> Result<(), serde_json::Error> {
        let new = |slot: usize| match &self.overlay.0[slot] {
            Slot { dirty: false, .. } => New::AsItCame,
            slot => slot.written().map_or(New::Removed, New::Set),
        };
        self.found.splice(self.bytes, out, renewed, new, |out, value| serde_json::to_writer(out, value))
    }

    fn fail(&self, error: JsonError) {
        // The first one is the cause.
        self.error.borrow_mut().get_or_insert(error);
    }

    /// The value of a slot, decoded on first use.
    #[inline]
    fn decoded(&self, slot: usize) -> Option<&Value> {
        let value = self.overlay.0[slot].value.get_or_init(|| {
            let member = self.found.member(slot)?;
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
        let slot = &mut self.overlay.0[slot];
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
                for (n, slot) in self.overlay.0.iter().enumerate().filter(|(_, slot)| slot.dirty) {
                    let name = self.found.name(n);
                    match slot.written() {
                        Some(value) => members.insert(name.clone(), value.clone()),
                        None => members.remove(name),
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
        Some((self.found.slot(name)?, Rest(rest)))
    }
}

impl Slot {
    /// The value that was written; `None` when the member was removed.
    fn written(&self) -> Option<&Value> {
        self.value.get().and_then(Option::as_ref)
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
                let slot = &mut self.overlay.0[slot];
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
