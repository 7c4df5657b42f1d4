//! The next hops that a message may take, in the order in which they are tried.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Capabilities;
use super::error::{RelayError, note_error};
use super::pool::{Lease, Place, Pool};
use crate::smtp::Reply;

/// Next hops in order. A later one is tried if the earlier ones are unavailable, and never after a final dot.
#[derive(Debug)]
pub struct Route {
    pools: Vec<Arc<Pool>>,
    /// Where some have a weight: how much each of them was passed over.
    credits: Option<Mutex<Vec<i64>>>,
}

/// The next hops of a route that were not tried yet for one transaction.
pub(super) struct Attempts {
    left: VecDeque<Arc<Pool>>,
    place: Option<Place>,
    last: Option<RelayError>,
    failed: Option<Arc<Pool>>,
}

impl Route {
    /// Creates a route over these.
    pub fn new(pools: Vec<Arc<Pool>>) -> Arc<Route> {
        let is_weighted = pools.iter().any(|pool| pool.hop.weight > 0);
        let credits = is_weighted.then(|| Mutex::new(vec![0; pools.len()]));
        Arc::new(Route { pools, credits })
    }

    /// Returns its next hops.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Returns what the next hop announces to which mail goes now: the first that is known and not avoided;
    /// where mail is divided by weight, what all of those have in common. `None` if none is known.
    pub fn capabilities(&self) -> Option<Capabilities> {
        let now = Instant::now();
        let shares = |pool: &&Arc<Pool>| pool.hop.weight > 0 && pool.health.rests_until(now).is_none();
        let shared = self.pools.iter().filter(shares).filter_map(|pool| pool.capabilities());
        if let Some(shared) = shared.reduce(Capabilities::both) {
            return Some(shared);
        }
        let known = self.pools.iter().filter_map(|pool| Some((pool, pool.capabilities()?)));
        known.min_by_key(|(pool, _)| pool.health.rests_until(now)).map(|(_, capabilities)| capabilities)
    }

    /// Returns whether all of its next hops are known to lack something.
    pub(super) fn all_lack(&self, lacks: impl Fn(&Capabilities) -> bool) -> bool {
        self.pools.iter().all(|pool| pool.capabilities().is_some_and(|capabilities| lacks(&capabilities)))
    }

    /// Returns how many connections each of them may have, as far as is known.
    pub fn most_connections(&self) -> usize {
        self.pools.iter().map(|pool| pool.most_connections()).min().unwrap_or(1)
    }

    /// Returns the healthy ones in their order, the preferred one first, then those that are avoided, the
    /// longest-avoided first; all of them `without` those that put the mail off.
    fn order(&self, preferred: Option<&Arc<Pool>>, without: &[(Arc<Pool>, Reply)]) -> VecDeque<Arc<Pool>> {
        let now = Instant::now();
        let is_wanted = |pool: &&Arc<Pool>| !without.iter().any(|(other, _)| Arc::ptr_eq(pool, other));
        let turn =
            self.turn(preferred.is_some(), |pool| is_wanted(&pool) && pool.health.rests_until(now).is_none());
        let rank = |pool: &Arc<Pool>| {
            let is_first = preferred.or(turn).is_some_and(|first| Arc::ptr_eq(first, pool));
            (pool.health.rests_until(now), !is_first, Reverse(pool.hop.weight))
        };
        let mut order: Vec<_> = self.pools.iter().filter(is_wanted).map(|pool| (rank(pool), pool)).collect();
        order.sort_by_key(|(rank, _)| *rank);
        order.into_iter().map(|(_, pool)| Arc::clone(pool)).collect()
    }

    /// Returns whose turn it is among those with a weight that can be used: each comes as often as its weight
    /// says, and as evenly as possible (the way nginx does it). `None` if there is none, or it
    /// is known who comes first.
    fn turn(&self, is_fixed: bool, is_usable: impl Fn(&Arc<Pool>) -> bool) -> Option<&Arc<Pool>> {
        let credits = self.credits.as_ref().filter(|_| !is_fixed)?;
        let mut credits = credits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut next: Option<(&Arc<Pool>, &mut i64)> = None;
        for (pool, credit) in self.pools.iter().zip(credits.iter_mut()) {
            if pool.hop.weight == 0 || !is_usable(pool) {
                continue;
            }
            *credit += i64::from(pool.hop.weight);
            total += i64::from(pool.hop.weight);
            if next.as_ref().is_none_or(|(_, most)| *credit > **most) {
                next = Some((pool, credit));
            }
        }
        next.map(|(pool, credit)| {
            *credit -= total;
            pool
        })
    }

    /// Returns attempts that begin with a slot taken before, if there is one.
    pub(super) fn attempts(
        &self,
        place: Option<Place>,
        preferred: Option<&Arc<Pool>>,
        without: &[(Arc<Pool>, Reply)],
    ) -> Attempts {
        // A slot may have been taken at one that has put the mail off since.
        let is_wanted = |place: &Place| !without.iter().any(|(other, _)| Arc::ptr_eq(&place.pool, other));
        let place = place.filter(is_wanted);
        let mut attempts =
            Attempts { left: self.order(preferred, without), place: None, last: None, failed: None };
        if let Some(place) = &place {
            attempts.leave_out(&place.pool);
        }
        Attempts { place, ..attempts }
    }

