//! `price` of a vault: what its provider takes, as its price list has it. Owns the units; what comes of it is for `cost` to say.

use toml::de::DeValue;

use super::problem::{FromText, ProblemKind, Refusal, excerpt};
use super::table::Table;
use super::value::Value;

/// Above that nothing is a price.
const PRICE_MAX: f64 = 1_000_000.0;

/// Billionths in one unit of a currency.
pub const BILLION: u64 = 1_000_000_000;

/// An amount of money, in billionths of the unit of a currency: prices of single requests are that small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(pub u64);

/// What a provider takes. What is not in its list costs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    /// The word for the unit, such as EUR.
    pub currency: String,
    /// For a gigabyte (10⁹ bytes) that is stored for a month.
    pub storage: Price,
    /// For a thousand puts.
    pub put: Price,
    /// For a thousand gets, also of stretches.
    pub get: Price,
    /// For a thousand listings, each of at most 1000 objects.
    pub list: Price,
    /// For a thousand requests to delete.
    pub delete: Price,
    /// For a gigabyte that is read.
    pub egress: Price,
}

pub(super) fn read_price(value: &Value<'_>) -> Option<PriceTable> {
    Table::read(value, |table| {
        let currency =
            table.require("currency", "currency = \"EUR\"").and_then(|value| value.parse::<Currency>());
        let storage = table.require("storage", "storage = 0.006").and_then(|value| read_amount(&value));
        let [put, get, list, delete, egress] = ["put", "get", "list", "delete", "egress"]
            .map(|key| table.get(key).and_then(|value| read_amount(&value)).unwrap_or_default());
        let (currency, storage) = (currency?.0, storage?);
        Some(PriceTable { currency, storage, put, get, list, delete, egress })
    })?
}

fn read_amount(value: &Value<'_>) -> Option<Price> {
    let text = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => {
            value.problem(ProblemKind::WrongType, || {
                Refusal::new("it is no price", "write a number, such as 0.005")
            });
            return None;
        }
    };
    let amount = text.parse::<f64>().ok().filter(|amount| (0.0..=PRICE_MAX).contains(amount));
    if amount.is_none() {
        value.problem(ProblemKind::BadValue, || {
            Refusal::new(
                format!("{} is no price", excerpt(text)),
                format!("write a number from 0 to {PRICE_MAX}"),
            )
        });
    }
    Some(Price((amount? * BILLION as f64).round() as u64))
}

struct Currency(String);

impl FromText for Currency {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let fits = (1..=8).contains(&text.chars().count())
            && text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            Refusal::new(
                format!("{:?} cannot be a currency", excerpt(text)),
                "write its short name, such as EUR",
            )
        })
    }
}
