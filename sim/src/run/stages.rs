//! The stages of a history.

use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_api::wire::{PutSku, ReceiveStock, Unbuilt};
use ordergrid_cluster::Role;
use ordergrid_domain::Text;

use super::{HEALED_WITHIN, Stop, World};
use crate::clients::settled;
use crate::dice::Dice;
use crate::history::{Ask, Ending, Said};
use crate::judges::evidence::book::FINAL_CLIENT;
use crate::plan::Plan;
use crate::trace;

/// The client that fills the shelves, and looks whether everything has come to rest.
const HOUSEKEEPER: u32 = 0;
/// Within so long after the clients have gone every replica must be where its leader is.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);
/// Readers at a time, in the end.
const READERS: usize = 8;

impl World {
    /// From empty disks to the verdict.
    pub(super) fn live(&mut self, plan: &Plan) -> Result<(), Stop> {
        self.boot()?;
        self.stock(plan)?;
        self.unrest(plan)?;
        self.conclude(plan)
    }

    /// Every node starts, on empty disks.
    pub(crate) fn boot(&mut self) -> Result<(), Stop> {
        for node in self.grid.nodes.keys().copied().collect::<Vec<_>>() {
            self.grid.start(node).map_err(|error| Stop::Harness(format!("{error:#}")))?;
        }
        self.until("the new grid is not ready", Duration::from_secs(60), Self::all_ready)
    }

    /// Without faults from now on: it heals, everything is read once more, and the judges look at all of it.
    pub(crate) fn conclude(&mut self, plan: &Plan) -> Result<(), Stop> {
        self.heal(plan)?;
        self.read_everything(plan)?;
        self.judge()
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.grid.nodes.values().all(super::super::grid::SimNode::was_ready)
    }

    fn stock(&mut self, plan: &Plan) -> Result<(), Stop> {
        let mut asks = Vec::new();
        for number in 0..plan.mix.skus {
            let name = Text::new(format!("name of {number}")).map_err(|error| Stop::Harness(error.to_string()))?;
            let put =
                PutSku { name, backorder_limit: Unbuilt::Unset, purchase_limit: Unbuilt::Unset, safety_stock: Unbuilt::Unset };
            let quantity = if number == 0 { plan.stock.1 } else { plan.stock.0 };
            asks.push(Ask::PutSku(plan.mix.sku(number), put));
            let receive = ReceiveStock { quantity, warehouse: None };
            asks.push(Ask::Receive(self.clients.record.key(), plan.mix.sku(number), receive));
        }
        self.clients.insist(&mut self.grid, HOUSEKEEPER, asks);
        self.until("the shelves cannot be filled", HEALED_WITHIN, |world| world.clients.idle())
    }

    fn unrest(&mut self, plan: &Plan) -> Result<(), Stop> {
        trace::note(format_args!("the unrest begins"));
        self.striking = crate::faults::Striking::new(plan, self.grid.now());
        self.grid.net.set_frames(plan.frames);
        self.clients.start(&mut self.grid, &plan.mix, &mut Dice::new(plan.seed.rotate_left(17)));
        self.pass_until(self.grid.now().after(plan.unrest))?;
        self.grid.net.set_frames((0, 0, 0));
        self.striking.end(&mut self.grid)?;
        self.calm_since = self.grid.now();
        Ok(())
    }

    fn heal(&mut self, plan: &Plan) -> Result<(), Stop> {
        // Whoever asks now is served: the clients go on for a moment.
        self.pass_until(self.grid.now().after(Duration::from_secs(2)))?;
        self.clients.stop();
        self.until("not every node is ready", HEALED_WITHIN, Self::all_ready)?;
        self.until("clients wait", HEALED_WITHIN, |world| world.clients.idle())?;
        self.clients.reopen();
        // Orders that nobody pays expire.
        self.pass_until(self.calm_since.after(Duration::from_secs(plan.mix.window.1 + 5)))?;
        let latest = self.grid.now().after(HEALED_WITHIN);
        self.until("a replica does not follow its leader", FOLLOWED_WITHIN, Self::all_follow)?;
        loop {
            self.clients.insist(&mut self.grid, HOUSEKEEPER, vec![Ask::Verify]);
            self.until("the laws cannot be proven", HEALED_WITHIN, |world| world.clients.idle())?;
            if self.at_rest() || self.grid.now() > latest {
                return Ok(());
            }
            self.pass_until(self.grid.now().after(Duration::from_millis(500)))?;
        }
    }

    /// Every replica has committed and applied what its leader has committed: who is told of nothing new, and says that it lags by
    /// nothing, may stand all the same.
    fn all_follow(&self) -> bool {
        let statuses = self.grid.statuses();
        let leaders = statuses.values().flatten().filter(|status| status.role == Role::Leader);
        let led: BTreeMap<_, _> = leaders.map(|leader| (leader.group, leader.committed)).collect();
        statuses.values().flatten().all(|status| {
            let follows = |committed: &u64| status.committed >= *committed && status.applied >= *committed;
            status.role != Role::Stopped && led.get(&status.group).is_some_and(follows)
        })
    }

    /// The last proof found nothing under way.
    fn at_rest(&self) -> bool {
        let known = self.clients.record.known();
        let Some(Ending::Done { answer, .. }) = known.history.operations.last().map(|last| &last.ending) else { return false };
        let Said::Verify(report) = &**answer else { return false };
        let moving = &report.in_flight;
        moving.tentative_holds == 0 && moving.undelivered_messages == 0 && moving.running_attempts == 0
    }

    fn read_everything(&mut self, plan: &Plan) -> Result<(), Stop> {
        // Later than any request can still be under way.
        let asked = self.clients.record.known().history.operations.iter().rposition(|last| !settled(&last.ending));
        if asked.is_some() {
            self.pass_until(self.grid.now().after(Duration::from_secs(2)))?;
        }
        self.finally(vec![vec![Ask::Verify]])?;
        let users = (0..plan.mix.users.min(50)).map(|number| Ask::ReadUser(plan.mix.user(number)));
        self.finally(vec![users.collect()])?;
        let mut reads: Vec<Ask> = (0..plan.mix.skus).map(|number| Ask::ReadSku(plan.mix.sku(number))).collect();
        for order in self.clients.record.known().orders.keys() {
            reads.push(Ask::ReadOrder(*order));
            reads.push(Ask::ReadHistory(*order));
        }
        let share = reads.len().div_ceil(READERS).max(1);
        self.finally(reads.chunks(share).map(<[Ask]>::to_vec).collect())?;
        self.finally(vec![vec![Ask::Status, Ask::Verify]])
    }

    fn finally(&mut self, asks: Vec<Vec<Ask>>) -> Result<(), Stop> {
        for asks in asks {
            self.clients.insist(&mut self.grid, FINAL_CLIENT, asks);
        }
        self.until("what was written cannot be read", HEALED_WITHIN, |world| world.clients.idle())
    }
}
