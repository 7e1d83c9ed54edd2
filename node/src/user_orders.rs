//! A page of a user's orders, as HTTP asks for it.

use ordergrid_api::grid::{UserOrders, UserOrdersQuery};
use ordergrid_cluster::StoreError;
use ordergrid_domain::machine::UserQuery;

use crate::shard::ShardReplica;

/// Reads the page. A filter by status looks at a bounded number of orders at a time, so a page is filled in several
/// looks.
///
/// # Errors
/// The store failed: the node stops.
pub(crate) async fn page(replica: &ShardReplica, query: &UserOrdersQuery) -> Result<UserOrders, StoreError> {
    let size = query.size as usize;
    let mut wanted = UserQuery {
        status: query.status,
        after: query.cursor,
        skip: query.page.saturating_sub(1) as usize * size,
        limit: size,
    };
    let mut page = UserOrders::default();
    loop {
        let look = replica.look(|machine| machine.user_orders(&query.user, &wanted)).await?;
        let Some(found) = look else { return Ok(page) };
        page.total = page.total.or(found.total);
        page.orders.extend(found.orders);
        page.next = found.next;
        let full = page.orders.len() >= size;
        let Some(next) = found.next else { return Ok(page) };
        if full {
            return Ok(page);
        }
        wanted = UserQuery { after: Some(next), skip: 0, limit: size - page.orders.len(), ..wanted };
    }
}
