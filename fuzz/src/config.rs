//! The configuration: texts that an operator writes.

use backstay_core::config::{Config, ConfigTexts, PROBLEMS_MAX, SourceText};

/// One text, and two when a zero byte divides it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    parse(ConfigTexts::Single(SourceText { name: "backstay.toml", text }));
    if let Some((fleet, node)) = text.split_once('\0') {
        let fleet = SourceText { name: "fleet.toml", text: fleet };
        parse(ConfigTexts::Split { fleet, node: SourceText { name: "node.toml", text: node } });
    }
}

fn parse(texts: ConfigTexts<'_>) {
    match Config::parse(texts) {
        Ok(config) => assert!(!config.fleet.name.as_str().is_empty()),
        Err(errors) => {
            let shown = errors.to_string();
            assert!(!shown.is_empty() && shown.lines().count() <= 10 * PROBLEMS_MAX, "says what is wrong");
        }
    }
}
