//! The page that compares respire with its peers names a test for what it claims.

use std::{fs, path::Path};

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a source has a test of this name that runs: one that is not commented out and not ignored.
fn runs(source: &str, test: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let signatures = [format!("fn {test}()"), format!("async fn {test}()")];
    let is_signature = |line: &&str| signatures.iter().any(|start| line.starts_with(start));
    let Some(at) = lines.iter().position(is_signature) else { return false };
    let above = lines[..at].iter().rev();
    let attributes: Vec<&str> = above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .copied()
        .collect();
    let has = |starts: &[&str]| {
        let mut named =
            starts.iter().flat_map(|start| attributes.iter().map(move |it| (it, start)));
        named.any(|(attribute, start)| attribute.starts_with(start))
    };
    has(&["#[test]", "#[tokio::test"]) && !has(&["#[ignore", "#[cfg("])
}

#[test]
fn a_test_runs_unless_it_is_ignored_or_commented_out() {
    let test = "fn it() {";
    for (above, is_run) in [
        ("#[test]", true),
        ("#[tokio::test(start_paused = true)]", true),
        ("#[test]\n#[should_panic(expected = \"x\")]\n// Why.", true),
        ("", false),
        ("#[test]\n\nfn other() {}\n", false),
        ("#[test]\n#[ignore]", false),
        ("#[ignore = \"slow\"]\n#[test]", false),
        ("#[cfg(windows)]\n#[test]", false),
    ] {
        assert_eq!(runs(&format!("{above}\n{test}\n}}"), "it"), is_run, "{above}");
        assert_eq!(runs(&format!("{above}\nasync {test}\n}}"), "it"), is_run, "{above}");
        assert!(!runs(&format!("{above}\n// {test}\n// }}"), "it"), "{above}");
    }
    assert!(!runs("#[test]\nfn it_is_another() {", "it"));
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
            assert!(runs(&source, test), "{test} does not run in {files}");
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}