    /// Takes this many slots at one next hop, all at once or none.
    pub(super) async fn places(
        &self,
        count: usize,
        patience: Duration,
        preferred: Option<&Arc<Pool>>,
        without: &[(Arc<Pool>, Reply)],
    ) -> Result<Vec<Place>, RelayError> {
        match self.order(preferred, without).pop_front() {
            Some(pool) => pool.places(count, patience).await,
            None => Err(RelayError::Closed { at: "connect" }),
        }
    }
}

impl Attempts {
    /// Returns a connection to the next of them that is available.
    ///
    /// # Errors
    ///
    /// When none is left: the last error.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Lease, RelayError> {
        loop {
            self.let_others_probe();
            let place = match (self.place.take(), self.left.pop_front()) {
                (Some(place), Some(pool)) => {
                    self.left.push_front(pool);
                    Ok(place)
                }
                (Some(place), None) => Ok(place),
                (None, Some(pool)) => pool.places(1, patience).await.and_then(|mut places| {
                    places.pop().ok_or(RelayError::Busy { connections: pool.hop.max_connections })
                }),
                (None, None) => {
                    return Err(self.last.take().unwrap_or(RelayError::Closed { at: "connect" }));
                }
            };
            match place {
                Ok(place) => {
                    let pool = Arc::clone(&place.pool);
                    match place.lease(patience).await {
                        Ok(lease) => return Ok(lease),
                        Err(error @ RelayError::Busy { .. }) => self.last = Some(error),
                        Err(error) => self.failed(&pool, error),
                    }
                }
                // It is healthy, but has no slot: not a failure.
                Err(error) => self.last = Some(error),
            }
        }
    }

    /// Moves a next hop to the end that has come to be avoided since these were put in order: somebody else
    /// finds out whether it can be used.
    fn let_others_probe(&mut self) {
        let now = Instant::now();
        let is_better = |pool: &Arc<Pool>| pool.health.rests_until(now).is_none();
        if self.place.is_none()
            && self.left.front().is_some_and(|first| !is_better(first))
            && self.left.iter().any(is_better)
            && let Some(first) = self.left.pop_front()
        {
            self.left.push_back(first);
        }
    }

    /// Leaves out a next hop that was asked before.
    pub(super) fn leave_out(&mut self, asked: &Arc<Pool>) {
        self.left.retain(|pool| !Arc::ptr_eq(pool, asked));
    }

    /// Returns whether another one can be asked.
    pub(super) fn has_more(&self) -> bool {
        self.place.is_some() || !self.left.is_empty()
    }

    /// Notes that a next hop put off whomever it was asked about. It is healthy.
    pub(super) fn put_off(&self, pool: &Pool) {
        if let Some(next) = self.left.front() {
            let (next_hop, next) = (&pool.hop, &next.hop);
            tracing::info!(%next_hop, %next, "a next hop put mail off; the next one is asked");
        }
    }

    /// Notes that a next hop could not be used.
    pub(super) fn failed(&mut self, pool: &Arc<Pool>, error: RelayError) {
        pool.health.failed(Instant::now());
        note_error();
        if let Some(next) = self.left.front() {
            tracing::warn!(
                next_hop = %pool.hop,
                %error,
                next = %next.hop,
                "a next hop could not be used; the next one is tried"
            );
        }
        self.last = Some(error);
        self.failed = Some(Arc::clone(pool));
    }

    /// Returns the one that could not be used last.
    pub(super) fn last_failed(&mut self) -> Option<Arc<Pool>> {
        self.failed.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NextHop, TlsMode};

    fn pool(name: &str, weight: u32) -> Arc<Pool> {
        let tls = pixelward_net::tls_config(None, None).unwrap();
        Pool::new(NextHop { weight, ..NextHop::new(name, 25, TlsMode::None, tls, "relay.example") })
    }

    /// The first next hop for each of so many messages.
    fn firsts(route: &Route, count: usize) -> String {
        let firsts = (0..count).filter_map(|_| route.order(None, &[]).pop_front());
        firsts.map(|pool| pool.hop.host.clone()).collect()
    }

    #[test]
    fn mail_is_divided_by_weight_and_evenly() {
        let route = Route::new(vec![pool("a", 3), pool("b", 1), pool("c", 0)]);
        assert_eq!(firsts(&route, 8), "aabaaaba");
        // Those without a weight stand in, in their order.
        let order = route.order(None, &[]);
        assert_eq!(order.iter().map(|pool| pool.hop.host.as_str()).collect::<String>(), "abc");
        let route = Route::new(vec![pool("a", 0), pool("b", 0)]);
        assert_eq!(firsts(&route, 3), "aaa");
    }

    #[test]
    fn one_that_is_avoided_leaves_its_part_to_the_others() {
        let route = Route::new(vec![pool("a", 2), pool("b", 1), pool("c", 1)]);
        route.pools()[0].health.failed(Instant::now());
        assert_eq!(firsts(&route, 4), "bcbc");
        route.pools()[0].health.succeeded();
        assert_eq!(firsts(&route, 8).matches('a').count(), 4);
    }

    #[test]
    fn one_that_has_accepted_recipients_keeps_the_message() {
        let route = Route::new(vec![pool("a", 1), pool("b", 1)]);
        let preferred = Arc::clone(&route.pools()[1]);
        for _ in 0..3 {
            let first = route.order(Some(&preferred), &[]).pop_front();
            assert!(first.is_some_and(|first| Arc::ptr_eq(&first, &preferred)));
        }
        assert_eq!(firsts(&route, 4), "abab");
    }
}
