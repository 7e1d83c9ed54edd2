//! Which orders a user has: the newest in one row, older ones in sealed chunks, so that placing touches one row.

use super::ShardMachine;
use crate::ids::{OrderId, UserId};
use crate::rows::keys;
use crate::rows::kinds::UserRow;
use crate::rows::table::Value;

impl ShardMachine {
    pub(super) fn index_for_user(&mut self, user: &UserId, order: OrderId) {
        let key = keys::user(user);
        let Some(bytes) = self.rows.bytes(&key) else {
            self.rows.put(key, Value::Bytes(UserRow::first(0, order)));
            return;
        };
        let head = UserRow::read(bytes).expect("a stored user row reads");
        if head.is_full() {
            // The number of a new chunk has never been used: no look at the store is needed.
            let (sealed, chunk) = (head.sealed, head.chunk());
            self.rows.put(keys::chunk(user, sealed), Value::Bytes(chunk));
            self.rows.put(key, Value::Bytes(UserRow::first(sealed + 1, order)));
        } else {
            let head = head.with(order);
            self.rows.put(key, Value::Bytes(head));
        }
    }
}
