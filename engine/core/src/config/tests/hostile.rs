//! Texts that are broken, endless or random: bounded work, no panic, always a reason.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_no_toml_is_placed_and_both_files_are_looked_at() {
    let errors = parse_pair("[fleet\n", "a = 1\na = 2\n").expect_err("no TOML");
    let places: Vec<_> = errors.problems.iter().map(|p| (p.file.as_str(), p.line, p.kind)).collect();
    assert_eq!(places, [("fleet.toml", 1, ProblemKind::Syntax), ("node.toml", 2, ProblemKind::Syntax)]);
}

#[test]
fn texts_and_reports_are_bounded() {
    let long = "#".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(parse(&long).expect_err("too long").problems[0].kind, ProblemKind::Syntax);
    let many: String = (0..1000).map(|i| format!("key{i} = {i}\n")).collect();
    let errors = parse(&format!("{MINIMAL}[hook]\n{many}")).expect_err("1000 unknown keys");
    assert_eq!((errors.problems.len(), errors.omitted), (PROBLEMS_MAX, 1000 - PROBLEMS_MAX));
    assert!(errors.to_string().ends_with("… and 950 more: correct these first"), "{errors}");
}

/// Words that make a random text reach far into the readers.
const WORDS: [&str; 36] = [
    "[fleet]",
    "[node]",
    "[vault.a]",
    "[service.b]",
    "[policy.default]",
    "[hold.c]",
    "[secret.a]",
    "[hook]",
    "name",
    "nodes",
    "kind",
    "path",
    "files",
    "zfs",
    "postgres",
    "command.d",
    "rpo",
    "keep",
    "to",
    "primary",
    "secondary",
    " = ",
    "\"a\"",
    "\"dir\"",
    "\"15m\"",
    "{ ",
    " }",
    "[",
    "]",
    ", ",
    "\n",
    "1",
    "true",
    "\"/p\"",
    ".",
    "ä",
];

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,300}") {
        let _ = parse(&text);
        let _ = parse_pair(&text, NODE);
        let _ = parse_pair(FLEET, &text);
    }

    #[test]
    fn any_mixture_of_keys_is_read_or_refused_with_a_reason(
        words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..80)
    ) {
        if let Err(errors) = parse(&words.concat()) {
            prop_assert!(!errors.problems.is_empty());
        }
    }

    #[test]
    fn a_configuration_with_a_line_taken_out_is_read_or_refused_with_a_reason(line in 0usize..80) {
        let text = format!("{FLEET}{NODE}");
        let kept: Vec<_> = text.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, l)| l).collect();
        if let Err(errors) = parse(&kept.join("\n")) {
            prop_assert!(!errors.problems.is_empty());
        }
    }
}
