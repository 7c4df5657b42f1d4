//! A cache of standings, beside the index.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::consent::Standing;

/// The number of standings in the cache.
const CACHED: usize = 200_000;

/// Standings that were looked up. A change empties the shard it falls into, and what was read before it is
/// not added after it.
pub(super) struct Cache {
    shards: Vec<RwLock<HashMap<Vec<u8>, Arc<Standing>>>>,
    generation: AtomicUsize,
}

const SHARDS: usize = 16;

impl Cache {
    pub(super) fn new() -> Cache {
        Cache {
            shards: (0..SHARDS).map(|_| RwLock::new(HashMap::new())).collect(),
            generation: AtomicUsize::new(0),
        }
    }

    /// Ids are random, so their last byte is evenly distributed.
    fn shard(&self, key: &[u8]) -> Option<&RwLock<HashMap<Vec<u8>, Arc<Standing>>>> {
        self.shards.get(usize::from(*key.last()?) % SHARDS)
    }

    pub(super) fn generation(&self) -> usize {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Standing>> {
        self.shard(key)?.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn put(&self, key: &[u8], standing: &Arc<Standing>, read_at: usize) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if self.generation() == read_at {
            if shard.len() >= CACHED / SHARDS {
                shard.clear();
            }
            shard.insert(key.to_vec(), Arc::clone(standing));
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    pub(super) fn drop_key(&self, key: &[u8]) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(shard) = self.shard(key) {
            shard.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}
