//! Compares this relay with the others: journals record by record, and what is left of erased people.

use std::collections::BTreeMap;

use pixelward_replica::node::Other;
use pixelward_replica::week::{Week, begin_of, destroyed_at, week_of};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Member;
use super::questions::{Chain, Keys, Question};
use crate::consent::Timestamp;

/// How many records are looked at in one round of the search.
const AT_ONCE: u64 = 64;
/// The most erasures that are listed, the newest ones.
const MAX_ERASURES: usize = 1000;

/// How the journal of another relay compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The other relay.
    pub relay: String,
    /// Where it is reached.
    pub address: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both have the same records up to this one, as far as both go.
    Same(u64),
    /// This is the first record that differs.
    Differs(u64),
    /// It did not answer, for this reason.
    Unanswered(String),
}

/// What is left of erased people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// The keys of weeks that still exist.
    pub keys: Vec<WeekKey>,
    /// The latest erasures, the newest first.
    pub erasures: Vec<Erasure>,
    /// The relays that did not answer, with the reason.
    pub unanswered: Vec<(String, String)>,
}

/// The key of a week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeekKey {
    /// When the week begins.
    pub begins: String,
    /// When all relays destroy it.
    pub destroyed: String,
    /// The relays that have it.
    pub relays: Vec<String>,
}

/// An erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The number of its record.
    pub record: u64,
    /// When it was requested.
    pub at: String,
    /// Until when a key exists that opens what servers have of the person.
    pub until: String,
    /// The relays that have done it.
    pub done: Vec<String>,
    /// Those that have not, as far as they answered.
    pub missing: Vec<String>,
}

impl Member {
    /// Compares the journal of each other relay with this one's.
    pub async fn compare(&self) -> Vec<Compared> {
        let mut all = Vec::new();
        for other in self.node.status().others {
            let outcome = match self.first_difference(&other).await {
                Ok(outcome) => outcome,
                Err(why) => Outcome::Unanswered(why),
            };
            all.push(Compared { relay: hex::encode(other.node), address: other.address, outcome });
        }
        all
    }

    /// Finds the first record that differs: chains that are equal at a record have been equal all the way.
    async fn first_difference(&self, other: &Other) -> Result<Outcome, String> {
        let theirs: Chain = self.asked(other, &Question::Chain(Vec::new())).await?;
        let end = self.answers.chain(Vec::new()).await?.records.min(theirs.records);
        if end == 0 || self.first_unequal(other, &[end]).await?.is_none() {
            return Ok(Outcome::Same(end));
        }
        let (mut same, mut differs) = (0, end);
        while differs - same > 1 {
            let step = (differs - same).div_ceil(AT_ONCE + 1).max(1);
            let between: Vec<u64> = (1..=AT_ONCE).map(|turn| same + turn * step).collect();
            let between: Vec<u64> = between.into_iter().filter(|number| *number < differs).collect();
            match self.first_unequal(other, &between).await? {
                Some(place) => {
                    differs = between.get(place).copied().unwrap_or(differs);
                    same =
                        place.checked_sub(1).and_then(|before| between.get(before)).copied().unwrap_or(same);
                }
                None => same = between.last().copied().unwrap_or(same),
            }
        }
        Ok(Outcome::Differs(differs))
    }

    /// Returns the place of the first of these records at which the chains are not equal.
    async fn first_unequal(&self, other: &Other, numbers: &[u64]) -> Result<Option<usize>, String> {
        let ours = self.answers.chain(numbers.to_vec()).await?.hashes;
        let theirs: Chain = self.asked(other, &Question::Chain(numbers.to_vec())).await?;
        if theirs.hashes.len() != ours.len() {
            return Err("its answer makes no sense here".to_owned());
        }
        Ok(ours.iter().zip(&theirs.hashes).position(|(ours, theirs)| ours != theirs))
    }

    async fn asked<T: DeserializeOwned>(&self, other: &Other, question: &Question) -> Result<T, String> {
        let question = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let answer = self.node.ask(other, &question).await?;
        serde_json::from_slice(&answer).map_err(|_| "its answer makes no sense here".to_owned())
    }

    /// Says what is left of erased people, and where.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub async fn remains(&self) -> Result<Remains, String> {
        let mut relays = BTreeMap::from([(self.name(), self.answers.keys()?)]);
        let mut unanswered = Vec::new();
        for other in self.node.status().others {
            let name = hex::encode(other.node);
            match self.asked::<Keys>(&other, &Question::Keys).await {
                Ok(keys) => drop(relays.insert(name, keys)),
                Err(why) => unanswered.push((name, why)),
            }
        }
        let store = self.store.upgrade().ok_or("the relay is stopping")?;
        let erased = tokio::task::spawn_blocking(move || store.erasures()).await;
        let erased = erased.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(listed(&relays, &erased, unanswered, Timestamp::now()))
    }
}

/// Lists what is left: each erasure until the last key is gone that opens what was said about the person, and longer if
/// a relay has not done it.
fn listed(
    relays: &BTreeMap<String, Keys>,
    erased: &[(u64, Timestamp)],
    unanswered: Vec<(String, String)>,
    now: Timestamp,
) -> Remains {
    let mut weeks: BTreeMap<Week, Vec<String>> = BTreeMap::new();
    for (relay, keys) in relays {
        keys.weeks.iter().for_each(|week| weeks.entry(*week).or_default().push(relay.clone()));
    }
    let erasure = |(record, at): &(u64, Timestamp)| {
        let (done, missing): (Vec<_>, Vec<_>) = relays.iter().partition(|(_, keys)| keys.records >= *record);
        let names =
            |relays: Vec<(&String, &Keys)>| relays.into_iter().map(|(name, _)| name.clone()).collect();
        let until = destroyed_at(week_of(*at));
        let (done, missing): (Vec<String>, Vec<String>) = (names(done), names(missing));
        let is_left = until > now || !missing.is_empty();
        is_left.then(|| Erasure {
            record: *record,
            at: at.to_string(),
            until: until.to_string(),
            done,
            missing,
        })
    };
    Remains {
        keys: weeks
            .into_iter()
            .map(|(week, relays)| WeekKey {
                begins: begin_of(week).to_string(),
                destroyed: destroyed_at(week).to_string(),
                relays,
            })
            .collect(),
        erasures: erased.iter().rev().filter_map(erasure).take(MAX_ERASURES).collect(),
        unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    #[test]
    fn an_erasure_is_left_until_the_key_of_its_week_is_gone_and_every_relay_has_done_it() {
        let now = Timestamp(3000 * 7 * DAY);
        let keys = |records, weeks: &[Week]| Keys { records, weeks: weeks.to_vec() };
        let relays =
            BTreeMap::from([("aa".to_owned(), keys(9, &[2999, 3000])), ("bb".to_owned(), keys(7, &[3000]))]);
        let erased =
            [(3, Timestamp(now.0 - 30 * DAY)), (6, Timestamp(now.0 - DAY)), (8, Timestamp(now.0 - 40 * DAY))];
        let remains = listed(&relays, &erased, Vec::new(), now);
        assert_eq!(remains.keys[0].relays, ["aa"]);
        assert_eq!(remains.keys[1].relays, ["aa", "bb"]);
        let found: Vec<(u64, usize)> =
            remains.erasures.iter().map(|erasure| (erasure.record, erasure.missing.len())).collect();
        assert_eq!(found, [(8, 1), (6, 0)], "the newest first, and none that is gone");
        assert_eq!(remains.erasures[1].until, Timestamp(now.0 + 8 * DAY).to_string());
    }
}
