//! Pages of a user's orders. The list of a user's orders consists of rows in the store, and of newer ones in memory.

use bytes::Bytes;
use ordergrid_api::grid::{UserOrders, UserOrdersQuery};
use ordergrid_cluster::StoreError;
use ordergrid_domain::machine::Run;
use ordergrid_domain::rows::{list_of, listed_at};
use ordergrid_domain::{OrderId, UserId};

use crate::front::listed;
use crate::shard::ShardReplica;

/// Most orders of a user that are counted. Above this the total is unknown.
const COUNTED: usize = 10_000;
/// Orders read together when a status filter is applied.
const AT_ONCE: usize = 256;

/// Bytes of orders in memory at which a page is cut off. The caller continues after its last order.
const RUN_BYTES: u64 = 256 << 10;

/// Reads the page, or its first run if the orders are large.
///
/// # Errors
/// The store failed, and the node stops.
pub(crate) async fn page(replica: &ShardReplica, query: &UserOrdersQuery) -> Result<UserOrders, StoreError> {
    run(replica, query, RUN_BYTES).await
}

/// Like [`page`], with at most about `bytes`, but at least one order.
async fn run(replica: &ShardReplica, query: &UserOrdersQuery, bytes: u64) -> Result<UserOrders, StoreError> {
    let skip = query.page.saturating_sub(1) as usize * query.size as usize;
    if query.status.is_some() {
        filtered(replica, query, skip, bytes).await
    } else {
        whole(replica, query, skip, COUNTED, bytes).await
    }
}

/// Orders with any status, counted up to `counted`.
async fn whole(
    replica: &ShardReplica,
    query: &UserOrdersQuery,
    skip: usize,
    counted: usize,
    bytes: u64,
) -> Result<UserOrders, StoreError> {
    let size = query.size as usize;
    let all = ids(replica, &query.user, None, counted + 1).await?;
    let total = (all.len() <= counted).then_some(all.len() as u64);
    let wanted = skip.saturating_add(size).saturating_add(1);
    let from = query.cursor.map_or(0, |cursor| all.partition_point(|id| *id >= cursor));
    let ids = if total.is_some() || from + wanted <= all.len() {
        all[from..].iter().copied().take(wanted).collect()
    } else {
        ids(replica, &query.user, query.cursor, wanted).await?
    };
    let ids = ids.get(skip..).unwrap_or_default();
    let (ids, more) = if ids.len() > size { (&ids[..size], true) } else { (ids, false) };
    let Run { orders, looked } = replica.look(|machine| machine.orders_within(ids, bytes)).await?.unwrap_or_default();
    let more = more || looked < ids.len();
    Ok(UserOrders { orders, next: ids[..looked].last().copied().filter(|_| more), total })
}

/// Orders with a status: reads one order after another until the page is full.
async fn filtered(
    replica: &ShardReplica,
    query: &UserOrdersQuery,
    mut skip: usize,
    bytes: u64,
) -> Result<UserOrders, StoreError> {
    let size = query.size as usize;
    let (mut page, mut cursor, mut taken) = (UserOrders::default(), query.cursor, 0);
    loop {
        let ids = ids(replica, &query.user, cursor, AT_ONCE).await?;
        let mut left = ids.as_slice();
        while !left.is_empty() {
            let run = replica.look(|machine| machine.orders_within(left, bytes)).await?.unwrap_or_default();
            left = &left[run.looked..];
            for order in run.orders.into_iter().filter(|order| Some(order.status()) == query.status) {
                if skip > 0 {
                    skip -= 1;
                } else if page.orders.len() < size && taken < bytes {
                    taken += order.bytes_in_memory();
                    page.orders.push(order);
                } else {
                    page.next = page.orders.last().map(|order| order.id);
                    return Ok(page);
                }
            }
        }
        if ids.len() < AT_ONCE {
            return Ok(page);
        }
        cursor = ids.last().copied();
    }
}

