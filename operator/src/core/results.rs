//! What services returned beside the outputs, each kept until the record that holds it is written.

use std::collections::HashMap;

use kinora_engine::Uid;

/// Bytes of results that wait for their records: 1,000 of the largest. A store that takes outputs and refuses records would
/// fill the memory otherwise; beyond, a record is written without its result.
const MOST_BYTES: usize = 64 << 20;

/// All of them, by job.
#[derive(Debug, Default)]
pub(super) struct Results {
    all: HashMap<Uid, String>,
    bytes: usize,
}

impl Results {
    /// Keeps the result of a job, in place of an earlier one. False if there is no room for it.
    pub(super) fn keep(&mut self, job: Uid, result: String) -> bool {
        self.drop(job);
        let room = self.bytes + result.len() <= MOST_BYTES;
        if room {
            self.bytes += result.len();
            self.all.insert(job, result);
        }
        room
    }

    /// The result of a job.
    pub(super) fn get(&self, job: Uid) -> Option<&String> {
        self.all.get(&job)
    }

    /// Nobody asks for it again.
    pub(super) fn drop(&mut self, job: Uid) {
        if let Some(result) = self.all.remove(&job) {
            self.bytes -= result.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use kinora_protocol::MAX_RESULT_BYTES;

    use super::*;

    #[test]
    fn results_are_kept_while_there_is_room_and_each_one_dropped_makes_some() {
        let mut results = Results::default();
        let most = MOST_BYTES / MAX_RESULT_BYTES;
        let large = "x".repeat(MAX_RESULT_BYTES);
        for n in 0..most {
            assert!(results.keep(Uid(n as u128), large.clone()));
        }
        let late = Uid(most as u128);
        assert!(!results.keep(late, "1".to_owned()));
        assert_eq!(results.get(late), None);

        let first = Uid(0);
        assert!(results.keep(first, large.clone()), "it takes its own place");
        results.drop(first);
        results.drop(first);
        assert!(results.keep(late, large.clone()));
        assert!(!results.keep(first, large));
    }
}
