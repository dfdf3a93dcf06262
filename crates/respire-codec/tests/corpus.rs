//! Replays the fuzzers' corpus, and keeps its seeds equal to the vectors.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod properties;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use properties::vectors;

/// Vectors up to this length are seeds. Longer ones repeat themselves.
const SEED_BYTES_MAX: usize = 2_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

/// The inputs for a target, and the seeds that it starts from.
fn inputs(directories: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut inputs = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(corpus().join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            inputs.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    inputs
}

fn replay(directories: &[&str], property: fn(&[u8])) {
    for (path, input) in inputs(directories) {
        // The name of the input is the first thing to know when it fails.
        println!("{}", path.display());
        property(&input);
    }
}

/// File names and contents of the seeds: as they are on the wire, and with two
/// bytes in front that choose configuration and cuts.
fn seeds() -> [(&'static str, BTreeMap<String, Vec<u8>>); 2] {
    let mut wire = BTreeMap::new();
    let mut cut = BTreeMap::new();
    for vector in vectors::all().into_iter().filter(|v| v.wire.len() <= SEED_BYTES_MAX) {
        let words: Vec<String> = vector
            .name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let name = words.join("-");
        cut.insert(name.clone(), [&[vector.selector(), 1], &vector.wire[..]].concat());
        let other = wire.insert(name, vector.wire);
        assert!(other.is_none(), "the file of {:?} is another vector's, too", vector.name);
    }
    [("wire", wire), ("cut", cut)]
}

#[test]
fn the_seeds_are_the_vectors() {
    for (directory, seeds) in seeds() {
        let found: BTreeMap<String, Vec<u8>> = inputs(&[directory])
            .into_iter()
            .map(|(path, input)| (path.file_name().unwrap().to_string_lossy().into_owned(), input))
            .collect();
        assert!(seeds.len() > 200);
        assert!(
            found == seeds,
            "write them with: cargo test -p respire-codec --test corpus -- --ignored write_seeds"
        );
    }
}

#[test]
#[ignore = "writes to the source tree"]
fn write_seeds() {
    for (directory, seeds) in seeds() {
        let directory = corpus().join(directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        for (name, input) in seeds {
            fs::write(directory.join(name), input).unwrap();
        }
    }
}

#[test]
fn decode_whole() {
    replay(&["wire", "decode_whole"], properties::decodes_whole);
}

#[test]
fn decode_split() {
    replay(&["cut", "decode_split"], properties::splits_do_not_matter);
}

#[test]
fn round_trip() {
    replay(&["wire", "round_trip"], properties::round_trips);
}

#[test]
fn extract() {
    replay(&["wire", "extract"], properties::extracts);
}

#[test]
fn differential() {
    replay(&["cut", "differential"], properties::agrees_with_the_oracle);
}

#[test]
fn generated() {
    replay(&["cut", "generated"], properties::generated_streams_hold);
}
