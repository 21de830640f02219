//! The part of `vault stat` that says what a month of a vault in a bucket has: what is stored, what is asked, and what that costs.

use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, Price, PriceTable, VaultKind};
use backstay_core::cost::{MonthlyCost, Usage};
use backstay_core::units::{ByteSize, format_duration};
use serde::Serialize;

use crate::clock::SystemClock;
use crate::node::{ObservedVault, day_of};

/// Days by which a month is told.
const DAYS: i64 = 31;

/// A month of a vault in a bucket.
#[derive(Debug, Serialize)]
pub(super) struct ShownMonth {
    /// What packs take now.
    stored_bytes: u64,
    /// For how long daemons of this node have counted requests, in the last 31 days.
    observed_seconds: u64,
    /// What a month has, if it goes on like that; absent where nothing was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<ShownRequests>,
    /// Absent without a price list. Without requests that of what is stored alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<ShownCost>,
}

#[derive(Debug, Serialize)]
struct ShownRequests {
    puts: u64,
    gets: u64,
    lists: u64,
    deletes: u64,
    bytes_read: u64,
    bytes_written: u64,
}

#[derive(Debug, Serialize)]
struct ShownCost {
    currency: String,
    storage: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<f64>,
    total: f64,
}

impl ShownMonth {
    /// Of this vault, which stores so much; nothing where it is in no bucket.
    pub(super) fn of(config: &Config, vault: &str, stored: ByteSize) -> Option<Self> {
        let VaultKind::S3(s3) = &config.vaults.get(vault)?.kind else { return None };
        let today = day_of(SystemClock.now());
        let (observed, usage) =
            ObservedVault::of(&config.node.state, vault).load().sum(today - DAYS + 1, today);
        Some(Self::by(s3.price.as_ref(), stored, observed, usage))
    }

    fn by(prices: Option<&PriceTable>, stored: ByteSize, observed: Duration, usage: Usage) -> Self {
        let month = usage.of_a_month(observed);
        let cost = prices.map(|prices| {
            let cost = MonthlyCost::of(prices, stored, month.unwrap_or_default());
            let known = |price: Price| month.map(|_| price.as_f64());
            ShownCost {
                currency: prices.currency.clone(),
                storage: cost.storage.as_f64(),
                requests: known(cost.requests),
                egress: known(cost.egress),
                total: cost.total().as_f64(),
            }
        });
        let requests = month.map(|month| {
            let Usage { puts, gets, lists, deletes, bytes_read, bytes_written } = month;
            ShownRequests { puts, gets, lists, deletes, bytes_read, bytes_written }
        });
        Self { stored_bytes: stored.as_u64(), observed_seconds: observed.as_secs(), requests, cost }
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.requests {
            None => "a month: no daemon of this node has counted requests yet (it notes them down every 10 minutes), so that these are not known".to_owned(),
            Some(requests) => format!(
                "a month, by what daemons of this node have asked in {}: {} puts, {} gets, {} listings, {} deletes, {} read, {} written",
                format_duration(Duration::from_secs(self.observed_seconds)),
                requests.puts,
                requests.gets,
                requests.lists,
                requests.deletes,
                ByteSize(requests.bytes_read),
                ByteSize(requests.bytes_written)
            ),
        }];
        if let Some(cost) = &self.cost {
            let currency = &cost.currency;
            let storage = money(cost.storage);
            lines.push(match (cost.requests, cost.egress) {
                (Some(requests), Some(egress)) => format!(
                    "it costs about {} {currency} by the price list: {storage} for what packs take now, {} for requests, {} for what is read",
                    money(cost.total),
                    money(requests),
                    money(egress)
                ),
                _ => format!("what packs take now costs about {storage} {currency} by the price list"),
            });
        }
        lines
    }
}

/// Cents, and of less than one unit hundredths of them.
fn money(amount: f64) -> String {
    if amount < 1.0 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

#[cfg(test)]
mod tests {
    use backstay_core::config::BILLION;

    use super::*;

    fn prices() -> PriceTable {
        PriceTable {
            currency: "EUR".to_owned(),
            storage: Price(6_000_000),
            put: Price(5_000_000),
            get: Price(400_000),
            list: Price(5_000_000),
            delete: Price(0),
            egress: Price(BILLION / 100),
        }
    }

    #[test]
    fn a_month_is_told_with_the_time_that_was_seen_and_its_price() {
        let day = Duration::from_secs(86_400);
        let usage = Usage { puts: 7 * 96, lists: 2 * 96, gets: 96, ..Usage::default() };
        let month = ShownMonth::by(Some(&prices()), ByteSize(500_000_000_000), day, usage);
        let lines = month.lines();
        assert!(lines[0].contains("have asked in 1d: 20454 puts, 2922 gets, 5844 listings"), "{lines:?}");
        assert!(lines[1].contains("about 3.13 EUR"), "{lines:?}");
        assert!(lines[1].contains("3.00 for what packs take now, 0.1327 for requests, 0.0000"), "{lines:?}");
    }

    #[test]
    fn what_was_not_seen_is_not_made_up_and_without_a_price_list_there_is_no_price() {
        let none =
            ShownMonth::by(Some(&prices()), ByteSize(10_000_000_000), Duration::ZERO, Usage::default());
        let lines = none.lines();
        assert!(lines[0].contains("no daemon of this node has counted"), "{lines:?}");
        assert_eq!(lines[1], "what packs take now costs about 0.0600 EUR by the price list");
        let shown = serde_json::to_value(&none).expect("JSON");
        assert!(shown.get("requests").is_none() && shown["cost"].get("requests").is_none(), "{shown}");
        let unpriced = ShownMonth::by(None, ByteSize(1), Duration::from_secs(60), Usage::default());
        assert_eq!((unpriced.lines().len(), unpriced.cost.is_none()), (1, true));
    }
}
