//! A message whose recipients' mail goes different ways: each copy is divided by route, and each part has a
//! transaction of its own.

use std::sync::Arc;

use super::authentication::Authentication;
use super::error::RelayError;
use super::groups::Parcel;
use super::pool::{Place, Pool};
use super::route::Route;
use super::transaction::{PATIENCE, Transaction, Via};

/// Where the recipients of a message go.
#[derive(Debug)]
pub struct Ways {
    /// The route of each recipient, in the order of the envelope.
    pub routes: Vec<Arc<Route>>,
    /// The route of a notification to the sender.
    pub back: Arc<Route>,
    /// The next hop that was asked about each recipient, and what it has shown that it is.
    asked: Vec<Option<(Arc<Pool>, Option<Authentication>)>>,
}

impl Ways {
    /// Creates them for these routes.
    pub fn new(routes: Vec<Arc<Route>>, back: Arc<Route>) -> Ways {
        let asked = vec![None; routes.len()];
        Ways { routes, back, asked }
    }
}

impl Transaction {
    /// Sets where each recipient's mail goes.
    pub fn divide(&mut self, ways: Ways) {
        self.ways = Some(Box::new(ways));
    }

    /// Returns the route of recipients who have the same one.
    pub(super) fn route_of(&self, recipients: &[usize]) -> &Arc<Route> {
        let first = recipients.first().copied().unwrap_or_default();
        let found = self.ways.as_ref().and_then(|ways| ways.routes.get(first));
        found.unwrap_or_else(|| self.route())
    }

    /// Divides copies so that the recipients of each part have the same route.
    pub(super) fn by_route(&self, parcels: Vec<Parcel>) -> Vec<Parcel> {
        if self.ways.is_none() {
            return parcels;
        }
        let mut parts: Vec<Parcel> = Vec::new();
        for Parcel { number, recipients } in parcels {
            let begin = parts.len();
            for recipient in recipients {
                let route = self.route_of(&[recipient]);
                let of_copy = parts.get_mut(begin..).unwrap_or_default();
                match of_copy.iter_mut().find(|part| Arc::ptr_eq(self.route_of(&part.recipients), route)) {
                    Some(part) => part.recipients.push(recipient),
                    None => parts.push(Parcel { number, recipients: vec![recipient] }),
                }
            }
        }
        parts
    }

    /// Returns whether the transaction at hand is on the route of these recipients.
    pub(super) fn is_on_route_of(&self, recipients: &[usize]) -> bool {
        Arc::ptr_eq(self.route_of(recipients), self.route())
    }

    /// Takes a slot for each part: those of one route at one next hop, all at once or none. Routes are taken
    /// in an order that is the same for every message, so that messages do not wait for each other.
    pub(super) async fn places(&self, parcels: &[Parcel]) -> Result<Vec<Place>, RelayError> {
        let mut order: Vec<usize> = (0..parcels.len()).collect();
        let route = |index: &usize| {
            self.route_of(parcels.get(*index).map(|parcel| &parcel.recipients[..]).unwrap_or_default())
        };
        order.sort_by_key(|index| Arc::as_ptr(route(index)));
        let mut placed = Vec::with_capacity(parcels.len());
        for same in order.chunk_by(|one, other| Arc::ptr_eq(route(one), route(other))) {
            let Some(route) = same.first().map(route) else { continue };
            let is_ours = Arc::ptr_eq(route, self.route());
            let (preferred, without) = match is_ours {
                true => (self.preferred.as_ref(), &self.put_off[..]),
                false => (None, &[][..]),
            };
            let places = route.places(same.len(), self.limit(PATIENCE), preferred, without).await?;
            // The first of ours is counted already; those of other routes are counted when they begin.
            if let (Some(place), true, 2..) = (places.first(), is_ours, same.len()) {
                place.pool.turn(same.len() - 1).await?;
            }
            placed.extend(same.iter().copied().zip(places));
        }
        placed.sort_by_key(|(index, _)| *index);
        Ok(placed.into_iter().map(|(_, place)| place).collect())
    }

    /// Notes which next hop a part of the message has asked about recipients.
    pub(super) fn note_asked(&mut self, recipients: &[usize], part: &Transaction) {
        let Some(ways) = &mut self.ways else { return };
        for recipient in recipients {
            if let Some(asked) = ways.asked.get_mut(*recipient) {
                *asked = part.asked.clone().map(|pool| (pool, part.authentication));
            }
        }
    }

    /// Returns the next hop that was asked about a recipient, or the first of its route.
    pub(super) fn via_of(&self, recipient: usize) -> Via {
        let Some(ways) = &self.ways else { return self.via() };
        if let Some(Some((pool, authentication))) = ways.asked.get(recipient) {
            return Via::of(Some(pool), *authentication);
        }
        match ways.routes.get(recipient) {
            Some(route) if !Arc::ptr_eq(route, self.route()) => Via::of(route.pools().first(), None),
            Some(_) | None => self.via(),
        }
    }

    /// Returns the next hop that was asked about each recipient; none if their mail goes the same way.
    pub fn vias(&self) -> Vec<Via> {
        let recipients = self.ways.as_ref().map_or(0, |ways| ways.routes.len());
        (0..recipients).map(|recipient| self.via_of(recipient)).collect()
    }
}