/// Ids of a user's orders, newest first: at most `most` of those before `before`.
async fn ids(replica: &ShardReplica, user: &UserId, before: Option<OrderId>, most: usize) -> Result<Vec<OrderId>, StoreError> {
    let is_before = |id: &OrderId| before.is_none_or(|before| *id < before);
    let unlisted = replica.machine().unlisted(user).filter(is_before).take(most).collect();
    let start = Bytes::copy_from_slice(list_of(user).as_bytes());
    let after = before.map(|before| Bytes::copy_from_slice(listed_at(user, before).as_bytes()));
    listed::ids(replica, unlisted, start, after, most).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ordergrid_cluster::{EntryId, Machine, Packed};
    use ordergrid_domain::command::{Command, OrderAction};
    use ordergrid_domain::command::{OrderCommand, OrderRequest, Place, SkuAction, SkuCommand};
    use ordergrid_domain::order::{CancelReason, LineRequest, Operator, Status, Terms};
    use ordergrid_domain::{
        AttemptId, Currency, Entry, GroupId, Key, Money, Quantity, ShardConfig, SkuId, Slot, SlotOwners, Text, Timestamp,
    };
    use ordergrid_storage::MemEngine;

    use super::*;
    use crate::adapters::state_store;
    use crate::recovery::wholeness::Wholeness;
    use crate::room::{RowBudget, RowRoom};

    /// A shard of one user, whose orders are partly in memory and partly in the store.
    struct Shop {
        replica: ShardReplica,
        user: UserId,
        sku: SkuId,
        index: u64,
    }

    impl Shop {
        async fn open() -> Self {
            let store = state_store(Arc::new(MemEngine::new()), 1, &Arc::new(Wholeness::new(GroupId(1)))).await;
            let store = store.expect("an empty store opens");
            let slot = |number| Slot::new(number).expect("below 4,096");
            let owners = SlotOwners::from_ranges(&[(GroupId(1), slot(0), slot(4_095))]);
            // So little memory that everything that may leave it does.
            let replica =
                ShardReplica::new(ShardConfig::new(GroupId(1), owners), store, RowBudget::new(0, &RowRoom::default()));
            replica.reload().await.expect("nothing is there");
            let (user, sku) = (UserId::new("ann").unwrap(), SkuId::new("tea").unwrap());
            let mut shop = Self { replica, user, sku: sku.clone(), index: 0 };
            let stock = |key: &str, action| {
                let key = Some(Key::new(key).unwrap());
                Command::Sku(Box::new(SkuCommand { sku: sku.clone(), key, body_hash: 1, expect_version: None, action }))
            };
            let put = stock("put", SkuAction::Put { name: Text::new("tea").unwrap() });
            let receive = SkuAction::Receive { warehouse: Default::default(), quantity: Quantity(1_000) };
            shop.apply(vec![put, stock("receive", receive)]).await;
            shop
        }

        async fn apply(&mut self, commands: Vec<Command>) {
            self.index += 1;
            let entry = Entry { at: Timestamp::from_ms(1_790_000_000_000 + self.index), commands };
            let packed = Arc::new(Packed::from_bytes(entry.to_bytes().into()));
            self.replica.apply(EntryId { term: 1, index: self.index }, &packed).await.expect("the entry is applied");
        }

        /// Places orders of the user, and one of somebody whose name begins like the user's.
        async fn place(&mut self, count: u64) {
            let request = |user: &UserId, key: u64| OrderRequest {
                user: user.clone(),
                key: Key::new(format!("key-{key}")).unwrap(),
                body_hash: 1,
                reference: None,
                currency: Currency::new("GBP").unwrap(),
                lines: vec![LineRequest {
                    sku: self.sku.clone(),
                    quantity: Quantity(1),
                    unit_price: Money(100),
                    discount: Money::ZERO,
                    tax: Money::ZERO,
                }],
                discount: Money::ZERO,
                shipping_fee: Money::ZERO,
                total: None,
                terms: Terms::Prepaid,
                payment_method: None,
                payment_window: Duration::from_secs(900),
                ship_to: None,
                metadata: Vec::new(),
            };
            let other = UserId::new("anna").unwrap();
            let buyers = (0..count).map(|_| &self.user).chain([&other]);
            let commands = buyers.zip(0..).map(|(user, n)| {
                let counter = self.index * 1_000 + n;
                let attempt = AttemptId { slot: user.slot(), group: GroupId(1), term: 1, counter };
                let place = Place { attempt, request: request(user, counter).into(), names: Vec::new() };
                Command::PlaceLocal(Box::new(place))
            });
            let commands = commands.collect();
            self.apply(commands).await;
        }

        async fn cancel(&mut self, order: OrderId) {
            let action = OrderAction::Cancel { reason: CancelReason::User, note: None, lines: Vec::new() };
            let (key, operator) = (Key::new("cancel").unwrap(), Operator::User);
            let command = OrderCommand { order, key, body_hash: 1, expect_version: None, operator, action };
            self.apply(vec![Command::Order(Box::new(command))]).await;
        }

        async fn checkpoint(&self) {
            let mut rows = self.replica.freeze();
            while !self.replica.freeze_more(&mut rows) {}
            self.replica.store().checkpoint(Bytes::from_static(b"meta"), rows).await.expect("the store works");
            self.replica.frozen_durable();
            while !self.replica.tidy() {}
        }

        fn query(&self, size: u32) -> UserOrdersQuery {
            UserOrdersQuery { user: self.user.clone(), status: None, page: 1, size, cursor: None }
        }

        /// A whole page, run after run, as HTTP makes it of them.
        async fn page(&self, query: &UserOrdersQuery) -> UserOrders {
            let mut whole = page(&self.replica, query).await.expect("the store works");
            while let Some(next) = whole.next.filter(|_| whole.orders.len() < query.size as usize) {
                let size = query.size - u32::try_from(whole.orders.len()).unwrap();
                let rest = UserOrdersQuery { page: 1, size, cursor: Some(next), ..query.clone() };
                let run = page(&self.replica, &rest).await.expect("the store works");
                whole.orders.extend(run.orders);
                whole.next = run.next;
            }
            whole
        }

        /// All pages, by cursor.
        async fn walk(&self, mut query: UserOrdersQuery) -> Vec<OrderId> {
            let mut seen = Vec::new();
            loop {
                let page = self.page(&query).await;
                assert!(page.orders.len() <= query.size as usize);
                seen.extend(page.orders.iter().map(|order| order.id));
                let Some(next) = page.next else { return seen };
                assert_eq!(page.orders.last().map(|order| order.id), Some(next));
                query.cursor = Some(next);
            }
        }
    }

    #[tokio::test]
    async fn pages_are_newest_first_and_complete_wherever_the_orders_are() {
        let mut shop = Shop::open().await;
        assert_eq!(shop.page(&shop.query(5)).await, UserOrders { total: Some(0), ..UserOrders::default() });
        shop.place(150).await;
        shop.checkpoint().await;
        shop.place(130).await;
        shop.checkpoint().await;
        shop.place(20).await;
        let all = shop.walk(shop.query(300)).await;
        assert!(all.len() == 300 && all.is_sorted_by(|one, next| one > next));
        let cancelled: Vec<OrderId> = all.iter().copied().step_by(3).collect();
        for id in &cancelled {
            shop.cancel(*id).await;
        }
        for size in [1, 7, 100, 299, 300, 301] {
            assert_eq!(shop.walk(shop.query(size)).await, all, "pages of {size}");
            let query = UserOrdersQuery { status: Some(Status::Cancelled), ..shop.query(size) };
            assert_eq!(shop.walk(query).await, cancelled, "pages of {size}, cancelled");
        }
        let third = UserOrdersQuery { page: 3, ..shop.query(20) };
        let page = shop.page(&third).await;
        assert_eq!(page.orders.iter().map(|order| order.id).collect::<Vec<_>>(), all[40..60]);
        assert_eq!((page.total, page.next), (Some(300), Some(all[59])));
        let page = shop.page(&UserOrdersQuery { status: Some(Status::Cancelled), ..third }).await;
        assert_eq!(page.orders.iter().map(|order| order.id).collect::<Vec<_>>(), cancelled[40..60]);
        assert_eq!(page.total, None, "counting them would mean reading them");
    }

    #[tokio::test]
    async fn a_page_of_large_orders_comes_in_runs_that_are_complete_together() {
        let mut shop = Shop::open().await;
        shop.place(30).await;
        shop.checkpoint().await;
        shop.place(10).await;
        let all = shop.walk(shop.query(300)).await;
        let one = shop.page(&shop.query(1)).await.orders[0].bytes_in_memory();
        for (bytes, orders) in [(1, 1), (one, 1), (one + 1, 2), (5 * one, 5)] {
            for status in [None, Some(Status::PendingPayment)] {
                let (mut seen, mut query) = (Vec::new(), UserOrdersQuery { status, ..shop.query(100) });
                loop {
                    let run = run(&shop.replica, &query, bytes).await.expect("the store works");
                    assert!(run.orders.len() <= orders && (run.next.is_none() || !run.orders.is_empty()), "{bytes}");
                    seen.extend(run.orders.iter().map(|order| order.id));
                    let Some(next) = run.next else { break };
                    assert_eq!(seen.last(), Some(&next), "it goes on behind the last order");
                    query.cursor = Some(next);
                }
                assert_eq!(seen, all, "runs of {bytes} bytes, {status:?}");
            }
        }
    }

    #[tokio::test]
    async fn more_orders_than_are_counted_have_all_their_pages_and_no_total() {
        let mut shop = Shop::open().await;
        shop.place(60).await;
        shop.checkpoint().await;
        shop.place(10).await;
        let all = shop.walk(shop.query(100)).await;
        for (counted, total) in [(69, None), (70, Some(70)), (5, None)] {
            let mut query = shop.query(20);
            for pages in all.chunks(20) {
                let page = whole(&shop.replica, &query, 0, counted, u64::MAX).await.expect("the store works");
                assert_eq!(page.orders.iter().map(|order| order.id).collect::<Vec<_>>(), pages);
                assert_eq!(page.total, total);
                query.cursor = page.next;
            }
            assert_eq!(query.cursor, None, "that was the last page");
            let deep = whole(&shop.replica, &shop.query(20), 60, counted, u64::MAX).await.expect("the store works");
            assert_eq!(deep.orders.iter().map(|order| order.id).collect::<Vec<_>>(), all[60..]);
        }
    }
}
