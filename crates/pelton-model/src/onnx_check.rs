//! Whether bytes are framed as an ONNX model at all, before a runtime's parser sees them.
//!
//! An ONNX file has no magic number; it is a Protocol Buffers message. `rten` 0.27 trusts the lengths in it: one
//! beyond 2^63 sends its reader backwards for ever. This walk checks that every field of every message a model is made
//! of ends inside the message around it, and builds nothing.

/// Messages within messages: a subgraph in an attribute counts three.
const MAX_DEPTH: u32 = 96;

/// Messages of `onnx.proto` that hold other messages; all else is a leaf.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    ValueInfo,
    Type,
    /// Of a tensor, or what a sequence holds.
    TypeBody,
    Shape,
    Tensor,
    /// A dimension, an opset, an entry of metadata.
    Leaf,
}

/// Which message a length-delimited field holds, by its number in `onnx.proto`; `None`: a string, bytes, packed
/// numbers, or a message nobody here reads.
fn inner(kind: Kind, field: u64) -> Option<Kind> {
    match (kind, field) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Some(Kind::Graph),
        (Kind::Graph, 1) => Some(Kind::Node),
        (Kind::Graph, 11..=13) => Some(Kind::ValueInfo),
        (Kind::Node, 5) => Some(Kind::Attribute),
        (Kind::ValueInfo, 2) | (Kind::TypeBody, 1) => Some(Kind::Type),
        (Kind::Type, 1 | 4 | 5 | 8 | 9) => Some(Kind::TypeBody),
        (Kind::TypeBody, 2) => Some(Kind::Shape),
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Some(Kind::Tensor),
        (Kind::Model, 8 | 14) | (Kind::Shape, 1) | (Kind::Tensor, 3 | 13) => Some(Kind::Leaf),
        _ => None,
    }
}

/// `Ok` when the bytes are framed as a model with a version and a graph; what is wrong otherwise.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut seen = Seen::default();
    walk(bytes, Kind::Model, MAX_DEPTH, &mut seen)?;
    match seen {
        Seen { version: true, graph: true } => Ok(()),
        Seen { version: false, .. } => Err("it has no ir_version".into()),
        Seen { graph: false, .. } => Err("it has no graph".into()),
    }
}

#[derive(Default)]
struct Seen {
    version: bool,
    graph: bool,
}

fn walk(bytes: &[u8], kind: Kind, depth: u32, seen: &mut Seen) -> Result<(), String> {
    let broken = |rest: &[u8]| {
        format!("the message is damaged or cut {} bytes into {}", bytes.len() - rest.len(), name(kind))
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let here = rest;
        let tag = varint(&mut rest).ok_or_else(|| broken(here))?;
        let field = tag >> 3;
        match tag & 7 {
            0 => {
                varint(&mut rest).ok_or_else(|| broken(here))?;
                seen.version |= kind == Kind::Model && field == 1;
            }
            1 => drop(take(&mut rest, 8).ok_or_else(|| broken(here))?),
            5 => drop(take(&mut rest, 4).ok_or_else(|| broken(here))?),
            2 => {
                let length = varint(&mut rest).ok_or_else(|| broken(here))?;
                let body = take(&mut rest, length).ok_or_else(|| broken(here))?;
                if let Some(inner) = inner(kind, field) {
                    seen.graph |= kind == Kind::Model && inner == Kind::Graph;
                    let deeper = depth.checked_sub(1).ok_or("its graphs are nested too deeply")?;
                    walk(body, inner, deeper, seen)?;
                }
            }
            _ => return Err(broken(here)),
        }
    }
    Ok(())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Model => "the file",
        Kind::Graph => "a graph",
        Kind::Node => "a node",
        Kind::Attribute => "an attribute",
        Kind::ValueInfo | Kind::Type | Kind::TypeBody | Kind::Shape => "the description of a tensor",
        Kind::Tensor => "a tensor",
        Kind::Leaf => "an entry",
    }
}

/// At most ten bytes of seven bits, as Protocol Buffers writes 64-bit numbers.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_leads_out_of_the_file_is_refused() {
        // Field 7 (the graph) with a length of 2^64 - 1.
        let mut endless = vec![0x08, 8, 0x3a];
        endless.extend([0xff; 9]);
        endless.push(1);
        assert_eq!(check(&endless).unwrap_err(), "the message is damaged or cut 2 bytes into the file");
        assert_eq!(check(&[0xff; 300]).unwrap_err(), "the message is damaged or cut 0 bytes into the file");
    }

    #[test]
    fn a_version_and_a_graph_make_a_model() {
        assert_eq!(check(&[0x08, 8, 0x3a, 0]), Ok(()));
        assert_eq!(check(&[0x3a, 0]).unwrap_err(), "it has no ir_version");
        assert_eq!(check(&[0x08, 8]).unwrap_err(), "it has no graph");
    }
}
