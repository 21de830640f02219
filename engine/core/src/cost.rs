//! What a vault in a bucket costs in a month, by what was seen of it for a while and by the price list of its provider. Pure.

use std::time::Duration;

use crate::config::{BILLION, Price, PriceTable};
use crate::units::ByteSize;

/// A twelfth of a year, seconds.
pub const MONTH: Duration = Duration::from_secs(2_629_800);

/// Requests are paid by the thousand.
const REQUESTS_OF_PRICE: u128 = 1000;

/// Bytes in a gigabyte as providers count it.
const GIGABYTE: u128 = 1_000_000_000;

/// What was asked of a vault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests to put, also of parts.
    pub puts: u64,
    /// Requests to get, also of stretches.
    pub gets: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Requests to delete.
    pub deletes: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

impl Usage {
    /// Both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            puts: self.puts.saturating_add(other.puts),
            gets: self.gets.saturating_add(other.gets),
            lists: self.lists.saturating_add(other.lists),
            deletes: self.deletes.saturating_add(other.deletes),
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            bytes_written: self.bytes_written.saturating_add(other.bytes_written),
        }
    }

    /// What of this came after that.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            puts: self.puts.saturating_sub(before.puts),
            gets: self.gets.saturating_sub(before.gets),
            lists: self.lists.saturating_sub(before.lists),
            deletes: self.deletes.saturating_sub(before.deletes),
            bytes_read: self.bytes_read.saturating_sub(before.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(before.bytes_written),
        }
    }

    /// What a month has, where this was seen in so long; nothing where it was no time.
    pub fn of_a_month(self, observed: Duration) -> Option<Self> {
        let seconds = u128::from(observed.as_secs());
        if seconds == 0 {
            return None;
        }
        let scaled = |count: u64| {
            let month = (u128::from(count) * u128::from(MONTH.as_secs())).div_ceil(seconds);
            u64::try_from(month).unwrap_or(u64::MAX)
        };
        Some(Self {
            puts: scaled(self.puts),
            gets: scaled(self.gets),
            lists: scaled(self.lists),
            deletes: scaled(self.deletes),
            bytes_read: scaled(self.bytes_read),
            bytes_written: scaled(self.bytes_written),
        })
    }
}

/// What a month costs, in billionths of the unit of a currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MonthlyCost {
    /// For what is stored, as if it were all month.
    pub storage: Price,
    /// For requests.
    pub requests: Price,
    /// For what is read.
    pub egress: Price,
}

impl MonthlyCost {
    /// For what is stored, and what a month has of the rest.
    pub fn of(prices: &PriceTable, stored: ByteSize, month: Usage) -> Self {
        let requests = [
            (month.puts, prices.put),
            (month.gets, prices.get),
            (month.lists, prices.list),
            (month.deletes, prices.delete),
        ];
        let requests = requests.map(|(count, price)| share(count, price, REQUESTS_OF_PRICE));
        Self {
            storage: share(stored.as_u64(), prices.storage, GIGABYTE),
            requests: Price(requests.iter().fold(0, |sum, price| sum.saturating_add(price.0))),
            egress: share(month.bytes_read, prices.egress, GIGABYTE),
        }
    }

    /// All of it.
    pub fn total(&self) -> Price {
        Price(self.storage.0.saturating_add(self.requests.0).saturating_add(self.egress.0))
    }
}

/// The price of so many, of which `of` cost `price`; rounded up.
fn share(count: u64, price: Price, of: u128) -> Price {
    let all = (u128::from(count) * u128::from(price.0)).div_ceil(of);
    Price(u64::try_from(all).unwrap_or(u64::MAX))
}

impl Price {
    /// In units of the currency.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / BILLION as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> PriceTable {
        let price = |thousandths: u64| Price(thousandths * 1_000_000);
        PriceTable {
            currency: "EUR".to_owned(),
            storage: price(6),
            put: price(5),
            get: Price(400_000),
            list: price(5),
            delete: Price(0),
            egress: price(10),
        }
    }

    #[test]
    fn a_month_is_what_was_seen_for_as_long_as_a_month_is() {
        let seen = Usage { puts: 7, gets: 1, lists: 2, deletes: 0, bytes_read: 10, bytes_written: 20 };
        let day = Duration::from_secs(86_400);
        let month = seen.of_a_month(day).expect("a day was seen");
        assert_eq!((month.puts, month.lists, month.bytes_written), (214, 61, 609));
        assert_eq!(seen.of_a_month(MONTH), Some(seen));
        assert_eq!(seen.of_a_month(Duration::ZERO), None);
        let all = Usage { puts: u64::MAX, ..seen };
        assert_eq!(all.of_a_month(Duration::from_secs(1)).map(|month| month.puts), Some(u64::MAX));
    }

    #[test]
    fn storage_is_paid_by_the_gigabyte_and_requests_by_the_thousand() {
        let month = Usage {
            puts: 20_000,
            gets: 5_000,
            lists: 1_000,
            deletes: 9,
            bytes_read: 2_500_000_000,
            bytes_written: 0,
        };
        let cost = MonthlyCost::of(&prices(), ByteSize(1_000_000_000_000), month);
        assert_eq!(cost.storage.as_f64(), 6.0);
        assert_eq!(cost.requests.as_f64(), 0.107);
        assert_eq!(cost.egress.as_f64(), 0.025);
        assert_eq!(cost.total().as_f64(), 6.132);
        let all = MonthlyCost::of(&prices(), ByteSize(u64::MAX), Usage { puts: u64::MAX, ..month });
        assert!(all.total() >= all.storage, "nothing overflows");
    }

    #[test]
    fn what_was_seen_can_be_added_up_and_taken_apart() {
        let one = Usage { puts: 1, gets: 2, lists: 3, deletes: 4, bytes_read: 5, bytes_written: 6 };
        assert_eq!(one.plus(one).since(one), one);
        assert_eq!(Usage::default().since(one), Usage::default());
    }
}
