//! Keys and prices of vaults in buckets.

use super::*;
use crate::config::Price;

/// The smallest configuration with a bucket, with more of its table and of its secret.
fn with_bucket(vault: &str, secret: &str) -> String {
    format!(
        "{MINIMAL}[vault.offsite]\nkind = \"s3\"\nbucket = \"backups\"\n{vault}\n[secret]\noffsite = {{ {secret} }}\n"
    )
    .replacen("[service.static]\n", "[service.static]\nto = [\"local\"]\n", 1)
}

const KEY: &str = "access = \"file:/id\", secret = \"file:/key\"";

#[test]
fn the_custodian_may_have_a_key_of_its_own() {
    let config = parse(&with_bucket("", KEY)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.secrets["offsite"].custodian, None);
    let two = format!("{KEY}, custodian = {{ access = \"env:ID\", secret = \"file:/other\" }}");
    let config = parse(&with_bucket("", &two)).unwrap_or_else(|errors| panic!("{errors}"));
    let secret = &config.secrets["offsite"];
    let named: Vec<String> =
        secret.references().map(|(name, reference)| format!("{name} {reference}")).collect();
    let expected =
        ["access file:/id", "secret file:/key", "custodian.access env:ID", "custodian.secret file:/other"];
    assert_eq!(named, expected);
}

#[test]
fn a_key_of_the_custodian_that_is_none_of_its_own_is_refused() {
    for (custodian, key, word) in [
        (KEY, "secret.offsite", "is the one by which is written"),
        ("access = \"env:ID\"", "secret.offsite.custodian", "\"secret\" is missing"),
        ("access = \"hunter2\", secret = \"file:/x\"", "secret.offsite.custodian.access", "reference"),
    ] {
        let text = with_bucket("", &format!("{KEY}, custodian = {{ {custodian} }}"));
        let errors = parse(&text).expect_err(custodian);
        let [problem] = errors.problems.as_slice() else { panic!("{errors}") };
        assert_eq!(problem.key, key);
        assert!(problem.what.contains(word) && !errors.to_string().contains("hunter"), "{errors}");
    }
}

#[test]
fn a_price_list_is_read_to_the_billionth_and_what_is_not_in_it_costs_nothing() {
    let price = "price = { currency = \"EUR\", storage = 0.006, put = 5e-3, get = 0.0004, egress = 1 }";
    let config = parse(&with_bucket(price, KEY)).unwrap_or_else(|errors| panic!("{errors}"));
    let VaultKind::S3(vault) = &config.vaults["offsite"].kind else { panic!() };
    let price = vault.price.as_ref().expect("a price list");
    assert_eq!(price.currency, "EUR");
    let read = [price.storage, price.put, price.get, price.list, price.delete, price.egress];
    assert_eq!(read, [6_000_000, 5_000_000, 400_000, 0, 0, 1_000_000_000].map(Price));
}

#[test]
fn what_is_no_price_is_refused() {
    for (price, word) in [
        ("currency = \"EUR\"", "\"storage\" is missing"),
        ("storage = 1", "\"currency\" is missing"),
        ("currency = \"EUR\", storage = \"0.006\"", "it is no price"),
        ("currency = \"EUR\", storage = -0.006", "-0.006 is no price"),
        ("currency = \"EUR\", storage = nan", "nan is no price"),
        ("currency = \"EUR\", storage = inf", "inf is no price"),
        ("currency = \"EUR\", storage = 1e7", "1e7 is no price"),
        ("currency = \"E U\", storage = 1", "cannot be a currency"),
        ("currency = \"EUR\", storage = 1, puts = 1", "there is no such key"),
    ] {
        let errors = parse(&with_bucket(&format!("price = {{ {price} }}"), KEY)).expect_err(price);
        assert!(errors.to_string().contains(word), "{price}: {errors}");
    }
}
