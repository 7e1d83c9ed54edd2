//! Stock for a bench: enough that nothing sells out, or, for a flash sale, what is on sale.

use futures::{StreamExt, stream};
use ordergrid_api::client::{CallError, Client};
use ordergrid_api::wire::{PutSku, ReceiveStock, Unbuilt};
use ordergrid_domain::{Key, SkuId, Text};

use super::options::{BenchOptions, Workload};
use super::workload;
use crate::failure::VerbFailure;

/// Units below which a SKU is stocked up.
const ENOUGH: u64 = 500_000_000;
/// Units that it then receives: as many as one receipt may have.
const RECEIVED: u64 = 1_000_000_000;
/// SKUs that are stocked at the same time.
const AT_ONCE: usize = 64;

/// Sees to it that every SKU of a bench has the stock that the workload wants.
pub(super) async fn stock(client: &Client, options: &BenchOptions) -> Result<(), VerbFailure> {
    let skus = 0..options.workload.skus(options.skus);
    let received = if options.workload == Workload::Flash { options.units } else { RECEIVED };
    let one = |number| stock_one(client, workload::sku(options, number), options.run, received);
    let mut done = stream::iter(skus.map(one)).buffer_unordered(AT_ONCE);
    while let Some(one) = done.next().await {
        one?;
    }
    Ok(())
}

async fn stock_one(client: &Client, name: String, run: u64, quantity: u64) -> Result<(), VerbFailure> {
    let sku = SkuId::new(&name).expect("the name is short");
    match client.sku(&sku).await {
        Ok(answer) if answer.value.stock.available >= ENOUGH => return Ok(()),
        Ok(_) => {}
        Err(CallError::Refused(refusal)) if refusal.status == 404 => {
            let name = Text::new(&name).expect("the name is short");
            let row =
                PutSku { name, backorder_limit: Unbuilt::Unset, purchase_limit: Unbuilt::Unset, safety_stock: Unbuilt::Unset };
            client.put_sku(&sku, &row).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let key = Key::new(format!("bench-{run:x}")).expect("the key is short");
    client.receive(&sku, &ReceiveStock { quantity, warehouse: None }, &key).await?;
    Ok(())
}
