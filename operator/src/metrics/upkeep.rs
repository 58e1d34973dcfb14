//! What keeps control plane and store in step counts here: audit, judge of deletions, redrives, cleaner.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{
    Cleaned, Entry, Item, Judged, Letter, OfEntry, Pass, PassEnd, Redriven, Sample, Sampled,
    Verdict,
};

/// Counters; clones share them.
#[derive(Clone, Debug)]
pub struct Upkeep {
    audits: Family<Pass, Counter>,
    entries: Family<OfEntry, Counter>,
    deletions: Family<Verdict, Counter>,
    rewinds: Counter,
    letters: Family<Letter, Counter>,
    cleanings: Family<Pass, Counter>,
    items: Family<Item, Counter>,
    objects: Counter,
    samples: Family<Sample, Counter>,
}

impl Default for Upkeep {
    fn default() -> Self {
        let all = Self {
            audits: Family::default(),
            entries: Family::default(),
            deletions: Family::default(),
            rewinds: Counter::default(),
            letters: Family::default(),
            cleanings: Family::default(),
            items: Family::default(),
            objects: Counter::default(),
            samples: Family::default(),
        };
        all.at_zero();
        all
    }
}

impl Upkeep {
    /// What has not happened yet is 0, not absent: a rate over it then sees the first one.
    fn at_zero(&self) {
        for &outcome in PassEnd::ALL {
            if outcome != PassEnd::Clocks {
                let _ = self.audits.get_or_create(&Pass { outcome });
            }
            let _ = self.cleanings.get_or_create(&Pass { outcome });
        }
        for &outcome in Entry::ALL {
            let _ = self.entries.get_or_create(&OfEntry { outcome });
        }
        for &verdict in Judged::ALL {
            let _ = self.deletions.get_or_create(&Verdict { verdict });
        }
        for &outcome in Redriven::ALL {
            let _ = self.letters.get_or_create(&Letter { outcome });
        }
        for &outcome in Cleaned::ALL {
            let _ = self.items.get_or_create(&Item { outcome });
        }
        for &outcome in Sampled::ALL {
            let _ = self.samples.get_or_create(&Sample { outcome });
        }
    }

    #[rustfmt::skip]
    pub(super) fn register(&self, all: &mut Registry) {
        all.register("kinora_audit_passes", "Passes over active/", self.audits.clone());
        all.register("kinora_audit_entries", "Entries of active/ without a VideoJob, by what the audit did: created is a loss that was mended", self.entries.clone());
        all.register("kinora_deletions_judged", "Deletions of open upload jobs by others, by what they were taken for", self.deletions.clone());
        all.register("kinora_control_plane_rewinds", "Times that the control plane was found to have gone back", self.rewinds.clone());
        all.register("kinora_redrive_letters", "Dead letters that a VideoJobRedrive took, by what became of them", self.letters.clone());
        all.register("kinora_cleaner_passes", "Passes of the retention cleaner; clocks: refused, because clocks differ", self.cleanings.clone());
        all.register("kinora_cleaner_items", "Videos and declared jobs that are due by their day", self.items.clone());
        all.register("kinora_cleaner_objects_deleted", "Objects that retention deleted", self.objects.clone());
        all.register("kinora_cleaner_samples", "Videos before their time that were looked for; missing: somebody else deleted them", self.samples.clone());
    }

    /// A pass of the audit is over.
    pub fn audited(&self, outcome: PassEnd) {
        self.audits.get_or_create(&Pass { outcome }).inc();
    }

    /// The audit did this about so many entries.
    pub fn settled(&self, outcome: Entry, entries: u64) {
        self.entries
            .get_or_create(&OfEntry { outcome })
            .inc_by(entries);
    }

    /// A deletion was judged.
    pub fn judged(&self, verdict: Judged) {
        self.deletions.get_or_create(&Verdict { verdict }).inc();
    }

    /// The control plane went back.
    pub fn rewound(&self) {
        self.rewinds.inc();
    }

    /// A redrive took a dead letter.
    pub fn redriven(&self, outcome: Redriven) {
        self.letters.get_or_create(&Letter { outcome }).inc();
    }

    /// A pass of the cleaner is over.
    pub fn cleaned(&self, outcome: PassEnd) {
        self.cleanings.get_or_create(&Pass { outcome }).inc();
    }

    /// The cleaner did this about so many items.
    pub fn items(&self, outcome: Cleaned, items: u64) {
        self.items.get_or_create(&Item { outcome }).inc_by(items);
    }

    /// The cleaner deleted so many objects.
    pub fn deleted(&self, objects: u64) {
        self.objects.inc_by(objects);
    }

    /// The cleaner found so many videos of its sample so.
    pub fn sampled(&self, outcome: Sampled, videos: u64) {
        self.samples
            .get_or_create(&Sample { outcome })
            .inc_by(videos);
    }
}
