//! Every unit of the order by itself.

use ordergrid_domain::SkuId;
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::order::Order;

/// Where a unit is. Parcels are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Held,
    Backordered,
    Picking(u32),
    Shipped(u32),
    Delivered,
    Cancelled,
}

pub(crate) struct Units {
    skus: Vec<SkuId>,
    /// Per line, one place per unit.
    places: Vec<Vec<Place>>,
}

impl Units {
    pub(crate) fn new(request: &OrderRequest) -> Self {
        Self {
            skus: request.lines.iter().map(|line| line.sku.clone()).collect(),
            places: request.lines.iter().map(|line| vec![Place::Held; line.quantity.0 as usize]).collect(),
        }
    }

    pub(crate) fn lines(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn sku(&self, line: usize) -> &SkuId {
        &self.skus[line]
    }

    pub(crate) fn lines_of(&self, sku: &SkuId) -> Vec<usize> {
        (0..self.lines()).filter(|line| self.skus[*line] == *sku).collect()
    }

    pub(crate) fn ordered(&self, line: usize) -> u64 {
        self.places[line].len() as u64
    }

    pub(crate) fn on(&self, line: usize, place: Place) -> u64 {
        self.places[line].iter().filter(|at| **at == place).count() as u64
    }

    /// Units of the line that have left, arrived or not.
    pub(crate) fn left(&self, line: usize) -> u64 {
        self.places[line].iter().filter(|at| matches!(at, Place::Shipped(_) | Place::Delivered)).count() as u64
    }

    pub(crate) fn count(&self, which: impl Fn(&Place) -> bool) -> u64 {
        self.places.iter().flatten().filter(|place| which(place)).count() as u64
    }

    pub(crate) fn all(&self, place: Place) -> bool {
        self.places.iter().flatten().all(|at| *at == place)
    }

    pub(crate) fn move_one(&mut self, line: usize, from: Place, to: Place) {
        let unit = self.places[line].iter_mut().find(|at| **at == from).expect("the book has looked before");
        *unit = to;
    }

    pub(crate) fn move_all(&mut self, from: Place, to: Place) {
        for unit in self.places.iter_mut().flatten().filter(|at| **at == from) {
            *unit = to;
        }
    }

    pub(crate) fn check(&self, order: &Order) {
        for (line, stored) in order.lines.iter().enumerate() {
            let picking = self.places[line].iter().filter(|at| matches!(at, Place::Picking(_))).count() as u64;
            let by_book = [
                self.on(line, Place::Cancelled),
                self.on(line, Place::Backordered),
                self.on(line, Place::Held),
                picking,
                self.left(line),
                self.on(line, Place::Delivered),
                0,
            ];
            let on_line = [
                stored.cancelled.0,
                stored.backordered.0,
                stored.held.0,
                stored.picking.0,
                stored.shipped.0,
                stored.delivered.0,
                stored.returned.0,
            ];
            assert_eq!(on_line, by_book, "line {line} of {order:?}");
            assert_eq!(stored.ordered.0, self.ordered(line));
        }
    }
}
