//! After a state became `dead`: abort the multipart upload until the store says it is gone (a
//! part in flight survives an abort), then let the slices go. The dead state stays as a marker.

use crate::call::{Answer, Call, Next};
use crate::document::{Slice, State};

const MAX_ROUNDS: u8 = 5;
const PAUSE_MS: u64 = 300;

/// How an ending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left but the marker; these slices may be deleted.
    Clean(Vec<Slice>),
    /// The store does not let go yet; the sweep repeats it.
    Later(String),
}

/// Aborts what a dead upload left behind. Only to be built from a document in phase `dead`.
#[derive(Clone, Debug)]
pub struct End {
    multipart: Option<String>,
    slices: Vec<Slice>,
    rounds: u8,
}

impl End {
    /// For this dead upload.
    #[must_use]
    pub fn new(dead: &State) -> Self {
        Self {
            multipart: dead.multipart.clone(),
            slices: dead.slices().cloned().collect(),
            rounds: 0,
        }
    }

    /// Takes the answer of the last call.
    pub fn step(&mut self, answer: Answer) -> Next<Ended> {
        let Some(multipart) = self.multipart.clone() else {
            return Next::Done(Ended::Clean(std::mem::take(&mut self.slices)));
        };
        match answer {
            Answer::Begin | Answer::Waited => Next::Call(Call::Abort { multipart }),
            Answer::Done => Next::Call(Call::ListParts { multipart }),
            Answer::Parts(None) => Next::Done(Ended::Clean(std::mem::take(&mut self.slices))),
            Answer::Parts(Some(_)) | Answer::Failed(_) if self.rounds < MAX_ROUNDS => {
                self.rounds += 1;
                Next::Call(Call::Wait { ms: PAUSE_MS })
            }
            Answer::Failed(why) => Next::Done(Ended::Later(why)),
            other => Next::Done(Ended::Later(format!(
                "abort multipart upload {multipart}: {other:?}"
            ))),
        }
    }
}
