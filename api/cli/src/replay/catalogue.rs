//! The SKUs of a replay: their stock is received before the orders, and checked after them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use hyper::StatusCode;
use ordergrid_api::client::{CallError, Client};
use ordergrid_api::wire::{self, PutSku, ReceiveStock, Unbuilt};
use ordergrid_domain::{Key, SkuId, Text};
use tokio::time::{Instant, sleep};

use super::options::ReplayOptions;
use super::sales::Sales;
use super::summary::StockCheck;
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::units;

/// The key under which every SKU receives its stock. It says nothing of the amount: a second replay with another amount
/// meets the first one's key and is refused by the grid, even if both start at the same moment.
const RECEIVE_KEY: &str = "replay-stock";
/// Violations that are shown; one reason usually breaks many SKUs.
const SHOWN: usize = 100;
/// Between two looks at stock that does not add up yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The SKUs of a replay and who to ask about them.
pub(super) struct Catalogue<'a> {
    pub(super) client: &'a Client,
    pub(super) sales: &'a Sales,
    pub(super) options: &'a ReplayOptions,
}

/// What a replay finds of a SKU before it starts.
struct Found<'a> {
    sku: &'a SkuId,
    expected: u64,
    /// Units ever received; `None`: the grid does not know the SKU.
    received: Option<u64>,
}

