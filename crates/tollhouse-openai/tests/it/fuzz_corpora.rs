//! The fuzzers' corpora, replayed: what once was found stays found.

#[allow(unreachable_pub, reason = "a library of its own to the fuzzers")]
#[path = "../../fuzz/src/harness.rs"]
mod harness;

fn replay(corpus: &str, target: fn(&[u8])) {
    let path = format!("{}/fuzz/corpus/{corpus}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&path).expect("a corpus");
    let mut replayed = 0;
    for entry in entries {
        let input = std::fs::read(entry.expect("an entry").path()).expect("an input");
        target(&input);
        // Every input cut short is another input.
        (0..input.len())
            .step_by(41)
            .for_each(|end| target(&input[..end]));
        replayed += 1;
    }
    assert!(replayed > 0, "{path} is empty");
}

#[test]
fn headers_corpus() {
    replay("headers", harness::headers);
}

#[test]
fn errors_corpus() {
    replay("errors", harness::errors);
}

#[test]
fn streams_corpus() {
    replay("streams", harness::streams);
}
