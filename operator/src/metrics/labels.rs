//! The words that labels can have: enums only, so that nothing a job, a worker or a client says becomes a time series.

use kinora_telemetry::words;
use prometheus_client::encoding::EncodeLabelSet;

words! {
    /// How a pass of the audit or of the cleaner ended.
    PassEnd { Done = "done", Failed = "failed", Clocks = "clocks" }
}
words! {
    /// What the audit did about an entry of `active/`.
    Entry { Created = "created", Removed = "removed", Unusable = "unusable" }
}
words! {
    /// What a deletion that nobody here asked for was taken for.
    Judged { Cancel = "cancel", Loss = "loss", Nothing = "nothing", Unknown = "unknown" }
}
words! {
    /// What a redrive did about a dead letter.
    Redriven { Done = "done", Skipped = "skipped", Refused = "refused" }
}
words! {
    /// What the cleaner did about a video or a declared job that is due by its day.
    Cleaned { Deleted = "deleted", Held = "held", Left = "left", Unusable = "unusable" }
}
words! {
    /// How a video that must still be there was found by the cleaner's sample.
    Sampled { Whole = "whole", Missing = "missing" }
}

macro_rules! label_sets {
    ($($name:ident { $label:ident: $value:ty })+) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { pub(super) $label: $value })+
    };
}

label_sets! {
    Pass { outcome: PassEnd }
    OfEntry { outcome: Entry }
    Verdict { verdict: Judged }
    Letter { outcome: Redriven }
    Item { outcome: Cleaned }
    Sample { outcome: Sampled }
}
