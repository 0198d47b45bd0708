//! Files of other kinds that people take for models.

use crate::error::ModelError;

/// Refuses what one sees at the first bytes; everything else is up to the parser.
pub(crate) fn refuse(bytes: &[u8]) -> Result<(), ModelError> {
    let looks = match bytes {
        [] => "the file is empty",
        [b'P', b'K', 3, 4, ..] => "it is a zip archive (a PyTorch or NumPy file?); export to ONNX",
        [0x89, b'H', b'D', b'F', ..] => "it is an HDF5 file (Keras?); export to ONNX",
        [0x1f, 0x8b, ..] => "it is compressed with gzip",
        _ if bytes.starts_with(b"version https://git-lfs") => "it is a Git LFS pointer; run git lfs pull",
        // A model begins with a control character, the tag of its first field.
        _ if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            "it looks like text"
        }
        _ => return Ok(()),
    };
    Err(ModelError::NotAModel { why: looks.into() })
}