impl Catalogue<'_> {
    /// Sees to it that every SKU has received exactly what this replay wants; the units received in all.
    ///
    /// # Errors
    /// [`Exit::Unsafe`] if some SKU has received anything else: then this replay has changed nothing.
    pub(super) async fn prepare(&self) -> Result<u64, VerbFailure> {
        let units: Vec<_> = self.sales.units.iter().collect();
        let mut found = Vec::with_capacity(units.len());
        let mut looks = stream::iter(units.into_iter().map(|(sku, units)| self.look(sku, self.options.stock.of(*units))))
            .buffer_unordered(self.options.concurrency);
        while let Some(one) = looks.next().await {
            found.push(one?);
        }
        drop(looks);
        found.sort_by_key(|one: &Found<'_>| one.sku);
        refuse_other_stock(&found, self.options)?;
        let lacking = found.iter().filter(|one| one.received.is_none() || one.received != Some(one.expected));
        let mut receipts = stream::iter(lacking.map(|one| self.receive(one))).buffer_unordered(self.options.concurrency);
        while let Some(done) = receipts.next().await {
            done?;
        }
        Ok(found.iter().map(|one| one.expected).sum())
    }

    async fn look<'a>(&self, sku: &'a SkuId, expected: u64) -> Result<Found<'a>, VerbFailure> {
        let received = match self.client.sku(sku).await {
            Ok(answer) => Some(answer.value.stock.received),
            Err(CallError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND.as_u16() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Found { sku, expected, received })
    }

    async fn receive(&self, found: &Found<'_>) -> Result<(), VerbFailure> {
        if found.received.is_none() {
            let code = || Text::new(found.sku.as_str()).expect("an id is a text");
            let name = self.sales.names.get(found.sku).cloned().unwrap_or_else(code);
            let row =
                PutSku { name, backorder_limit: Unbuilt::Unset, purchase_limit: Unbuilt::Unset, safety_stock: Unbuilt::Unset };
            self.client.put_sku(found.sku, &row).await?;
        }
        if found.expected == 0 {
            return Ok(());
        }
        let key = Key::new(RECEIVE_KEY).expect("the key is short");
        match self.client.receive(found.sku, &ReceiveStock { quantity: found.expected, warehouse: None }, &key).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == "idempotency_key_reused" => {
                Err(other_stock(&format!("{}: another replay received another amount just now", found.sku.as_str())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Compares the stock of every SKU with what was sold. Shards hear of shipments a moment later, so stock that does not
    /// add up is looked at again for a while.
    ///
    /// # Errors
    /// When the grid no longer answers.
    pub(super) async fn check(&self, sold: &BTreeMap<SkuId, u64>) -> Result<StockCheck, VerbFailure> {
        let gives_up_at = Instant::now() + self.options.patience;
        let mut wrong: Vec<(&SkuId, String)> = self.sales.units.keys().map(|sku| (sku, String::new())).collect();
        loop {
            let mut looks = stream::iter(wrong.iter().map(|(sku, _)| self.judge(sku, sold.get(*sku).copied().unwrap_or(0))))
                .buffer_unordered(self.options.concurrency);
            let mut still_wrong = Vec::new();
            while let Some(judged) = looks.next().await {
                still_wrong.extend(judged?);
            }
            drop(looks);
            wrong = still_wrong;
            if wrong.is_empty() || Instant::now() >= gives_up_at {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        wrong.sort();
        let violations = wrong.iter().take(SHOWN).map(|(sku, what)| format!("sku {}: {what}", sku.as_str())).collect();
        Ok(StockCheck { ok: wrong.is_empty(), skus: self.sales.units.len() as u64, wrong: wrong.len() as u64, violations })
    }

    async fn judge<'a>(&self, sku: &'a SkuId, sold: u64) -> Result<Option<(&'a SkuId, String)>, VerbFailure> {
        let stock = self.client.sku(sku).await?.value.stock;
        let nothing_left = self.options.stock == super::Stock::Full;
        Ok(fault(&stock, sold, nothing_left).map(|what| (sku, what)))
    }
}

/// What is wrong with the stock of a SKU of which the delivered orders hold `sold` units.
fn fault(stock: &wire::Stock, sold: u64, nothing_left: bool) -> Option<String> {
    let came = i128::from(stock.received) + i128::from(stock.restocked) + i128::from(stock.adjusted);
    if stock.sold != sold {
        return Some(format!("sold {}, the delivered orders have {sold}", stock.sold));
    }
    if (stock.reserved, stock.committed) != (0, 0) {
        return Some(format!("reserved {}, committed {} for no order", stock.reserved, stock.committed));
    }
    if i128::from(stock.on_hand) != came - i128::from(stock.sold) {
        return Some(format!("on hand {}, came {came}, sold {}", stock.on_hand, stock.sold));
    }
    (nothing_left && stock.available != 0).then(|| format!("{} still available, all should be sold", stock.available))
}

fn refuse_other_stock(found: &[Found<'_>], options: &ReplayOptions) -> Result<(), VerbFailure> {
    let different: Vec<_> =
        found.iter().filter(|one| one.received.is_some_and(|received| received != 0 && received != one.expected)).collect();
    let Some(first) = different.iter().max_by_key(|one| one.expected) else { return Ok(()) };
    Err(other_stock(&format!(
        "{} of {} SKUs; {} has received {}, --stock {} of this file is {}",
        units::count(different.len() as u64),
        units::count(found.len() as u64),
        first.sku.as_str(),
        units::count(first.received.unwrap_or_default()),
        options.stock,
        units::count(first.expected),
    )))
}

fn other_stock(what: &str) -> VerbFailure {
    VerbFailure::new(Exit::Unsafe, "stock_received_differently", format!("the grid's stock was received differently: {what}"))
        .with_hint("use the --stock and the files of the first replay, or an empty grid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_adds_up_or_says_what_does_not() {
        let good = wire::Stock { received: 10, sold: 10, ..wire::Stock::default() };
        let left = wire::Stock { received: 12, sold: 10, on_hand: 2, available: 2, ..wire::Stock::default() };
        let held = wire::Stock { reserved: 1, available: 1, ..left };
        let lost = wire::Stock { on_hand: 1, available: 1, ..left };
        for (stock, sold, nothing_left, said) in [
            (good, 10, true, None),
            (left, 10, false, None),
            (left, 10, true, Some("2 still available, all should be sold")),
            (left, 9, false, Some("sold 10, the delivered orders have 9")),
            (held, 10, false, Some("reserved 1, committed 0 for no order")),
            (lost, 10, false, Some("on hand 1, came 12, sold 10")),
        ] {
            assert_eq!(fault(&stock, sold, nothing_left).as_deref(), said, "{stock:?}");
        }
    }
}
