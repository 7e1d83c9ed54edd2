//! What a shop says most often, in one line each. Every sentence must be answered with "done".

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use ordergrid_api::client::path_segment;
use serde_json::{Value, json};

use crate::grid::Grid;
use crate::http::{Http, Reply};
use crate::wait::until;

/// Waits until a node is ready, and starts it again as often as it ends by itself, as its supervisor would.
///
/// # Errors
/// If it does not become ready.
pub async fn supervised(grid: &mut Grid, node: usize) -> Result<Shop> {
    until("the node is ready", async || {
        grid.supervise(node)?;
        let Ok(mut shop) = Shop::open(&grid.url(node), "careful").await else { return Ok(None) };
        let ready = shop.http.get("/readyz").await.is_ok_and(|told| told.status == 200);
        Ok(ready.then_some(shop))
    })
    .await
}

/// A shop with a connection of its own.
#[derive(Debug)]
pub struct Shop {
    /// The connection, for everything else that is to be asked.
    pub http: Http,
    user: String,
}

/// Keys of one test process never meet.
static KEYS: AtomicU64 = AtomicU64::new(1);

impl Shop {
    /// A shop whose buyer is `user`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn open(url: &str, user: &str) -> Result<Self> {
        Ok(Self { http: Http::connect(url).await?, user: user.to_owned() })
    }

    /// A key that was not used before.
    #[must_use]
    pub fn key() -> String {
        format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed))
    }

    /// Names a SKU and receives units of it.
    ///
    /// # Errors
    /// If either is refused.
    pub async fn stock(&mut self, sku: &str, quantity: u64) -> Result<()> {
        let path = sku_path(sku);
        let put = self.http.put(&path, &json!({"name": format!("name of {sku}")})).await?;
        anyhow::ensure!(put.status.is_success(), "{}: {}", put.status, put.text());
        if quantity > 0 {
            let body = json!({"quantity": quantity});
            self.http.post(&format!("{path}/receive"), &Self::key(), &body).await?.expect(200)?;
        }
        Ok(())
    }

    /// The body of an order of one line.
    #[must_use]
    pub fn order_of(&self, sku: &str, quantity: u64, unit_price: i64) -> Value {
        let line = json!({"sku": sku, "quantity": quantity, "unit_price": unit_price});
        json!({"user_id": self.user, "currency": "GBP", "lines": [line]})
    }

    /// Places an order of one line.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn place(&mut self, sku: &str, quantity: u64, unit_price: i64) -> Result<Value> {
        let body = self.order_of(sku, quantity, unit_price);
        self.http.post("/v1/orders", &Self::key(), &body).await?.expect(201)
    }

    /// Places so many orders of one unit, one after the other; their ids.
    ///
    /// # Errors
    /// If one is refused.
    pub async fn place_all(&mut self, sku: &str, orders: usize) -> Result<Vec<String>> {
        let mut placed = Vec::new();
        for _ in 0..orders {
            placed.push(id(&self.place(sku, 1, 100).await?)?);
        }
        Ok(placed)
    }

    /// Reads orders that were acknowledged.
    ///
    /// # Errors
    /// If one is not there.
    pub async fn has_all(&mut self, orders: &[String]) -> Result<()> {
        for order in orders {
            self.order(order).await.with_context(|| format!("the acknowledged order {order}"))?;
        }
        Ok(())
    }

    /// Tells of a payment that was captured.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn pay(&mut self, order: &str, payment: &str, amount: i64) -> Result<Reply> {
        self.command(order, "payments", &captured(payment, amount)).await
    }

    /// Asks something of an order under a new key.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn command(&mut self, order: &str, verb: &str, body: &Value) -> Result<Reply> {
        self.http.post(&format!("/v1/orders/{order}/{verb}"), &Self::key(), body).await
    }

    /// Picks everything that is held; the fulfilment's id.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn pick(&mut self, order: &str) -> Result<String> {
        id(&self.command(order, "fulfilments", &json!({})).await?.expect(201)?)
    }

    /// Asks something of a fulfilment under a new key.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn parcel(&mut self, fulfilment: &str, verb: &str) -> Result<Reply> {
        self.http.post(&format!("/v1/fulfilments/{fulfilment}/{verb}"), &Self::key(), &json!({})).await
    }

    /// The order now.
    ///
    /// # Errors
    /// If there is none.
    pub async fn order(&mut self, order: &str) -> Result<Value> {
        self.http.get(&format!("/v1/orders/{order}")).await?.expect(200)
    }

    /// The SKU now.
    ///
    /// # Errors
    /// If there is none.
    pub async fn sku(&mut self, sku: &str) -> Result<Value> {
        self.http.get(&sku_path(sku)).await?.expect(200)
    }
}

/// The path of a SKU.
pub(crate) fn sku_path(sku: &str) -> String {
    format!("/v1/skus/{}", path_segment(sku))
}

/// The body of a captured payment.
#[must_use]
pub fn captured(payment: &str, amount: i64) -> Value {
    json!({"provider_payment_id": payment, "status": "captured", "amount": amount, "currency": "GBP"})
}

/// The id in an answer.
///
/// # Errors
/// If there is none.
pub fn id(answer: &Value) -> Result<String> {
    answer["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {answer}"))
}
