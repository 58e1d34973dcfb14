//! The machines against a store in memory, interleaved call by call over several replicas, with
//! crashes at any call and lost answers. covers: F1, F4, F8, F12, T23

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a failed expectation is the test's finding"
)]

mod request;
mod store;

use std::collections::BTreeMap;

use kinora_upload_engine::document::{SmallPatches, VERSION};
use kinora_upload_engine::{Owner, Phase, State};
use proptest::prelude::*;

use request::{Request, Said};
use store::{Luck, Store};

const PART: u64 = 8;

fn fresh(length: u64) -> State {
    State {
        v: VERSION,
        id: "a-1".into(),
        owner: Owner {
            iss: "apikey".into(),
            sub: "k".into(),
        },
        tenant: "acme".into(),
        profile: "default".into(),
        metadata: BTreeMap::new(),
        upload_metadata: None,
        length: Some(length),
        part_size: PART,
        key: "videos/x".into(),
        multipart: None,
        epoch: 0,
        phase: Phase::Closed,
        offset: 0,
        tail: vec![],
        spent: vec![],
        crc: Some(0),
        sniffed: true,
        reason: None,
        small: SmallPatches::default(),
        created_ms: 0,
        nonce: "n0".into(),
        extra: serde_json::Map::new(),
    }
}

/// One move of the world.
#[derive(Clone, Debug)]
enum Move {
    /// A new PATCH from the last offset heard, of so many bytes.
    Patch(u64),
    /// A new HEAD.
    Head,
    /// The n-th running request makes its next call, with this luck.
    Step(usize, Luck),
    /// Its process is killed.
    Kill(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let luck =
        prop_oneof![12 => Just(Luck::Fine), 1 => Just(Luck::AnswerLost), 1 => Just(Luck::NotDone)];
    let one = prop_oneof![
        2 => (1u64..20).prop_map(Move::Patch),
        1 => Just(Move::Head),
        24 => (0usize..4, luck).prop_map(|(who, luck)| Move::Step(who, luck)),
        1 => (0usize..4).prop_map(Move::Kill),
    ];
    prop::collection::vec(one, 1..250)
}

struct World {
    store: Store,
    file: Vec<u8>,
    running: Vec<Request>,
    heard: u64,
    now: u64,
    nonce: u64,
}

impl World {
    fn new(length: u64) -> Self {
        let store = Store {
            state: Some((fresh(length), "e0".into())),
            ..Store::default()
        };
        let file = (0..length).map(|at| (at * 7 + at / 8) as u8).collect();
        Self {
            store,
            file,
            running: vec![],
            heard: 0,
            now: 1_000_000,
            nonce: 0,
        }
    }

    fn start(&mut self, patch: Option<u64>) {
        if self.running.len() < 4 {
            let body = patch.map(|n| {
                let to = (self.heard + n).min(self.file.len() as u64);
                (
                    self.heard,
                    self.file[self.heard as usize..to as usize].to_vec(),
                )
            });
            self.running.push(Request::new(body, self.heard));
        }
    }

    fn step(&mut self, who: usize, luck: Luck) {
        if who >= self.running.len() {
            return;
        }
        self.now += 151;
        self.nonce += 1;
        let nonce = format!("n{}", self.nonce);
        let said = self.running[who].step(&mut self.store, luck, self.now, &nonce);
        if let Some(said) = said {
            let request = self.running.remove(who);
            self.check(&request, &said);
        }
    }

    fn check(&mut self, request: &Request, said: &Said) {
        let Said::Offset(offset) = *said else { return };
        assert!(
            offset >= request.heard_before,
            "offset went back from {} to {offset}",
            request.heard_before
        );
        let durable = match (&self.store.video, &self.store.state) {
            (Some(video), _) => video.clone(),
            (None, Some((doc, _))) => self.store.durable(doc),
            (None, None) => panic!("offset {offset} answered of nothing"),
        };
        assert!(
            durable.len() as u64 >= offset,
            "{offset} answered, {} durable",
            durable.len()
        );
        assert_eq!(
            &durable[..offset as usize],
            &self.file[..offset as usize],
            "the bytes differ"
        );
        if offset == self.file.len() as u64 {
            let outbox = self.store.pending || self.store.active.is_some();
            assert!(outbox, "all bytes were answered without an outbox entry");
        }
        self.heard = self.heard.max(offset);
    }

    /// No more faults: the client goes on until the upload is finished.
    fn settle(&mut self) {
        self.running.clear();
        let mut tries = 0u32;
        for _ in 0..4_000 {
            if self.heard == self.file.len() as u64 && self.running.is_empty() {
                return;
            }
            if self.running.is_empty() {
                tries += 1;
                let patch = tries.is_multiple_of(2).then_some(16);
                self.start(patch.filter(|_| self.heard < self.file.len() as u64));
            }
            self.step(0, Luck::Fine);
        }
        panic!("the upload never ends: {:?}", self.store.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_interleaving_loses_or_mixes_bytes(length in 1u64..45, moves in moves(), away in any::<bool>()) {
        let mut world = World::new(length);
        world.store.kubernetes_away = away;
        for step in moves {
            match step {
                Move::Patch(n) => world.start(Some(n)),
                Move::Head => world.start(None),
                Move::Step(who, luck) => world.step(who, luck),
                Move::Kill(who) if who < world.running.len() => { world.running.remove(who); }
                Move::Kill(_) => {}
            }
        }
        world.settle();
        let World { store, file, .. } = world;
        prop_assert_eq!(store.video.as_ref(), Some(&file), "the object is the client's file");
        prop_assert_eq!(store.active, Some(kinora_upload_engine::Decision::Accepted));
        prop_assert!(away || store.jobs_made >= 1);
        prop_assert!(!away || store.pending, "without Kubernetes the outbox entry stays");
    }
}
