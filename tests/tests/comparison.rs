//! The page that compares respire with its peers names a test for what it claims.

use std::{fs, path::Path};

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_test_that_the_comparison_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
    let page = fs::read_to_string(root.join("docs/comparison.md")).expect("the page is there");
    let (_, section) = page.split_once("\n## Where respire's column is shown").expect("a section");
    let mut named = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [_, files, tests] = cells[..] else { panic!("three cells: {row}") };
        let read = |file: &str| {
            let path = if file.contains('/') {
                root.join(file)
            } else {
                root.join("tests/tests").join(file)
            };
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let source: String = quoted(files).map(read).collect();
        for test in quoted(tests) {
            assert!(source.contains(&format!("fn {test}()")), "{test} is not in {files}");
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}
