//! The runtime on the example's model, and on files that are none.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_model::{Model, ModelError, Port, Rows, RtenRuntime, Runtime, Signature, lookup};
use std::path::{Path, PathBuf};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits")
}

fn digits() -> Box<dyn Model> {
    RtenRuntime.load(lookup::read("digits", &examples()).unwrap().bytes).unwrap()
}

fn signature(model: &dyn Model) -> Signature {
    let input = Port::input(model, Some("x"), None).unwrap();
    let output = Port::output(model, None, None).unwrap();
    Signature::new(model, vec![input], vec![output]).unwrap()
}

#[test]
fn a_model_describes_its_tensors() {
    let model = digits();
    let show =
        |tensors: &[pelton_model::TensorInfo]| tensors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(show(model.inputs()), ["x f32[batch, 64]"]);
    assert_eq!(show(model.outputs()), ["prob f32[batch, 10]"]);
}

#[test]
fn a_batch_gives_what_its_rows_give_alone() {
    let mut model = digits();
    let signature = signature(&*model);
    let rows = Rows::from_values(64, (0..64 * 5).map(|i| (i % 17) as f32 / 16.0).collect());
    let together = model.run(&signature, &rows).unwrap();
    assert_eq!((together.len(), together.width()), (5, 10));
    for i in 0..5 {
        let alone = model.run(&signature, &rows.slice(i, i + 1)).unwrap();
        for (a, b) in alone.values().iter().zip(together.row(i).unwrap()) {
            assert!((a - b).abs() < 1e-5, "row {i}: {a} alone, {b} in the batch");
        }
        assert!((alone.values().iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert!(model.run(&signature, &Rows::new(64)).unwrap().is_empty());
}

#[test]
fn tensors_that_do_not_exist_or_fit_are_named() {
    let mut model = digits();
    assert_eq!(
        Port::input(&*model, Some("pixels"), None).unwrap_err().to_string(),
        "the model has no input `pixels`; it has `x`"
    );
    let signature = signature(&*model);
    let short = Rows::from_values(63, vec![0.0; 63]);
    assert_eq!(
        model.run(&signature, &short).unwrap_err().to_string(),
        "tensor `x`: expected 64 numbers in a row, given 63"
    );
}

fn load_error(bytes: Vec<u8>) -> ModelError {
    match RtenRuntime.load(bytes) {
        Ok(_) => panic!("that is no model"),
        Err(error) => error,
    }
}

#[test]
fn files_that_are_no_models_are_told_apart() {
    for (bytes, why) in [
        (&b""[..], "not an ONNX model: the file is empty"),
        (
            b"PK\x03\x04rest",
            "not an ONNX model: it is a zip archive (a PyTorch or NumPy file?); export to ONNX",
        ),
        (b"{\"pixels\": []}", "not an ONNX model: it looks like text"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "not an ONNX model: it is a Git LFS pointer; run git lfs pull",
        ),
        (&[0xff; 300], "not an ONNX model: the message is damaged or cut 0 bytes into the file"),
    ] {
        assert_eq!(load_error(bytes.to_vec()).to_string(), why);
    }
}

#[test]
fn a_cut_or_damaged_model_is_an_error_and_never_a_panic() {
    let whole = lookup::read("digits", &examples()).unwrap().bytes;
    for cut in (0..whole.len()).step_by(97) {
        load_error(whole[..cut].to_vec());
    }
    // Damage may go unnoticed in the weights, but it must not bring the process down.
    for at in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        drop(RtenRuntime.load(damaged));
    }
}

#[test]
fn an_operator_the_runtime_lacks_is_named() {
    // Same length, so that the message around it stays valid.
    let mut bytes = lookup::read("digits", &examples()).unwrap().bytes;
    let at = bytes.windows(7).position(|w| w == b"Softmax").unwrap();
    bytes[at..at + 7].copy_from_slice(b"Hardmax");
    assert_eq!(load_error(bytes).to_string(), "the model uses an operator this runtime lacks: Hardmax");
}
